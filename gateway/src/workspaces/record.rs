//! What the gateway keeps of a `UserWorkspace`: the few fields that routing needs.

use std::net::SocketAddr;

use dexorder_crds::condition::ConditionType;
use dexorder_crds::{AuthMode, OperatingMode, UserWorkspace, keys};
use dexorder_protocol::identity::VISITOR_PREFIX;
use http::Uri;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// One workspace, trimmed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workspace {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) user: String,
    pub(crate) tier: String,
    pub(crate) auth: AuthMode,
    pub(crate) created: Timestamp,
    pub(crate) deleting: bool,
    pub(crate) mode: OperatingMode,
    pub(crate) generation: i64,
    pub(crate) resource_version: String,
    pub(crate) touched: Option<String>,
    pub(crate) observed_generation: i64,
    pub(crate) observed_touch: Option<String>,
    pub(crate) accepted: Option<State>,
    pub(crate) storage: Option<State>,
    pub(crate) ready: Option<State>,
    /// Its place in the line of starts.
    pub(crate) queue_position: Option<i32>,
    pub(crate) pod_uid: Option<String>,
    pub(crate) endpoint: Option<Endpoint>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) holds: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Where a sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    pub(crate) address: SocketAddr,
}

impl Workspace {
    /// Trims a resource. `None` if it lacks what every stored resource has.
    pub(crate) fn of(resource: UserWorkspace) -> Option<Self> {
        let UserWorkspace { metadata, spec, status } = resource;
        let status = status.unwrap_or_default();
        let condition = |kind: ConditionType| {
            status.conditions.iter().find(|condition| condition.type_ == kind.as_str()).map(State::of)
        };
        Some(Self {
            name: metadata.name?,
            uid: metadata.uid?,
            user: spec.user_id,
            tier: spec.tier,
            auth: spec.auth.mode,
            created: metadata.creation_timestamp.map(|time| time.0).unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            mode: spec.operating_mode,
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            touched: metadata.annotations.and_then(|mut all| all.remove(keys::TOUCHED_AT)),
            observed_generation: status.observed_generation.unwrap_or_default(),
            accepted: condition(ConditionType::Accepted),
            storage: condition(ConditionType::StorageReady),
            ready: condition(ConditionType::Ready),
            observed_touch: status.observed_touch,
            queue_position: status.queue_position,
            pod_uid: status.pod_uid,
            endpoint: status.endpoint.as_deref().and_then(Endpoint::parse),
        })
    }

    /// Whether it belongs to an anonymous visitor.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.user.starts_with(VISITOR_PREFIX)
    }

    /// Whether this is an earlier state of the same resource than the other: API servers number them upwards.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        match (self.version(), other.version()) {
            (Some(own), Some(others)) => self.uid == other.uid && own < others,
            _ => false,
        }
    }

    /// Resource versions of one kind of object can be compared as numbers (KEP-5504).
    pub(crate) fn version(&self) -> Option<u64> {
        self.resource_version.parse().ok()
    }
}

impl State {
    fn of(condition: &Condition) -> Self {
        Self {
            holds: condition.status == "True",
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }
}

impl Endpoint {
    /// Reads `http://ADDRESS:PORT/PATH`. Names are not looked up: the operator writes the pod's own address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
        let address = authority.as_str().parse().ok()?;
        Some(Self { uri, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_not_a_name() {
        let endpoint = Endpoint::parse("http://10.1.2.3:8080/mcp").unwrap();
        assert_eq!(endpoint.address, "10.1.2.3:8080".parse().unwrap());
        assert!(Endpoint::parse("http://[fd00::1]:8080/mcp").is_some());
        for text in [
            "",
            "10.1.2.3:8080",
            "https://10.1.2.3:8080/mcp",
            "http://pod.local:8080/mcp",
            "http://10.1.2.3/mcp",
        ] {
            assert!(Endpoint::parse(text).is_none(), "{text}");
        }
    }
}
