//! Workspaces, pods and claims to plan about.

use dexorder_crds::{
    Access, Auth, AuthMode, IdleTimeoutPolicy, OperatingMode, RetentionPolicy, TierStorage, UserWorkspace,
    UserWorkspaceSpec, UserWorkspaceStatus, WorkspaceTier, WorkspaceTierSpec, keys,
};
use dexorder_protocol::control::{DrainOutcome, Report};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, PodCondition, PodStatus},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    },
    jiff::{SignedDuration, Timestamp},
};
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use crate::{
    build::Settings,
    plan::{Action, Memory, Observed, Plan, Problem, Seen, Turn, plan},
    pool::Free,
};

/// The moment at which every scene begins.
pub(crate) const START: i64 = 1_800_000_000;
pub(crate) const IDLE_SECONDS: i64 = 900;
pub(crate) const USER: &str = "trader1";

/// A workspace and everything around it, to be changed by a test before it plans.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) workspace: UserWorkspace,
    pub(crate) tier: Option<WorkspaceTier>,
    pub(crate) pod: Option<Pod>,
    pub(crate) claim: Option<PersistentVolumeClaim>,
    pub(crate) memory: Memory,
    pub(crate) member: Option<Free>,
    pub(crate) turn: Turn,
    pub(crate) now: Timestamp,
}

pub(crate) fn tier() -> WorkspaceTier {
    let spec = WorkspaceTierSpec {
        idle_timeout: IdleTimeoutPolicy { default: "15m".parse().unwrap(), most: "1h".parse().unwrap() },
        max_lifetime: None,
        access: Access::Full,
        egress: dexorder_crds::Egress::None,
        auth_modes: vec![AuthMode::Gateway],
        storage: TierStorage {
            size: Quantity("1Gi".to_owned()),
            storage_class_name: None,
            retention_policy: RetentionPolicy::Retain,
        },
        image: Some("dexorder/agent:1".to_owned()),
        resources: None,
        runtime_class_name: None,
        scheduling: None,
        warm_pool: None,
        max_concurrent_starts: None,
    };
    WorkspaceTier::new("standard", spec)
}

pub(crate) fn scene() -> Scene {
    let spec = UserWorkspaceSpec {
        user_id: USER.to_owned(),
        tier: "standard".to_owned(),
        auth: Auth { mode: AuthMode::Gateway, direct: None },
        idle_timeout: None,
        operating_mode: OperatingMode::Auto,
        wake_schedules: Vec::new(),
        storage: None,
        repository: None,
        template: None,
    };
    let mut workspace = UserWorkspace::new("w1", spec);
    workspace.metadata.uid = Some("uid-w1".to_owned());
    workspace.metadata.namespace = Some("dexorder".to_owned());
    workspace.metadata.generation = Some(1);
    Scene {
        workspace,
        tier: Some(tier()),
        pod: None,
        claim: None,
        memory: Memory::default(),
        member: None,
        turn: Turn::Go,
        now: Timestamp::from_second(START).unwrap(),
    }
}

impl Scene {
    pub(crate) fn plan(&self) -> Plan {
        let settings = Settings::default();
        let observed = Observed {
            workspace: &self.workspace,
            tier: self.tier.as_ref(),
            pod: self.pod.as_ref(),
            claim: self.claim.as_ref(),
            memory: &self.memory,
            member: self.member.as_ref(),
            turn: self.turn,
            settings: &settings,
        };
        plan(&observed, self.now)
    }

    /// Plans and takes over the status that was planned.
    pub(crate) fn step(&mut self) -> Plan {
        let plan = self.plan();
        if let Some(status) = &plan.status {
            self.workspace.status = Some(status.clone());
        }
        plan
    }

