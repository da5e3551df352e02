//! The operator's looks against an API server and sidecars that are played in memory.

mod cluster;
mod histories;
mod keys;
mod looks;
mod operator;
mod warm;
mod warm_histories;
mod yard;
