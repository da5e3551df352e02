//! The operator's looks against an API server and sidecars that are played in memory.

mod api_server;
mod cluster;
mod fate;
mod histories;
mod keys;
mod looks;
mod objects;
mod operator;
mod sidecar;
mod warm;
mod warm_histories;
mod yard;