    pub(crate) fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    pub(crate) fn touch(&mut self, value: &str) -> &mut Self {
        self.workspace
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(keys::TOUCHED_AT.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn bound_claim(&mut self) -> &mut Self {
        let mut claim = PersistentVolumeClaim {
            status: Some(PersistentVolumeClaimStatus {
                phase: Some("Bound".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        claim.metadata.annotations = Some([(keys::USER_ID.to_owned(), USER.to_owned())].into());
        self.claim = Some(claim);
        self
    }

    pub(crate) fn pod(&mut self, uid: &str, ip: Option<&str>, ready: bool) -> &mut Self {
        self.pod = Some(Pod {
            metadata: ObjectMeta {
                name: Some("ws-w1".to_owned()),
                uid: Some(uid.to_owned()),
                creation_timestamp: Some(Time(self.now)),
                owner_references: Some(vec![OwnerReference {
                    api_version: "dexorder.io/v1alpha1".to_owned(),
                    kind: "UserWorkspace".to_owned(),
                    name: "w1".to_owned(),
                    uid: "uid-w1".to_owned(),
                    ..Default::default()
                }]),
                ..Default::default()
            },
            spec: None,
            status: Some(PodStatus {
                phase: Some(if ready { "Running" } else { "Pending" }.to_owned()),
                pod_ip: ip.map(str::to_owned),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".to_owned(),
                    status: if ready { "True" } else { "False" }.to_owned(),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
        });
        self
    }

    /// The kubelet no longer finds the pod ready.
    pub(super) fn probe_fails(&mut self) {
        self.pod_status().conditions = Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: Some("ContainersNotReady".to_owned()),
            ..PodCondition::default()
        }]);
    }

    /// What was read of the pod's events.
    pub(super) fn events_tell(&mut self, what: Option<Problem>) {
        self.memory.pod_uid = self.pod.as_ref().and_then(|pod| pod.metadata.uid.clone());
        self.memory.trouble = Some(Seen { at: self.now, what });
    }

    pub(crate) fn pod_terminates(&mut self) -> &mut Self {
        if let Some(pod) = &mut self.pod {
            pod.metadata.deletion_timestamp = Some(Time(self.now));
        }
        self
    }

    pub(crate) fn pod_status(&mut self) -> &mut PodStatus {
        self.pod.as_mut().unwrap().status.as_mut().unwrap()
    }

    /// A workspace that has become ready on pod `p1`.
    pub(crate) fn running() -> Self {
        let mut scene = scene();
        scene.bound_claim().step();
        scene.pod("p1", Some("10.0.0.1"), true).report(0, START).step();
        scene.memory = Memory::default();
        scene
    }

    /// A workspace that was stopped for idleness.
    pub(crate) fn suspended() -> Self {
        let mut scene = Self::running();
        scene.wait(IDLE_SECONDS);
        scene.report(0, START);
        scene.step();
        scene.memory.drain = Some(Seen { at: scene.now, what: crate::plan::Drain::Done(drained()) });
        scene.step();
        scene.pod_terminates().step();
        scene.pod = None;
        scene.step();
        scene
    }

    /// The sidecar of pod `p1` was asked just now.
    pub(crate) fn report(&mut self, in_flight: u32, last_activity: i64) -> &mut Self {
        self.memory.pod_uid = Some("p1".to_owned());
        self.memory.report = Some(Seen {
            at: self.now,
            what: Report {
                in_flight,
                ..quiet_report(
                    Timestamp::from_second(START).unwrap(),
                    Timestamp::from_second(last_activity).unwrap(),
                )
            },
        });
        self
    }

    pub(crate) fn status(&self) -> UserWorkspaceStatus {
        self.workspace.status.clone().unwrap_or_default()
    }

    pub(crate) fn message(&self, type_: &str) -> String {
        let conditions = self.status().conditions;
        conditions.into_iter().find(|one| one.type_ == type_).map(|one| one.message).unwrap_or_default()
    }

    /// Status and reason of a condition, such as `True/Ready`.
    pub(crate) fn condition(&self, type_: &str) -> String {
        self.status()
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .map_or_else(String::new, |condition| format!("{}/{}", condition.status, condition.reason))
    }
}

/// What a sidecar says whose agent answers and does nothing.
pub(crate) fn quiet_report(start_time: Timestamp, last_activity_time: Timestamp) -> Report {
    Report {
        start_time,
        last_activity_time,
        in_flight: 0,
        open_streams: 0,
        busy: Vec::new(),
        agent_ready: true,
        agent_ready_time: None,
        first_answer_time: Some(start_time),
        draining: false,
        saved_commit: None,
        workspace_uid: None,
        public_key: None,
        key_rotation: None,
    }
}

/// The same histories in each run, so that a failure is a change's own. Others by `HISTORY_SEED`, more by
/// `PROPTEST_CASES`.
pub(crate) fn histories(cases: u32) -> ProptestConfig {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: number("PROPTEST_CASES").unwrap_or(cases),
        rng_seed: RngSeed::Fixed(number("HISTORY_SEED").unwrap_or(1).into()),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn drained() -> DrainOutcome {
    DrainOutcome {
        drained: true,
        reason: None,
        report: None,
        saved_commit: Some("c0ffee".to_owned()),
        clean: true,
        remote: None,
        cancelled: 0,
        error: None,
    }
}

/// The actions of a plan by name, in order.
pub(crate) fn names(plan: &Plan) -> Vec<&'static str> {
    plan.first
        .iter()
        .chain(&plan.then)
        .map(|action| match action {
            Action::CreateClaim(_) => "CreateClaim",
            Action::SetClaimOwners(_) => "SetClaimOwners",
            Action::MarkClaim(_) => "MarkClaim",
            Action::CreatePod { .. } => "CreatePod",
            Action::TakeOver { .. } => "TakeOver",
            Action::TakePod { .. } => "TakePod",
            Action::Assign { .. } => "Assign",
            Action::Line { .. } => "Line",
            Action::DeleteWorkspace => "DeleteWorkspace",
            Action::ReadEvents { .. } => "ReadEvents",
            Action::Announce { .. } => "Announce",
            Action::RotateKey { .. } => "RotateKey",
            Action::DeletePod { .. } => "DeletePod",
            Action::Ask { .. } => "Ask",
            Action::Drain { .. } => "Drain",
        })
        .collect()
}
