//! Pools to plan about.

use std::{collections::HashSet, sync::Arc};

use dexorder_crds::{AuthMode, WarmPool, WorkspaceTier, keys};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use crate::{
    build::{self, Settings},
    plan::{Terms, tests::fixtures::tier},
    pool::{Action, Observed, Plan, Wanted, plan},
    watch::{trim_claim, trim_pod},
};

pub(super) const NAMESPACE: &str = "dexorder";
pub(super) const TIER: &str = "standard";

/// A pool as a look finds it.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) tier: Option<WorkspaceTier>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) claims: Vec<Arc<PersistentVolumeClaim>>,
    pub(super) fresh: HashSet<u32>,
    pub(super) room: usize,
    pub(super) workspaces: HashSet<String>,
    pub(super) settings: Settings,
    pub(super) versions: u64,
}

pub(super) fn scene(size: i32) -> Scene {
    let mut tier = tier();
    tier.spec.warm_pool = Some(WarmPool { size });
    Scene {
        tier: Some(tier),
        pods: Vec::new(),
        claims: Vec::new(),
        fresh: HashSet::new(),
        room: 10,
        workspaces: HashSet::new(),
        settings: Settings::default(),
        versions: 0,
    }
}

impl Scene {
    pub(super) fn size(&self) -> usize {
        let pool = self.tier.as_ref().and_then(|tier| tier.spec.warm_pool.as_ref());
        pool.map_or(0, |pool| usize::try_from(pool.size).unwrap())
    }

    pub(super) fn plan(&self) -> Plan {
        let terms: Option<(AuthMode, Terms)> =
            self.tier.as_ref().and_then(|tier| build::member_terms(&tier.spec));
        let wanted = self.tier.as_ref().zip(terms.as_ref()).map(|(tier, (mode, terms))| Wanted {
            size: self.size(),
            tier,
            mode: *mode,
            terms,
        });
        plan(&Observed {
            namespace: NAMESPACE,
            tier: TIER,
            operator: None,
            wanted,
            settings: &self.settings,
            pods: &self.pods,
            claims: &self.claims,
            fresh: &self.fresh,
            room: self.room,
            takes: &|name, _| self.workspaces.contains(name),
        })
    }

    pub(super) fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    /// Makes what is to be made, as the API server and the watches have it afterwards.
    pub(super) fn create(&mut self, action: Action) {
        let Action::Create { number: _, mut claim, mut pod } = action else { panic!("{action:?}") };
        claim.metadata.uid = Some(self.version());
        claim.metadata.resource_version = Some(self.version());
        trim_claim(&mut claim);
        pod.metadata.uid = Some(self.version());
        pod.metadata.resource_version = Some(self.version());
        trim_pod(&mut pod);
        self.claims.push(Arc::new(*claim));
        self.pods.push(Arc::new(*pod));
    }

    /// Makes all that the plans ask for, and each of it ready.
    pub(super) fn filled(size: i32) -> Self {
        let mut scene = scene(size);
        while scene.pods.len() < scene.size() {
            for action in scene.plan().actions {
                scene.create(action);
            }
            for number in 0..scene.pods.len() {
                scene.change_pod(u32::try_from(number).unwrap(), |pod| set_ready(pod, true));
            }
        }
        scene
    }

    pub(super) fn change_pod(&mut self, number: u32, change: impl FnOnce(&mut Pod)) {
        let version = self.version();
        let name = keys::member_name(TIER, number);
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.name.as_ref() == Some(&name)).unwrap();
        let pod = Arc::make_mut(pod);
        change(pod);
        pod.metadata.resource_version = Some(version);
    }

    pub(super) fn change_claim(&mut self, number: u32, change: impl FnOnce(&mut PersistentVolumeClaim)) {
        let version = self.version();
        let name = keys::member_name(TIER, number);
        let claim = self.claims.iter_mut().find(|claim| claim.metadata.name.as_ref() == Some(&name)).unwrap();
        let claim = Arc::make_mut(claim);
        change(claim);
        claim.metadata.resource_version = Some(version);
    }
}

pub(super) fn set_ready(pod: &mut Pod, ready: bool) {
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        pod_ip: Some("10.0.0.1".to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
}

pub(super) fn fail(pod: &mut Pod) {
    pod.status = Some(PodStatus { phase: Some("Failed".to_owned()), ..PodStatus::default() });
}

pub(super) fn give_claim(claim: &mut PersistentVolumeClaim, workspace: &str) {
    let labels = claim.metadata.labels.get_or_insert_default();
    labels.remove(keys::POOL_LABEL);
    labels.insert(keys::WORKSPACE_LABEL.to_owned(), workspace.to_owned());
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.insert(keys::USER_ID.to_owned(), format!("user-of-{workspace}"));
}

pub(super) fn give_pod(pod: &mut Pod, workspace: &str) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.remove(keys::POOL_LABEL);
    labels.insert(keys::WORKSPACE_LABEL.to_owned(), workspace.to_owned());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(keys::ASSIGNMENT.to_owned(), "{}".to_owned());
}

pub(super) fn end(metadata: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) {
    metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
}

/// What a plan does, such as `+2` and `-0 claim pod`.
pub(super) fn told(plan: &Plan) -> Vec<String> {
    let tell = |action: &Action| match action {
        Action::Create { number, .. } => format!("+{number}"),
        Action::Delete { claim, pod } => {
            let name = claim.as_ref().or(pod.as_ref()).unwrap().name.clone();
            let (_, number) = keys::member_of(&name).unwrap();
            let parts = [claim.as_ref().map(|_| " claim"), pod.as_ref().map(|_| " pod")];
            format!("-{number}{}", parts.into_iter().flatten().collect::<String>())
        }
    };
    plan.actions.iter().map(tell).collect()
}
