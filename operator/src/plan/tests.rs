//! The plan as a table: what is observed on the left, what is done on the right.

mod answers;
mod clocks;
mod failures;
pub(crate) mod fixtures;
mod histories;
mod idleness;
mod model;
mod starting;
mod stopping;
mod succession;
mod terms;
mod tiers;
