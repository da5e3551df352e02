//! Generated histories: a toy cluster in which pods start, end, vanish, sidecars are busy or silent, users touch and
//! the operator forgets everything, in any order. The rules that always hold are checked after every step.

use dexorder_crds::{OperatingMode, condition::ready};
use dexorder_protocol::control::{DrainMode, DrainOutcome, NotIdle, Report};
use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;

use super::fixtures::{IDLE_SECONDS, Scene, drained, histories, quiet_report, scene};
use crate::plan::{Action, Drain, Memory, Next, Plan, Seen, Start};

/// Something that happens around the operator.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The pod gets on: an address, then ready; a terminating one goes.
    KubeletStep,
    /// Somebody deletes the pod.
    PodDeleted,
    /// The node throws the pod out.
    PodEvicted,
    /// A user sends a request that is answered.
    Request,
    /// A user begins a call, or ends it.
    Call(bool),
    /// The gateway touches the workspace.
    Touch,
    /// The sidecar stops answering, or answers again.
    Silence(bool),
    /// The operator is started anew.
    Forget,
    /// Time passes.
    Wait(i64),
    /// Somebody changes the mode.
    Mode(OperatingMode),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::KubeletStep),
        1 => Just(Event::PodDeleted),
        1 => Just(Event::PodEvicted),
        2 => Just(Event::Request),
        2 => any::<bool>().prop_map(Event::Call),
        2 => Just(Event::Touch),
        1 => any::<bool>().prop_map(Event::Silence),
        1 => Just(Event::Forget),
        4 => prop_oneof![Just(1), Just(5), Just(60), Just(IDLE_SECONDS), Just(IDLE_SECONDS * 3)].prop_map(Event::Wait),
        1 => prop_oneof![
            Just(OperatingMode::Auto),
            Just(OperatingMode::Running),
            Just(OperatingMode::Suspended)
        ]
        .prop_map(Event::Mode),
    ]
}

/// The cluster around the operator, and what its sidecar would say.
struct World {
    scene: Scene,
    pods_made: u32,
    touches: u32,
    last_activity: i64,
    in_flight: bool,
    draining: bool,
    silent: bool,
    /// Deletions of a pod whose sidecar was not asked to drain before, though it could have been.
    undrained_deletions: u32,
}

impl World {
    fn new() -> Self {
        let scene = scene();
        let last_activity = scene.now.as_second();
        Self {
            scene,
            pods_made: 0,
            touches: 0,
            last_activity,
            in_flight: false,
            draining: false,
            silent: false,
            undrained_deletions: 0,
        }
    }

    fn happens(&mut self, event: Event) {
        let now = self.scene.now.as_second();
        match event {
            Event::KubeletStep => self.kubelet_step(),
            Event::PodDeleted => drop(self.scene.pod_terminates()),
            Event::PodEvicted => {
                if self.scene.pod.is_some() {
                    let status = self.scene.pod_status();
                    status.phase = Some("Failed".to_owned());
                    status.reason = Some("Evicted".to_owned());
                    status.conditions = None;
                }
            }
            Event::Request if self.serves() => self.last_activity = now,
            Event::Call(begins) if self.serves() || !begins => {
                self.in_flight = begins && self.serves();
                self.last_activity = now;
            }
            Event::Request | Event::Call(_) => {}
            Event::Touch => {
                self.touches += 1;
                let value = format!("t{}", self.touches);
                self.scene.touch(&value);
            }
            Event::Silence(silent) => self.silent = silent,
            Event::Forget => self.scene.memory = Memory::default(),
            Event::Wait(seconds) => drop(self.scene.wait(seconds)),
            Event::Mode(mode) => self.scene.workspace.spec.operating_mode = mode,
        }
    }

    fn serves(&self) -> bool {
        self.ready() && !self.draining && !self.silent
    }

    fn ready(&self) -> bool {
        let conditions = self.scene.pod.as_ref().and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    }

