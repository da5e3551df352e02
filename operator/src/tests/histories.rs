//! Generated histories against the real executor: pods start, end and vanish, writes are refused, conflict, get lost or
//! get no answer, watches lag, the operator forgets. The rules hold after every step, and in calm weather a touched
//! workspace gets ready and one that is left alone is stopped.

use std::{sync::Arc, time::Duration};

use dexorder_crds::{OperatingMode, keys};
use dexorder_protocol::SigningKey;
use proptest::prelude::*;

use super::{
    fate::Fate,
    looks::{key, operator, ready},
    operator::Operator,
};
use crate::plan::tests::fixtures::{IDLE_SECONDS, histories, tier};

/// Something that happens around the operator.
#[derive(Clone, Copy, Debug)]
enum Event {
    Kubelet,
    DeletePod,
    Evict,
    Request,
    Call(bool),
    Touch,
    Silence(bool),
    /// The watches stop showing what changes, or show it again.
    Lag(bool),
    /// What becomes of the write after so many others.
    Write(usize, Fate),
    Wait(u64),
    Mode(OperatingMode),
    /// The operator is started anew.
    Forget,
    /// The sidecar's container ends and is started anew: what ran is cut off, a drain is remembered.
    Restart,
    /// Another operator, which takes itself for the only one, looks too: at what it saw before, or at what is.
    Rival(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let idle = u64::try_from(IDLE_SECONDS).unwrap();
    let wait = prop_oneof![Just(1), Just(5), Just(60), Just(idle), Just(3 * idle)];
    let mode =
        prop_oneof![Just(OperatingMode::Auto), Just(OperatingMode::Running), Just(OperatingMode::Suspended)];
    prop_oneof![
        6 => Just(Event::Kubelet),
        1 => Just(Event::DeletePod),
        1 => Just(Event::Evict),
        2 => Just(Event::Request),
        2 => any::<bool>().prop_map(Event::Call),
        2 => Just(Event::Touch),
        1 => any::<bool>().prop_map(Event::Silence),
        2 => any::<bool>().prop_map(Event::Lag),
        4 => (0..3_usize, Fate::any()).prop_map(|(after, fate)| Event::Write(after, fate)),
        4 => wait.prop_map(Event::Wait),
        1 => mode.prop_map(Event::Mode),
        1 => Just(Event::Forget),
        1 => Just(Event::Restart),
        3 => any::<bool>().prop_map(Event::Rival),
    ]
}

/// A history in the making.
struct History {
    operator: Operator,
    rival: Operator,
    touches: u32,
    lags: bool,
}

impl History {
    async fn happens(&mut self, event: Event) {
        let cluster = self.operator.cluster.clone();
        let now = self.operator.context.clock.now();
        match event {
            Event::Kubelet => cluster.world().kubelet(),
            Event::DeletePod => {
                let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
                cluster.world().change_pod(|pod| pod.metadata.deletion_timestamp = Some(time));
            }
            Event::Evict => cluster.world().change_pod(|pod| {
                let status = pod.status.get_or_insert_default();
                status.phase = Some("Failed".to_owned());
                status.reason = Some("Evicted".to_owned());
                status.conditions = None;
            }),
            Event::Request => {
                let mut world = cluster.world();
                if world.serves() {
                    world.sidecar.last_activity = now;
                }
            }
            Event::Call(begins) => {
                let mut world = cluster.world();
                if world.serves() || !begins {
                    world.sidecar.in_flight = begins;
                    world.sidecar.last_activity = now;
                }
            }
            Event::Touch => {
                self.touches += 1;
                let value = format!("t{}", self.touches);
                cluster.world().change_workspace(|workspace| {
                    let annotations = workspace.metadata.annotations.get_or_insert_default();
                    annotations.insert(keys::TOUCHED_AT.to_owned(), value);
                });
            }
            Event::Silence(silent) => cluster.world().sidecar.silent = silent,
            Event::Lag(lags) => self.lags = lags,
            Event::Write(after, fate) => {
                let fates = &mut cluster.world().fates;
                fates.clear();
                fates.extend(std::iter::repeat_n(None, after));
                fates.push_back(Some(fate));
            }
            Event::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
            Event::Mode(mode) => cluster.world().change_workspace(|workspace| {
                workspace.spec.operating_mode = mode;
                workspace.metadata.generation = workspace.metadata.generation.map(|before| before + 1);
            }),
            Event::Forget => self.forget(),
            Event::Restart => {
                let mut world = cluster.world();
                world.sidecar.silent = false;
                world.sidecar.in_flight = false;
            }
            Event::Rival(sees) => return self.rival.look(sees).await,
        }
        self.operator.look(!self.lags).await;
    }

    fn forget(&mut self) {
        self.operator.context.notebook.retain(|_| false);
        self.operator.sync();
    }

    /// Nothing goes wrong any more, and time passes.
    async fn calm(&mut self, steps: usize, mut done: impl FnMut(&Operator) -> bool) -> bool {
        {
            let mut world = self.operator.cluster.world();
            world.fates.clear();
            world.sidecar.silent = false;
            world.sidecar.in_flight = false;
        }
        self.lags = false;
        for _ in 0..steps {
            self.happens(Event::Kubelet).await;
            if done(&self.operator) {
                return true;
            }
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        false
    }
}

async fn play(events: Vec<Event>, key: Arc<SigningKey>) -> Result<(), TestCaseError> {
    let operator = operator(&key);
    let rival = Operator::new(operator.cluster.clone(), operator.context.clock, &tier(), &key);
    let mut history = History { operator, rival, touches: 0, lags: false };
    history.operator.look(true).await;
    for event in events {
        history.happens(event).await;
        let violations = history.operator.cluster.world().violations.clone();
        prop_assert!(violations.is_empty(), "{event:?}: {violations:?}");
    }
    history.happens(Event::Lag(false)).await;
    history.happens(Event::Mode(OperatingMode::Auto)).await;
    history.happens(Event::Touch).await;
    let is_ready =
        |operator: &Operator| ready(operator).0 == "True/Ready" && operator.cluster.world().serves();
    prop_assert!(history.calm(60, is_ready).await, "touched and never ready: {:?}", ready(&history.operator));
    let is_stopped = |operator: &Operator| ready(operator).0 == "False/Suspended";
    prop_assert!(
        history.calm(400, is_stopped).await,
        "left alone and never stopped: {:?}",
        ready(&history.operator)
    );
    let world_of = |history: &History| {
        let world = history.operator.cluster.world();
        (world.pod.is_none(), world.violations.clone(), world.writes.len())
    };
    let (gone, violations, writes) = world_of(&history);
    prop_assert!(gone, "stopped with a pod");
    prop_assert!(violations.is_empty(), "{violations:?}");
    history.calm(5, |_| false).await;
    prop_assert_eq!(world_of(&history).2, writes, "written to though nothing happens");
    Ok(())
}

proptest! {
    #![proptest_config(histories(50))]

    #[test]
    fn the_rules_hold_whatever_the_api_server_answers(events in proptest::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(events, key()))?;
    }
}
