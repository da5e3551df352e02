//! Whether a running workspace is idle: decided from what its sidecar says, never from a guess. [no client]

use dexorder_crds::condition::suspended;
use dexorder_protocol::control::{DrainMode, DrainRequest, Report};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, AlivePod, Planner, draft::seconds, memory::Memory, run::latest, schedule};

/// A sidecar that did not answer is asked again after this time.
pub(super) const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// The longest time between the announcement of a stop and the stop.
const MOST_NOTICE: SignedDuration = SignedDuration::from_secs(60);
/// While something runs, the sidecar is asked again after the idle timeout or this time, whichever is shorter.
const WORKING: SignedDuration = SignedDuration::from_secs(30);

impl Planner<'_> {
    /// Asks at the deadline, and begins the stop if the answer leaves no doubt.
    pub(super) fn watch_idleness(&mut self, pod: &AlivePod, memory: &Memory) {
        let Some(timeout) =
            self.verdict.terms.as_ref().and_then(|terms| SignedDuration::try_from(terms.idle_timeout).ok())
        else {
            // Without its tier nobody can say how long the workspace may idle: it stays.
            self.draft.status.idle_deadline_time = None;
            return;
        };
        let last = self.last_activity(memory);
        let due = due(last, timeout, memory).max(self.keep_awake_until().unwrap_or(Timestamp::MIN));
        let announce = announcement(due, timeout, memory);
        if self.now < announce {
            self.show_deadline(last, due);
            self.look_by(announce);
            return;
        }
        if self.touch() != self.draft.status.observed_touch {
            // Somebody has just asked for it: that counts as activity.
            self.draft.status.observed_touch = self.touch();
            self.draft.status.last_activity_time = Some(seconds(self.now));
            self.draft.status.idle_deadline_time = Some(seconds(self.now + timeout));
            self.look_by(announcement(self.now + timeout, timeout, memory));
            return;
        }
        match &memory.report {
            Some(report) if report.at >= due && !works(&report.what) => self.stop_idle(pod, &report.what),
            Some(report) if self.now < due && report.at >= announce && !works(&report.what) => {
                self.show_deadline(last, due);
                self.announce(pod, memory, last, due);
                return;
            }
            _ => self.ask(pod, memory),
        }
        if self.then.is_empty() {
            return;
        }
        // Asked within this look: the plan that follows the answer sets the next look.
        self.look_by(self.now + ASK_AGAIN);
    }

    /// Tells whoever works with it that the workspace is about to stop, once for each deadline.
    fn announce(&mut self, pod: &AlivePod, memory: &Memory, last: Timestamp, due: Timestamp) {
        self.look_by(due);
        if memory.announced == Some(due) {
            return;
        }
        if let Some(ip) = pod.ip.clone() {
            self.first.push(Action::Announce {
                pod_uid: pod.uid.clone(),
                ip,
                deadline: due,
                message: format!(
                    "idle since {}: it is saved and stopped at {} unless it is used before; the next request starts it again",
                    seconds(last).0,
                    seconds(due).0
                ),
            });
        }
    }

    /// Whether the stop that has just ended was announced.
    pub(super) fn was_announced(&self) -> bool {
        self.observed.memory.about(self.before.pod_uid.as_deref()).announced.is_some()
            && self.draft.status.suspend_reason.as_deref() == Some(suspended::IDLE)
    }

    /// What somebody asked for by annotation. A text that is no time keeps nothing awake; `Accepted` says so.
    fn keep_awake_until(&self) -> Option<Timestamp> {
        super::accept::keep_awake_until(self.observed.workspace)?.ok()
    }

    fn last_activity(&self, memory: &Memory) -> Timestamp {
        let status = &self.draft.status;
        let told = memory
            .report
            .as_ref()
            .map(|report| if works(&report.what) { report.at } else { report.what.last_activity_time });
        let schedules = &self.observed.workspace.spec.wake_schedules;
        latest([
            schedule::previous(schedules, self.now),
            status.ready_time.as_ref().map(|time| time.0),
            status.last_activity_time.as_ref().map(|time| time.0),
            told,
        ])
        .unwrap_or(self.now)
    }

    /// The deadline in the status is renewed when it has passed, not at each look: one write a timeout at most.
    fn show_deadline(&mut self, last: Timestamp, due: Timestamp) {
        let shown = self.draft.status.idle_deadline_time.as_ref().map(|time| time.0);
        if shown.is_some_and(|shown| shown > self.now) {
            return;
        }
        self.draft.status.last_activity_time = Some(seconds(last));
        self.draft.status.idle_deadline_time = Some(seconds(due));
    }

    fn stop_idle(&mut self, pod: &AlivePod, report: &Report) {
        let Some(ip) = pod.ip.clone() else {
            return;
        };
        let touch = self.touch();
        self.draft.status.last_activity_time = Some(seconds(report.last_activity_time));
        let message = format!("idle since {}: saving and stopping", seconds(report.last_activity_time).0);
        self.draft.stopping(suspended::IDLE, touch, message);
        self.then.push(Action::Drain {
            pod_uid: pod.uid.clone(),
            ip,
            request: DrainRequest {
                mode: DrainMode::IfIdle,
                idle_since_time: Some(report.last_activity_time),
                deadline_seconds: None,
            },
        });
    }
}

/// When the sidecar is to be asked next.
fn due(last: Timestamp, timeout: SignedDuration, memory: &Memory) -> Timestamp {
    let working = memory.report.as_ref().filter(|report| works(&report.what));
    match working {
        // The end of what runs counts, and only the sidecar knows it: ask before a whole timeout has passed.
        Some(report) => report.at + timeout.min(WORKING),
        None => last + timeout,
    }
}

/// When the stop at a deadline is announced, if nothing runs: a fifth of the timeout before, and a minute at most.
fn announcement(due: Timestamp, timeout: SignedDuration, memory: &Memory) -> Timestamp {
    let working = memory.report.as_ref().is_some_and(|report| works(&report.what));
    if working { due } else { due - (timeout / 5).min(MOST_NOTICE) }
}

/// Whether something runs in the workspace.
pub(super) fn works(report: &Report) -> bool {
    report.in_flight > 0 || !report.busy.is_empty()
}
