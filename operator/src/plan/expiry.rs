//! The end of an anonymous visitor's workspace: it is removed with its volume. [no client]

use dexorder_crds::{UserWorkspace, condition::suspended, keys};
use dexorder_protocol::identity::VISITOR_PREFIX;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, Planner, draft::seconds};

/// Whether the workspace is an anonymous visitor's. Label and user ID must both say so: what ends with it is a volume.
pub(super) fn is_anonymous(workspace: &UserWorkspace) -> bool {
    let label = workspace.metadata.labels.as_ref().and_then(|labels| labels.get(keys::ANONYMOUS_LABEL));
    label.is_some_and(|value| value == "true") && workspace.spec.user_id.starts_with(VISITOR_PREFIX)
}

impl Planner<'_> {
    /// When the workspace is to be removed. Without its tier nobody can say.
    pub(super) fn expire_time(&self) -> Option<Timestamp> {
        let workspace = self.observed.workspace;
        let lifetime = self.verdict.max_lifetime.filter(|_| is_anonymous(workspace))?;
        let created = workspace.metadata.creation_timestamp.as_ref()?;
        created.0.checked_add(SignedDuration::try_from(lifetime).ok()?).ok()
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expire_time().is_some_and(|end| end <= self.now)
    }

    /// Shows the end, and looks again then.
    pub(super) fn draft_expiry(&mut self) {
        if self.observed.tier.is_none() {
            return;
        }
        let end = self.expire_time();
        self.draft.status.expire_time = end.map(seconds);
        if let Some(end) = end.filter(|end| *end > self.now) {
            self.look_by(end);
        }
    }

    /// Nothing runs any more: the resource goes, and with it what it owns.
    pub(super) fn remove_expired(&mut self, why: &str) {
        if why == suspended::EXPIRED {
            self.then.push(Action::DeleteWorkspace);
        }
    }
}
