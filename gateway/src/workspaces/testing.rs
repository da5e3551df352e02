//! Workspaces for tests.

use dexorder_crds::condition::accepted;
use dexorder_crds::{AuthMode, OperatingMode};

use super::record::{Endpoint, State, Workspace};

/// An accepted workspace that has no state yet.
pub(crate) fn workspace(name: &str, user: &str) -> Workspace {
    Workspace {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        user: user.to_owned(),
        tier: "standard".to_owned(),
        auth: AuthMode::Gateway,
        created: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
        mode: OperatingMode::Auto,
        generation: 1,
        resource_version: "1".to_owned(),
        touched: None,
        observed_generation: 1,
        observed_touch: None,
        accepted: Some(state(true, accepted::ACCEPTED)),
        storage: None,
        ready: None,
        queue_position: None,
        pod_uid: None,
        endpoint: None,
    }
}

pub(crate) fn state(holds: bool, reason: &str) -> State {
    State { holds, reason: reason.to_owned(), message: format!("about {reason}") }
}

pub(crate) fn endpoint() -> Endpoint {
    Endpoint::parse("http://10.0.0.1:8080/mcp").unwrap()
}
