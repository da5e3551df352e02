//! The line of starts and the looks: who joins, who leaves, whose turn has come. [no client]

use dexorder_crds::{
    UserWorkspace,
    condition::{ConditionType, ready},
};
use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    context::Context,
    line::Place,
    plan::{self, PodState},
};

impl Context {
    /// The workspace wants to start since then.
    pub(crate) fn join_line(&self, workspace: &UserWorkspace, asked: Timestamp) {
        let tier = self.stores.tiers.get(&ObjectRef::new(&workspace.spec.tier));
        let limit = tier.and_then(|tier| usize::try_from(tier.spec.max_concurrent_starts?).ok());
        let admitted = self.line.join(place(workspace), asked, limit);
        self.call_up(&admitted, workspace.uid().as_deref());
    }

    /// Tells the line what a look at the workspace came to.
    pub(crate) fn settle_line(&self, workspace: &UserWorkspace, line: plan::Line) {
        let admitted = match line {
            plan::Line::Waiting => return,
            plan::Line::Starting => self.line.starts(place(workspace)),
            plan::Line::Free => self.line.leave(&workspace.uid().unwrap_or_default()),
        };
        self.call_up(&admitted, None);
        let (starting, waiting) = self.line.counts();
        self.metrics.line(starting, waiting);
    }

    /// Builds the line anew after a restart: first what starts, then who waits.
    pub(crate) fn seed_line(&self) {
        let workspaces = self.stores.workspaces.state();
        for workspace in &workspaces {
            let pod = self.pod_of(workspace, self.claim_of(workspace).as_deref());
            if let PodState::Alive(pod) = PodState::of(pod.as_deref(), workspace)
                && !pod.ready
            {
                self.settle_line(workspace, plan::Line::Starting);
            }
        }
        for workspace in &workspaces {
            if let Some(asked) = waits_since(workspace) {
                self.join_line(workspace, asked);
            }
        }
    }

    /// Takes workspaces out of the line that are gone.
    pub(crate) fn tidy_line(&self) {
        let admitted = self.line.retain(|place| {
            let stored = self.stores.workspaces.get(&object(place));
            stored.and_then(|stored| stored.uid()).as_deref() == Some(&place.uid)
        });
        self.call_up(&admitted, None);
    }

    /// Has those looked at that wait in that tier and could take a member over instead.
    pub(crate) fn call_up_for_members(&self, tier: &str, members: usize) {
        self.call_up(&self.line.first(tier, members), None);
    }

    /// Has the workspaces looked at whose turn has come; the one that is being looked at needs no call.
    fn call_up(&self, admitted: &[Place], present: Option<&str>) {
        for place in admitted.iter().filter(|place| present != Some(place.uid.as_str())) {
            if let Err(error) = self.turns.try_send(object(place)) {
                tracing::debug!(%error, workspace = %place.name, "not called up: it looks by itself");
            }
        }
    }
}

fn place(workspace: &UserWorkspace) -> Place {
    Place {
        uid: workspace.uid().unwrap_or_default(),
        namespace: workspace.namespace().unwrap_or_default(),
        name: workspace.name_any(),
        tier: workspace.spec.tier.clone(),
    }
}

fn object(place: &Place) -> ObjectRef<UserWorkspace> {
    ObjectRef::new(&place.name).within(&place.namespace)
}

/// Since when the workspace waits for its turn, as its status says.
fn waits_since(workspace: &UserWorkspace) -> Option<Timestamp> {
    let status = workspace.status.as_ref()?;
    let waits = status.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::Ready.as_str() && condition.reason == ready::QUEUED
    });
    let asked = status.start.as_ref()?.request_time.as_ref()?;
    waits.then_some(asked.0)
}
