//! A pod that no node takes: what stands in its way. [no client]

use dexorder_crds::{condition::ready, keys};

use super::{Planner, Problem};

impl Planner<'_> {
    /// The problem of a pod as people read it. The scheduler counts nodes and names none; the claim knows the node of
    /// its volume.
    pub(super) fn told(&self, problem: &Problem) -> String {
        let node = self.volume_node().filter(|_| is_about_its_volume(problem));
        node.map_or_else(
            || problem.message.clone(),
            |node| {
                format!(
                    "{}; its volume is on node {node}: bring that node back or make room on it, and the start goes on",
                    problem.message
                )
            },
        )
    }

    fn volume_node(&self) -> Option<&str> {
        Some(self.observed.claim?.metadata.annotations.as_ref()?.get(keys::SELECTED_NODE)?.as_str())
    }
}

/// The scheduler says `volume node affinity conflict` or `didn't match PersistentVolume's node affinity`, by version.
fn is_about_its_volume(problem: &Problem) -> bool {
    let told = problem.message.to_lowercase();
    problem.reason == ready::UNSCHEDULABLE && told.contains("volume") && told.contains("node affinity")
}
