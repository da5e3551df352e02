//! The operator's looks against an API server and sidecars that are played in memory.

mod cluster;
mod histories;
mod looks;
mod operator;
mod warm;
mod yard;
