//! Every field of a tier has its effect.

use dexorder_crds::{Access, Egress, RetentionPolicy, Scheduling, TierStorage, WorkspaceTierSpec};
use k8s_openapi::{
    api::core::v1::{ResourceRequirements, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};

use super::fixtures::{names, scene, tier};
use crate::plan::{Action, Plan};

type Change = fn(&mut WorkspaceTierSpec);

/// The plan of a new workspace whose tier was changed like this.
fn planned(change: Change) -> Plan {
    let mut scene = scene();
    change(&mut scene.tier.as_mut().unwrap().spec);
    let plan = scene.plan();
    assert_eq!(names(&plan), ["CreateClaim", "CreatePod"]);
    plan
}

fn scheduling(change: impl FnOnce(&mut Scheduling)) -> Scheduling {
    let mut scheduling = Scheduling::default();
    change(&mut scheduling);
    scheduling
}

#[test]
fn what_a_pod_or_a_claim_is_made_from_reaches_it() {
    // Which of the two is made differently.
    const POD: [bool; 2] = [false, true];
    const CLAIM: [bool; 2] = [true, false];
    let changes: [(&str, [bool; 2], Change); 10] = [
        ("image", POD, |spec| spec.image = Some("another:1".to_owned())),
        ("resources", POD, |spec| {
            let cpu = [("cpu".to_owned(), Quantity("7".to_owned()))].into();
            spec.resources =
                Some(ResourceRequirements { limits: Some(cpu), ..ResourceRequirements::default() });
        }),
        ("runtimeClassName", POD, |spec| spec.runtime_class_name = Some("gvisor".to_owned())),
        ("scheduling.nodeSelector", POD, |spec| {
            spec.scheduling =
                Some(scheduling(|all| drop(all.node_selector.insert("pool".to_owned(), "desk".to_owned()))));
        }),
        ("scheduling.tolerations", POD, |spec| {
            let desk = Toleration { key: Some("desk".to_owned()), ..Toleration::default() };
            spec.scheduling = Some(scheduling(|all| all.tolerations.push(desk)));
        }),
        ("scheduling.priorityClassName", POD, |spec| {
            spec.scheduling = Some(scheduling(|all| all.priority_class_name = Some("desk".to_owned())));
        }),
        ("access", POD, |spec| spec.access = Access::ReadOnly),
        ("egress", POD, |spec| spec.egress = Egress::Web),
        ("storage.size", CLAIM, |spec| spec.storage.size = Quantity("7Gi".to_owned())),
        ("storage.storageClassName", CLAIM, |spec| spec.storage.storage_class_name = Some("fast".to_owned())),
    ];
    let before = planned(|_| {});
    for (field, expected, change) in changes {
        let after = planned(change);
        let made = |plan: &Plan, index: usize| match &plan.first[index] {
            Action::CreateClaim(claim) => serde_json::to_value(claim).unwrap(),
            Action::CreatePod { pod, .. } => serde_json::to_value(pod).unwrap(),
            other => panic!("{other:?}"),
        };
        let differs = [0, 1].map(|index| made(&before, index) != made(&after, index));
        assert_eq!(differs, expected, "{field}");
    }
}

#[test]
fn the_retention_says_whose_the_claim_is() {
    for (policy, owners) in [(RetentionPolicy::Retain, 0), (RetentionPolicy::Delete, 1)] {
        let mut scene = scene();
        scene.tier.as_mut().unwrap().spec.storage.retention_policy = policy;
        let plan = scene.plan();
        let Action::CreateClaim(claim) = &plan.first[0] else { panic!("{:?}", plan.first) };
        assert_eq!(claim.metadata.owner_references.iter().flatten().count(), owners, "{policy:?}");
    }
}

/// A field that is added is to be named here with the test of its effect, or this does not compile.
#[test]
fn no_field_is_forgotten() {
    let WorkspaceTierSpec {
        // `idleness`: the deadline; `starting`: a workspace that asks for more than the most.
        idle_timeout: _,
        // `terms`: the end of a visitor's workspace.
        max_lifetime: _,
        // Above.
        access: _,
        egress: _,
        image: _,
        resources: _,
        runtime_class_name: _,
        scheduling: _,
        storage: TierStorage { size: _, storage_class_name: _, retention_policy: _ },
        // `a_condition_names` of the real-cluster tests, and `of_mode` of `succession`.
        auth_modes: _,
        // The tests of the pool, and of the line of starts.
        warm_pool: _,
        max_concurrent_starts: _,
    } = tier().spec;
}
