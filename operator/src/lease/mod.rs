//! Leader election by a Lease: one replica acts, the others wait. [client]
//!
//! Every write carries the resource version that the decision was made from, so that of two candidates for an
//! expired lease one is refused.

mod evaluate;

use std::time::{Duration, Instant};

use evaluate::{Decision, Sighting, evaluate};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

/// Name of the Lease.
const NAME: &str = "dexorder-operator";
/// A lease that was not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long ends: sooner than another may take over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(3);
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Why the lease was not had or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server refused.
    #[error("failed to read or write Lease {NAME}: the operator needs get, create and update on it")]
    Api(#[source] Box<kube::Error>),
    /// The API server did not answer.
    #[error("no answer about Lease {NAME} within {CALL_TIMEOUT:?}")]
    Timeout,
    /// Another replica took over, or the lease could not be renewed in time.
    #[error("this replica no longer leads")]
    Lost,
}

/// A candidate for the lease.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    sighting: Option<Sighting>,
}

impl Election {
    /// A candidate of that name, in that namespace.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, sighting: None }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self) {
        loop {
            match self.step().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no lease yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews until the lease is lost.
    pub async fn keep(&mut self) -> LeaseError {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY).await;
            match self.step().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return LeaseError::Lost,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease was not renewed");
                }
            }
            if renewed.elapsed() > RENEW_DEADLINE {
                return LeaseError::Lost;
            }
        }
    }

    /// Gives the lease up, so that the next replica need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.call(self.leases.get_opt(NAME)).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            let _ = self.call(self.leases.replace(NAME, &PostParams::default(), &lease)).await;
        }
    }

    /// One try; tells whether this replica leads.
    async fn step(&mut self) -> Result<bool, LeaseError> {
        let present = self.call(self.leases.get_opt(NAME)).await?;
        let (decision, sighting) =
            evaluate(present.as_ref(), &self.identity, self.sighting.take(), Instant::now());
        self.sighting = sighting;
        match (decision, present) {
            (Decision::Wait, _) => Ok(false),
            (Decision::Create, _) | (_, None) => {
                let lease = self.lease(None, 0);
                self.written(self.call(self.leases.create(&PostParams::default(), &lease)).await)
            }
            (Decision::Renew | Decision::TakeOver, Some(present)) => {
                let takes_over = decision == Decision::TakeOver;
                let transitions = present.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                let mut lease = self.lease(Some(present.metadata), transitions + i32::from(takes_over));
                if let (false, Some(spec)) = (takes_over, lease.spec.as_mut()) {
                    spec.acquire_time = present.spec.and_then(|before| before.acquire_time);
                }
                self.written(self.call(self.leases.replace(NAME, &PostParams::default(), &lease)).await)
            }
        }
    }

    /// Somebody else wrote first: no error, and not led.
    fn written(&self, result: Result<Lease, LeaseError>) -> Result<bool, LeaseError> {
        match result {
            Ok(_) => Ok(true),
            Err(LeaseError::Api(error)) if matches!(error.as_ref(), kube::Error::Api(status) if status.code == 409) =>
            {
                tracing::info!(identity = %self.identity, "another replica wrote the lease first");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn lease(&self, metadata: Option<ObjectMeta>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let metadata =
            metadata.unwrap_or_else(|| ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() });
        Lease {
            metadata: ObjectMeta { managed_fields: None, ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
        tokio::time::timeout(CALL_TIMEOUT, call)
            .await
            .map_err(|_| LeaseError::Timeout)?
            .map_err(|error| LeaseError::Api(Box::new(error)))
    }
}
