//! Whether the pod that runs is the one that manifest and tier ask for now. [no client]

use dexorder_crds::{
    condition::{ConditionType, up_to_date},
    keys,
};
use k8s_openapi::api::core::v1::Pod;

use super::{Observed, Planner};
use crate::build;

impl Planner<'_> {
    /// Whether the pod that is there would be made differently today. None if nobody can tell.
    pub(super) fn was_changed(&self) -> Option<bool> {
        let terms = self.verdict.terms.as_ref().filter(|_| self.verdict.accepted)?;
        let Observed { workspace, tier, settings, .. } = *self.observed;
        let hash = |pod: &Pod| pod.metadata.annotations.as_ref()?.get(keys::TEMPLATE_HASH).cloned();
        let present = self.observed.pod.and_then(hash)?;
        if let Some(changed) = self.taken_was_changed(terms) {
            return Some(changed);
        }
        let claim = self.claim_name();
        let subject = build::PodFor::Workspace(workspace, &claim);
        Some(hash(&build::pod(subject, tier, terms, settings)) != Some(present))
    }

    /// Tells whether something waits for the next start. Without its terms the last word stands.
    pub(super) fn draft_up_to_date(&mut self) {
        match self.was_changed() {
            Some(false) => self.up_to_date("the pod is what manifest and tier ask for"),
            Some(true) => self.draft.set(
                ConditionType::UpToDate,
                "False",
                up_to_date::PENDING_RESTART,
                "manifest, tier or operator have changed since the pod was made: the next start takes it up"
                    .to_owned(),
            ),
            None => {}
        }
    }

    /// Nothing runs: what comes next is made from what is asked for then.
    pub(super) fn up_to_date(&mut self, message: &str) {
        self.draft.set(ConditionType::UpToDate, "True", up_to_date::UP_TO_DATE, message.to_owned());
    }
}
