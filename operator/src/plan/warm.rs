//! A new workspace that takes a member of the warm pool over, in place of a pod and a volume of its own making. [no client]

use dexorder_crds::{
    UserWorkspace,
    condition::{ConditionType, ready},
    keys,
};
use dexorder_protocol::control::Assignment;
use k8s_openapi::{api::core::v1::Pod, jiff::SignedDuration};
use kube::ResourceExt;

use super::{Action, AlivePod, ClaimState, Observed, Planner, Terms, memory::Memory, run::QUIET_START};
use crate::build;

/// A sidecar that did not take its assignment is told again after this time.
const TELL_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// A member whose sidecar has not taken its assignment for so long is given up.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);

impl Planner<'_> {
    /// Takes a member over if there is one for this workspace.
    pub(super) fn take_member(&mut self, terms: &Terms) -> bool {
        let (Some(member), Some(tier)) = (self.observed.member, self.observed.tier) else {
            return false;
        };
        let workspace = self.observed.workspace;
        // A workspace that has had a pod may have data somewhere.
        let is_new = self.claim == ClaimState::Missing && self.before.start_time.is_none();
        if !is_new || !build::fits_member(workspace, tier, terms) || self.is_outdated(&member.pod) {
            return false;
        }
        let action = Action::TakeOver {
            member: Box::new(member.clone()),
            owners: self.claim_owners(terms.retention),
            assignment: Box::new(build::assignment(workspace, terms)),
            asked: self.asked_at(),
        };
        self.first.push(action);
        self.hold_status = true;
        self.look_by(self.now + QUIET_START);
        true
    }

    /// The claim was taken over and the pod was not, or is not seen to be.
    pub(super) fn take_promised(&mut self, pod: AlivePod) {
        let Observed { workspace, tier, .. } = *self.observed;
        let terms = self.verdict.terms.clone().filter(|_| self.verdict.accepted && self.claim.usable());
        let fits = terms.zip(tier).filter(|(terms, tier)| build::fits_member(workspace, tier, terms));
        let whole = self.observed.pod.filter(|_| pod.ready && pod.ip.is_some());
        let (Some((terms, _)), Some(whole)) = (fits, whole) else {
            // The next one starts on the same volume when it is gone.
            self.first.push(Action::DeletePod { uid: pod.uid, version: pod.version });
            self.forget_pod();
            self.draft.running();
            self.draft.not_ready(
                ready::STARTING,
                "the pod of the warm pool can't be had: the workspace gets one of its own".to_owned(),
            );
            return;
        };
        self.first.push(Action::TakePod {
            pod: Box::new(whole.clone()),
            assignment: Box::new(build::assignment(workspace, &terms)),
            asked: self.asked_at(),
        });
        self.hold_status = true;
        self.look_by(self.now + QUIET_START);
    }

    /// What tells the sidecar of a pod that was taken over whom it serves.
    pub(super) fn assign(&self, pod: &AlivePod) -> Option<Action> {
        let text = self.observed.pod?.annotations().get(keys::ASSIGNMENT).filter(|_| pod.taken)?;
        let assignment: Assignment = serde_json::from_str(text).ok()?;
        let (pod_uid, ip) = (pod.uid.clone(), pod.ip.clone()?);
        Some(Action::Assign { pod_uid, ip, assignment: Box::new(assignment) })
    }

    /// The sidecar did not take its assignment yet.
    pub(super) fn wait_for_assignment(&mut self, pod: &AlivePod, memory: &Memory) {
        let told = memory.silence.as_ref().map_or("it has no address", |silence| silence.what.as_str());
        let message = format!("the pod of the warm pool does not know yet whom it serves: {told}");
        self.draft.set(ConditionType::Ready, "False", ready::STARTING, message);
        if self.start_of(pod).is_some_and(|taken| self.now >= taken + PATIENCE) {
            // Nobody has used it. The next one starts on the same volume.
            let version = pod.version.clone();
            self.then.push(Action::DeletePod { uid: pod.uid.clone(), version });
            return;
        }
        let again = memory.silence.as_ref().map_or(self.now, |silence| silence.at) + TELL_AGAIN;
        if self.now >= again {
            self.then.extend(self.assign(pod));
        }
        self.look_by(again.max(self.now + TELL_AGAIN));
    }

    /// Whether the pod that was taken over would be made differently today. None if it was not taken over.
    pub(super) fn taken_was_changed(&self, terms: &Terms) -> Option<bool> {
        let pod = self.observed.pod.filter(|pod| pod.annotations().contains_key(keys::ASSIGNMENT))?;
        let tier = self.observed.tier?;
        Some(!build::fits_member(self.observed.workspace, tier, terms) || self.is_outdated(pod))
    }

    /// Whether the pool would make the member differently today.
    fn is_outdated(&self, pod: &Pod) -> bool {
        let Observed { tier, settings, .. } = *self.observed;
        let Some((tier, (mode, terms))) =
            tier.and_then(|tier| Some((tier, build::member_terms(&tier.spec)?)))
        else {
            return true;
        };
        let member = build::Member {
            name: pod.name_any(),
            namespace: pod.namespace().unwrap_or_default(),
            tier: tier.name_any(),
            mode,
            operator: None,
        };
        let today = build::pod(build::PodFor::Member(&member), Some(tier), &terms, settings);
        let hash = |pod: &Pod| pod.annotations().get(keys::TEMPLATE_HASH).cloned();
        hash(&today) != hash(pod)
    }
}

/// Whether the claim or the pod bears this workspace's name.
pub(crate) fn bears<K: kube::Resource>(object: &K, workspace: &UserWorkspace) -> bool {
    object.labels().get(keys::WORKSPACE_LABEL) == workspace.metadata.name.as_ref()
}
