//! A pod that has gone is made again: at once the first time, later each time. [no client]

use k8s_openapi::jiff::SignedDuration;

use super::Planner;

/// A workspace that was ready for this long has recovered: the count of its restarts begins anew.
const RECOVERED: SignedDuration = SignedDuration::from_secs(60);
/// The longest wait between two restarts.
const MOST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

impl Planner<'_> {
    /// Counts the restart, and tells whether its turn has come.
    pub(super) fn may_restart(&mut self) -> bool {
        let recovered = self.before.ready_time.as_ref().is_some_and(|ready| self.now - RECOVERED >= ready.0);
        let restarts = if recovered { 1 } else { self.before.restarts.unwrap_or(0).saturating_add(1) };
        let due = self.before.start_time.as_ref().map(|start| start.0.min(self.now) + backoff(restarts));
        if let Some(due) = due.filter(|due| self.now < *due) {
            self.look_by(due);
            self.forget_pod_address();
            return false;
        }
        self.draft.status.restarts = Some(restarts);
        self.forget_pod();
        true
    }
}

fn backoff(restarts: i32) -> SignedDuration {
    let exponent = u32::try_from(restarts - 2).unwrap_or(0).min(16);
    if restarts < 2 {
        SignedDuration::ZERO
    } else {
        SignedDuration::from_secs(1 << exponent).min(MOST_BACKOFF)
    }
}
