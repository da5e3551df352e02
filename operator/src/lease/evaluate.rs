//! Whether a candidate may take the lease: decided by how long it was seen unchanged on the local clock. [no client]
//!
//! The times in the Lease are the holder's. Two clocks may differ, so they are never compared with ours.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is none.
    Create,
    /// It is ours.
    Renew,
    /// Its holder gave it up or has not renewed it.
    TakeOver,
    /// It is another's.
    Wait,
}

/// A state of the lease and since when it has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    version: Option<String>,
    since: Instant,
}

/// Decides, and tells what to remember for the next time.
pub(super) fn evaluate(
    lease: Option<&Lease>,
    identity: &str,
    before: Option<Sighting>,
    now: Instant,
) -> (Decision, Option<Sighting>) {
    let Some(lease) = lease else {
        return (Decision::Create, None);
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let version = lease.metadata.resource_version.clone();
    match spec.holder_identity.as_deref() {
        None | Some("") => return (Decision::TakeOver, None),
        Some(holder) if holder == identity => return (Decision::Renew, None),
        Some(_) => {}
    }
    let sighting =
        before.filter(|before| before.version == version).unwrap_or(Sighting { version, since: now });
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15);
    if now.duration_since(sighting.since) > Duration::from_secs(seconds) {
        (Decision::TakeOver, Some(sighting))
    } else {
        (Decision::Wait, Some(sighting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    fn lease(holder: Option<&str>, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_missing_lease_is_made_an_own_one_renewed_a_free_one_taken() {
        let now = Instant::now();
        assert_eq!(evaluate(None, "a", None, now).0, Decision::Create);
        assert_eq!(evaluate(Some(&lease(Some("a"), "1")), "a", None, now).0, Decision::Renew);
        assert_eq!(evaluate(Some(&lease(None, "1")), "a", None, now).0, Decision::TakeOver);
    }

    #[test]
    fn anothers_lease_is_taken_only_after_it_was_seen_unchanged_for_its_duration() {
        let start = Instant::now();
        let (decision, sighting) = evaluate(Some(&lease(Some("b"), "1")), "a", None, start);
        assert_eq!(decision, Decision::Wait);
        let (decision, sighting) =
            evaluate(Some(&lease(Some("b"), "1")), "a", sighting, start + Duration::from_secs(14));
        assert_eq!(decision, Decision::Wait);
        let (decision, sighting) =
            evaluate(Some(&lease(Some("b"), "2")), "a", sighting, start + Duration::from_secs(16));
        assert_eq!(decision, Decision::Wait, "it was renewed");
        let (decision, _) =
            evaluate(Some(&lease(Some("b"), "2")), "a", sighting, start + Duration::from_secs(32));
        assert_eq!(decision, Decision::TakeOver);
    }
}
