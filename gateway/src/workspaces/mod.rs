//! The workspaces as the cluster has them, and the two writes that the gateway makes.

mod api;
mod index;
mod name;
mod places;
mod record;
#[cfg(test)]
pub(crate) mod testing;
mod watcher;

pub(crate) use api::{ApiError, Created, Workspaces};
pub(crate) use index::Target;
pub(crate) use record::{Endpoint, State, Workspace};