    fn kubelet_step(&mut self) {
        let Some(pod) = self.scene.pod.clone() else { return };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            self.scene.pod = None;
            self.in_flight = false;
            return;
        }
        let status = pod.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some("Failed") {
            return;
        }
        let created = pod.metadata.creation_timestamp.clone();
        let has_ip = status.pod_ip.is_some();
        self.scene.bound_claim();
        self.scene.pod(&uid, Some("10.0.0.1"), has_ip && !self.draining);
        self.scene.pod.as_mut().unwrap().metadata.creation_timestamp = created;
    }

    /// Looks until nothing more is learnt, as the reconciler does.
    fn look(&mut self) -> Next {
        for _ in 0..6 {
            let plan = self.scene.plan();
            self.check(&plan);
            let Plan { first, status, then, next, .. } = plan;
            let learnt = first.into_iter().map(|action| self.perform(action)).fold(false, |a, b| a | b);
            if let Some(status) = status {
                let running = status.conditions.iter().any(|condition| condition.reason == "Running");
                self.scene.workspace.status = Some(status);
                if running {
                    self.scene.memory.forget_stop();
                }
            }
            let learnt = then.into_iter().map(|action| self.perform(action)).fold(learnt, |a, b| a | b);
            if !learnt {
                return next;
            }
        }
        panic!("the plan does not settle: {:?}", self.scene);
    }

    fn perform(&mut self, action: Action) -> bool {
        match action {
            Action::CreateClaim(claim) => self.scene.claim = Some(*claim),
            Action::SetClaimOwners(_) | Action::MarkClaim(_) => {}
            Action::TakeOver { .. } | Action::TakePod { .. } | Action::Assign { .. } => {
                panic!("there is no pool")
            }
            Action::CreatePod { pod, kind, asked } => {
                if self.scene.pod.is_none() {
                    self.pods_made += 1;
                    let uid = format!("p{}", self.pods_made);
                    self.scene.pod(&uid, None, false);
                    self.scene.pod.as_mut().unwrap().metadata.labels = pod.metadata.labels;
                    self.scene.memory = Memory::of_start(uid, Start { kind, asked, created: self.scene.now });
                    self.draining = false;
                    self.in_flight = false;
                    self.last_activity = self.scene.now.as_second();
                }
            }
            Action::DeletePod { uid, .. } => {
                let present = self.scene.pod.as_ref().and_then(|pod| pod.metadata.uid.clone());
                if present.as_deref() == Some(uid.as_str()) {
                    if self.ready() && !self.draining && !self.silent {
                        self.undrained_deletions += 1;
                    }
                    self.scene.pod_terminates();
                }
            }
            Action::Announce { deadline, .. } => {
                self.scene.memory.announced = Some(deadline);
                return true;
            }
            Action::ReadEvents { pod_uid } => {
                self.scene.memory = self.scene.memory.about(Some(&pod_uid));
                self.scene.memory.pod_uid = Some(pod_uid);
                self.scene.memory.trouble = Some(Seen { at: self.scene.now, what: None });
                return true;
            }
            Action::Line { .. } | Action::DeleteWorkspace | Action::RotateKey { .. } => {
                panic!("nothing asks for {action:?} here")
            }
            Action::Ask { pod_uid, .. } => {
                self.scene.memory = self.scene.memory.about(Some(&pod_uid));
                self.scene.memory.pod_uid = Some(pod_uid);
                if self.silent {
                    self.scene.memory.silence = Some(Seen { at: self.scene.now, what: "silent".to_owned() });
                } else {
                    self.scene.memory.silence = None;
                    self.scene.memory.report = Some(Seen { at: self.scene.now, what: self.report() });
                }
                return true;
            }
            Action::Drain { pod_uid, request, .. } => {
                self.scene.memory = self.scene.memory.about(Some(&pod_uid));
                self.scene.memory.pod_uid = Some(pod_uid);
                self.scene.memory.drain_asked.get_or_insert(self.scene.now);
                let idle_since =
                    request.idle_since_time.map_or(i64::MAX, k8s_openapi::jiff::Timestamp::as_second);
                if self.silent {
                    let what = Drain::Unanswered("silent".to_owned());
                    self.scene.memory.drain = Some(Seen { at: self.scene.now, what });
                } else if self.draining
                    || request.mode == DrainMode::Force
                    || (!self.in_flight && self.last_activity <= idle_since)
                {
                    self.draining = true;
                    self.in_flight = false;
                    self.scene.memory.silence = None;
                    self.scene.memory.drain = Some(Seen { at: self.scene.now, what: Drain::Done(drained()) });
                } else {
                    let outcome = DrainOutcome {
                        drained: false,
                        reason: Some(NotIdle::Active),
                        report: Some(Box::new(self.report())),
                        saved_commit: None,
                        ..drained()
                    };
                    let report = outcome.report.map(|report| Seen { at: self.scene.now, what: *report });
                    self.scene.memory.report = report;
                    self.scene.memory.silence = None;
                    self.scene.memory.drain = Some(Seen { at: self.scene.now, what: Drain::Refused });
                }
                return true;
            }
        }
        false
    }

    fn report(&self) -> Report {
        Report {
            in_flight: u32::from(self.in_flight),
            draining: self.draining,
            ..quiet_report(
                self.scene.now,
                k8s_openapi::jiff::Timestamp::from_second(self.last_activity).unwrap(),
            )
        }
    }

    /// The rules that hold for every plan, whatever was observed.
    fn check(&self, plan: &Plan) {
        let status = plan.status.clone().unwrap_or_else(|| self.scene.status());
        let condition = |type_: &str| status.conditions.iter().find(|one| one.type_ == type_).cloned();
        let terminating =
            self.scene.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        let is_ready = condition("Ready").is_some_and(|ready| ready.status == "True");
        assert!(!(terminating && is_ready), "a terminating pod is reported ready");
        assert!(!(self.scene.pod.is_none() && is_ready), "ready without a pod");
        assert!(
            !(terminating && status.endpoint.is_some()),
            "the endpoint of a terminating pod is given out"
        );
        let suspended = condition("Suspended").is_some_and(|suspended| suspended.status == "True");
        assert!(!(suspended && is_ready), "suspended and ready at once");
        let creates =
            plan.first.iter().chain(&plan.then).any(|action| matches!(action, Action::CreatePod { .. }));
        assert!(!(creates && self.scene.pod.is_some()), "a second pod is made");
        for action in &plan.then {
            let drains = matches!(action, Action::Drain { request, .. } if request.mode == DrainMode::IfIdle);
            let unanswered = self.scene.memory.drain.as_ref().map(|drain| &drain.what);
            let silent = matches!(unanswered, Some(Drain::Unanswered(_)));
            assert!(!(drains && silent), "stopped for idleness on a silent sidecar");
        }
        if let Some(ready) = condition("Ready") {
            assert!(!ready.reason.is_empty() && !ready.message.is_empty());
        }
        assert!(plan.status.as_ref() != self.scene.workspace.status.as_ref(), "a write that changes nothing");
    }

    /// From here on nothing goes wrong any more, and time passes.
    fn calm(&mut self, steps: usize) {
        self.silent = false;
        self.in_flight = false;
        for _ in 0..steps {
            self.kubelet_step();
            if let Next::At(next) = self.look() {
                self.scene.now =
                    next.min(self.scene.now + SignedDuration::from_secs(300)).max(self.scene.now);
            }
        }
    }
}

proptest! {
    #![proptest_config(histories(800))]

    #[test]
    fn the_rules_hold_in_every_history_and_a_touched_workspace_becomes_ready(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut world = World::new();
        world.look();
        for event in events {
            world.happens(event);
            world.look();
        }
        prop_assert_eq!(world.undrained_deletions, 0, "a serving pod was deleted without a drain");

        world.scene.workspace.spec.operating_mode = OperatingMode::Auto;
        world.silent = false;
        world.in_flight = false;
        world.happens(Event::Touch);
        let mut became_ready = false;
        for _ in 0..40 {
            world.calm(1);
            became_ready |= world.scene.condition("Ready") == format!("True/{}", ready::READY);
        }
        prop_assert!(became_ready, "touched and never ready: {:?}", world.scene.status());
        world.calm(60);
        prop_assert_eq!(world.scene.condition("Suspended"), "True/Idle", "left alone and never stopped");
        prop_assert!(world.scene.pod.is_none());
        prop_assert!(world.scene.plan().status.is_none(), "not settled");
    }
}
