//! Whose a claim is: the workspace's that it goes with, or nobody's; and with which auth mode it is used. [no client]

use dexorder_crds::{AuthMode, RetentionPolicy, keys};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Action, ClaimState, Planner};
use crate::build;

impl Planner<'_> {
    /// Before a workspace of auth mode Direct uses a claim, the claim says so: from then on no weaker mode may.
    pub(super) fn mark_claim(&mut self) {
        let mode = self.observed.workspace.spec.auth.mode;
        let Some(claim) = self.observed.claim.filter(|_| mode == AuthMode::Direct) else {
            return;
        };
        let marked = claim.metadata.annotations.as_ref().and_then(|all| all.get(keys::AUTH_MODE));
        if marked.is_none_or(|marked| marked != mode.as_str()) {
            self.first.push(Action::MarkClaim(mode));
        }
    }

    /// A claim is owned by the workspace if it shall go with it, and by nobody if it shall stay.
    pub(super) fn settle_claim(&mut self) {
        let Some(retention) = self.verdict.terms.as_ref().map(|terms| terms.retention) else {
            return;
        };
        if !matches!(self.claim, ClaimState::Pending | ClaimState::Bound) {
            return;
        }
        let wanted = self.claim_owners(retention);
        let present =
            self.observed.claim.and_then(|claim| claim.metadata.owner_references.clone()).unwrap_or_default();
        if present != wanted {
            self.first.push(Action::SetClaimOwners(wanted));
        }
    }

    pub(super) fn claim_owners(&self, retention: RetentionPolicy) -> Vec<OwnerReference> {
        match retention {
            RetentionPolicy::Retain => Vec::new(),
            RetentionPolicy::Delete => build::owner(self.observed.workspace).into_iter().collect(),
        }
    }
}
