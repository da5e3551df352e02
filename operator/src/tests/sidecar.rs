//! A sidecar in memory: what it reports, and whether it drains.

use std::sync::Arc;

use dexorder_protocol::{
    Issuer, TrustedKeys,
    control::{DrainMode, DrainOutcome, DrainRequest, NotIdle, Report},
    headers::IDENTITY,
    identity::verify,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::plan::tests::fixtures::quiet_report;

/// The sidecar of the present pod.
#[derive(Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each can be so by itself")]
pub(super) struct Sidecar {
    pub(super) last_activity: Timestamp,
    pub(super) in_flight: bool,
    pub(super) draining: bool,
    pub(super) silent: bool,
    /// It does not know the path of notifications.
    pub(super) old: bool,
    /// How far its clock is ahead.
    pub(super) ahead: SignedDuration,
    /// By which it knows the operator; none: it believes everybody.
    pub(super) keys: Option<Arc<TrustedKeys>>,
}

impl Sidecar {
    /// A sidecar of the same making, for another pod.
    pub(super) fn fresh(&self, now: Timestamp) -> Self {
        let Self { old, ahead, keys, .. } = self.clone();
        Self { last_activity: now + ahead, old, ahead, keys, ..Self::default() }
    }

    pub(super) fn trusts(&self, headers: &http::HeaderMap, now: Timestamp) -> bool {
        let Some(keys) = &self.keys else { return true };
        let token = headers[IDENTITY].to_str().unwrap();
        verify(token, keys, Issuer::Operator, "uid-w1", now.as_second()).is_ok()
    }

    pub(super) fn report(&self, now: Timestamp) -> Report {
        Report {
            in_flight: self.in_flight.into(),
            draining: self.draining,
            ..quiet_report(now, self.last_activity)
        }
    }

    pub(super) fn drain(&mut self, request: &DrainRequest, now: Timestamp) -> DrainOutcome {
        let since = request.idle_since_time.unwrap_or(Timestamp::MAX);
        let active = self.in_flight || self.last_activity > since;
        let drained = self.draining || request.mode == DrainMode::Force || !active;
        if drained {
            self.draining = true;
            self.in_flight = false;
        }
        DrainOutcome {
            drained,
            reason: (!drained).then_some(NotIdle::Active),
            report: (!drained).then(|| Box::new(self.report(now))),
            saved_commit: drained.then(|| "c0ffee".to_owned()),
            clean: drained,
            remote: None,
            cancelled: 0,
            error: None,
        }
    }
}
