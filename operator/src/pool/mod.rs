//! The warm pool: started pods with fresh volumes that wait for new users.
//!
//! A member is a pod and a claim of one name. The claim is the lock: whoever gives a member away or deletes it changes
//! the claim first, provided that it is as it was seen, and goes on only if that succeeded.

mod desk;
mod keeper;
mod member;
mod plan;
#[cfg(test)]
mod tests;

pub use desk::{Desk, Scope};
pub use keeper::Keeper;
pub use member::{Free, free};
pub use plan::{Action, Observed, Plan, Target, Wanted, plan};
