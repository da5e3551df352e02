//! The plan of the pools as tables and as generated histories.

mod fixtures;
mod histories;
mod tables;
