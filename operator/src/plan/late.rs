//! What the events of a pod say of it: of a start that takes long, and of an end without a cause. [no client]

use dexorder_crds::condition::ready;
use k8s_openapi::{
    api::core::v1::Event,
    jiff::{SignedDuration, Timestamp},
};

use super::{Action, AlivePod, ClaimState, Planner, Problem, memory::Memory};

/// A start whose containers do not run after this time is late.
const LATE: SignedDuration = SignedDuration::from_secs(15);
/// The events of a late start are read this often, at first.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// A start that is late for so long is looked after less often.
const VERY_LATE: SignedDuration = SignedDuration::from_secs(300);

impl Planner<'_> {
    /// When the pod was asked for. The API server's clock may be ahead of this one.
    pub(super) fn start_of(&self, pod: &AlivePod) -> Option<Timestamp> {
        let memory = self.observed.memory.about(Some(&pod.uid));
        let shown = || self.before.start_time.as_ref().map(|time| time.0);
        let known = match memory.start {
            Some(start) => Some(start.created),
            // It was made long before it was taken over.
            None if pod.taken && self.before.pod_uid.as_ref() == Some(&pod.uid) => shown(),
            None if pod.taken => Some(self.now),
            None => pod.created,
        };
        known.map(|created| created.min(self.now))
    }

    pub(super) fn has_trouble(&self, pod: &AlivePod) -> bool {
        let memory = self.observed.memory.about(Some(&pod.uid));
        !pod.running && memory.trouble.is_some_and(|seen| seen.what.is_some())
    }

    /// Why the containers do not run yet, if that is known. Reads the events only while a start is late.
    pub(super) fn follow_late_start(&mut self, pod: &AlivePod, memory: &Memory) -> Option<Problem> {
        let begun = self.start_of(pod).filter(|_| !pod.running)?;
        let late = begun + LATE;
        if self.now < late {
            self.look_by(late);
            return None;
        }
        let pause = if self.now < begun + VERY_LATE { READ_AGAIN } else { READ_AGAIN * 8 };
        let again = memory.trouble.as_ref().map(|seen| seen.at + pause).filter(|again| self.now < *again);
        if again.is_none() {
            self.first.push(Action::ReadEvents { pod_uid: pod.uid.clone() });
        }
        self.look_by(again.unwrap_or(self.now + pause));
        let told = memory.trouble.as_ref().and_then(|seen| seen.what.clone());
        told.or_else(|| self.claim_in_the_way(pod))
    }

    /// Why the pod ended, as far as anybody says. The status of a pod that was evicted and ended as it was asked to tells
    /// nothing; its events do. Nothing if they are to be read first.
    pub(super) fn end_of(&self, pod_uid: &str, problem: &Problem) -> Option<Problem> {
        let status = self.observed.pod.and_then(|pod| pod.status.as_ref());
        let told = status.and_then(|status| status.reason.as_ref()).is_some();
        if problem.reason != ready::POD_FAILED || told {
            return Some(problem.clone());
        }
        let memory = self.observed.memory.about(Some(pod_uid));
        let seen = memory.trouble.filter(|seen| self.now < seen.at + READ_AGAIN)?;
        Some(seen.what.filter(|what| what.reason == ready::EVICTED).unwrap_or_else(|| problem.clone()))
    }

    fn claim_in_the_way(&self, pod: &AlivePod) -> Option<Problem> {
        let waits = !pod.scheduled && self.claim == ClaimState::Pending;
        waits.then(|| {
            let name = self.claim_name();
            Problem {
                reason: ready::STORAGE_NOT_READY,
                message: format!(
                    "claim {name} waits for its volume; `kubectl describe pvc {name}` says what its storage class does about it"
                ),
            }
        })
    }
}

/// What the events of a pod say: the last one that names a cause.
pub fn trouble(events: &[Event]) -> Option<Problem> {
    let mut told: Vec<&Event> =
        events.iter().filter(|event| event.type_.as_deref() == Some("Warning")).collect();
    told.sort_by_key(|event| moment(event));
    told.into_iter().rev().find_map(cause)
}

fn moment(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.into_iter().chain(last).chain(first).max()
}

fn cause(event: &Event) -> Option<Problem> {
    let told = event.message.as_deref().unwrap_or("no message");
    match event.reason.as_deref()? {
        "FailedMount" => Some(missing_secret(told).unwrap_or_else(|| not_mounted(told))),
        "FailedAttachVolume" | "FailedMapVolume" | "VolumeResizeFailed" => Some(not_mounted(told)),
        "Evicted" => {
            Some(Problem { reason: ready::EVICTED, message: format!("the node evicted the pod: {told}") })
        }
        "FailedCreatePodSandBox" | "FailedCreatePodContainer" => Some(Problem {
            reason: ready::POD_FAILED,
            message: format!("the node can't start the pod: {told}; it goes on trying"),
        }),
        _ => None,
    }
}

fn not_mounted(told: &str) -> Problem {
    Problem {
        reason: ready::VOLUME_NOT_MOUNTED,
        message: format!("a volume of the pod is attached elsewhere or can't be mounted: {told}"),
    }
}

/// The kubelet says `secret "NAME" not found`, with or without the namespace before the name.
fn missing_secret(told: &str) -> Option<Problem> {
    let rest = told.split_once("secret \"")?.1;
    let (name, rest) = rest.split_once('"')?;
    let name = name.rsplit('/').next().unwrap_or(name);
    rest.trim_start().starts_with("not found").then(|| Problem {
        reason: ready::SECRET_NOT_FOUND,
        message: format!(
            "Secret {name}, which the manifest names, does not exist in this namespace; create it, and the start goes on"
        ),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn event(second: i64, reason: &str, message: &str) -> Event {
        Event {
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_timestamp: Some(Time(Timestamp::from_second(second).unwrap())),
            ..Event::default()
        }
    }

    #[test]
    fn the_last_event_that_names_a_cause_counts() {
        let secret = r#"MountVolume.SetUp failed for volume "repository" : secret "git" not found"#;
        let attach =
            r#"Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node"#;
        let told = |events: &[Event]| trouble(events).map(|problem| (problem.reason, problem.message));
        let (reason, message) =
            told(&[event(2, "FailedMount", secret), event(1, "FailedAttachVolume", attach)]).unwrap();
        assert_eq!(reason, ready::SECRET_NOT_FOUND);
        assert!(message.contains("Secret git,"), "{message}");
        let (reason, message) =
            told(&[event(2, "FailedMount", secret), event(3, "FailedAttachVolume", attach)]).unwrap();
        assert_eq!(reason, ready::VOLUME_NOT_MOUNTED);
        assert!(message.contains("exclusively attached"), "{message}");
        assert_eq!(told(&[event(1, "BackOff", "x"), Event::default()]), None);
        let (reason, _) = told(&[event(1, "FailedMount", "timed out waiting for the condition")]).unwrap();
        assert_eq!(reason, ready::VOLUME_NOT_MOUNTED);
    }
}
