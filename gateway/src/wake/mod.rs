//! From a user or a workspace's name to a pod that answers: finds or creates the workspace, wakes it, and waits until
//! its sidecar takes connections. However many requests wait for one workspace, one connect runs.

mod decision;
mod dial;
mod flights;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dexorder_crds::condition::ready;
use dexorder_protocol::identity::VISITOR_PREFIX;
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use decision::{Obstacle, Pod, Trouble};
pub(crate) use dial::CONNECT_TIMEOUT;

use crate::limits::Limits;
use crate::metrics::{Metrics, WakeResult, WriteKind};
use crate::refusal::Refusal;
use crate::workspaces::{ApiError, Created, Target, Workspace, Workspaces};
use decision::{Decision, decide, is_stopped, touch_is_pending};
use flights::Flights;

/// How often a write is tried while the API server is not available.
const WRITE_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A request whose workspace is about to come up is worth another try after so many seconds.
const SOON: u16 = 2;
/// However long the line of starts is, another try is worth while after so many seconds.
const LATE: u16 = 60;
/// What a line of starts gets through at least, on nodes that are not too small for it.
const STARTS_A_SECOND: i32 = 4;

/// What a request wants of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To have something done: wakes a stopped workspace.
    Work,
    /// To hear of what happens: a stopped workspace stays stopped, or an open client would keep it awake for ever.
    Listen,
}

/// Who wants a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Which one.
    pub(crate) target: Target,
    /// Where the request comes from.
    pub(crate) from: IpAddr,
    /// Whether the gateway knows a user behind it. If not, starts are limited.
    pub(crate) known: bool,
}

/// What a request knows from its earlier tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tries {
    /// What was wrong with the last pod.
    trouble: Option<Trouble>,
    /// The same was wrong before: it was answered with a touch already.
    again: bool,
}

impl Tries {
    /// Notes what was wrong. Returns whether the same was wrong the last time.
    pub(crate) fn failed(&mut self, trouble: Trouble) -> bool {
        self.again = self.trouble.as_ref() == Some(&trouble);
        self.trouble = Some(trouble);
        self.again
    }
}

type Outcome = Result<Pod, Refusal>;

/// Finds pods.
pub(crate) struct Connector {
    inner: Arc<Inner>,
    flights: Flights<(Target, Tries), Outcome>,
}

struct Inner {
    workspaces: Arc<Workspaces>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
}

impl Connector {
    pub(crate) fn new(workspaces: Arc<Workspaces>, limits: Arc<Limits>, metrics: Arc<Metrics>) -> Self {
        Self { inner: Arc::new(Inner { workspaces, limits, metrics }), flights: Flights::new() }
    }

    /// A pod of the workspace that takes connections, by the deadline.
    pub(crate) async fn connect(
        &self,
        caller: &Caller,
        tries: &Tries,
        purpose: Purpose,
        deadline: Instant,
    ) -> Outcome {
        let target = &caller.target;
        let current = self.inner.workspaces.current(target);
        match decide(current.as_deref(), tries.trouble.as_ref(), tries.again) {
            Decision::Use(pod) => return Ok(pod),
            Decision::Create | Decision::Touch(_) if purpose == Purpose::Listen => {
                return Err(Refusal::NotAwake);
            }
            _ => {}
        }
        let _held = self.inner.metrics.hold();
        let flight = self.flights.join(&(target.clone(), tries.clone()), || {
            let (inner, caller, tries) = (Arc::clone(&self.inner), caller.clone(), tries.clone());
            async move {
                let timer = inner.metrics.wake();
                let outcome = inner.fly(&caller, &tries).await;
                timer.end(match &outcome {
                    Ok(_) => WakeResult::Awake,
                    Err(Refusal::Obstacle(_) | Refusal::TooMany { .. } | Refusal::VisitorsFull) => {
                        WakeResult::Refused
                    }
                    Err(_) => WakeResult::Failed,
                });
                outcome
            }
        });
        timeout_at(deadline, flight).await.unwrap_or_else(|_| Err(self.inner.late(target)))
    }
}

impl Inner {
    /// Goes on until there is a pod or it is clear that there won't be one. Who waits sets the limit of time.
    async fn fly(&self, caller: &Caller, tries: &Tries) -> Outcome {
        self.workspaces.health().listed().await;
        let mut subscription = self.workspaces.subscribe(&caller.target);
        let mut touched = tries.again;
        let mut counted = false;
        let mut confirmed = false;
        loop {
            let current = subscription.borrow_and_update().clone();
            match decide(current.as_deref(), tries.trouble.as_ref(), touched) {
                Decision::Use(pod) => return Ok(pod),
                // Somebody may have removed the obstacle a moment ago: the API server is asked once, since the watch may be behind.
                Decision::Fail(obstacle) => match current {
                    Some(workspace) if !confirmed => {
                        confirmed = true;
                        if let Err(error) = self.workspaces.refresh(&workspace.name).await {
                            tracing::warn!(%error, "a refusal rests on what was known of the workspace before");
                        }
                    }
                    _ => return Err(Refusal::Obstacle(obstacle)),
                },
                Decision::Create => match &caller.target {
                    Target::User(user) => {
                        if !counted {
                            self.limits.new_workspace(caller.from, &self.metrics)?;
                            counted = true;
                        }
                        // It is in the index, and counts there, before the place is given back.
                        let _place = if user.starts_with(VISITOR_PREFIX) {
                            Some(self.workspaces.place_for_visitor().ok_or(Refusal::VisitorsFull)?)
                        } else {
                            None
                        };
                        self.create(user).await?;
                    }
                    Target::Named(_) => return Err(Refusal::NoWorkspace),
                },
                Decision::Touch(name) => {
                    if !caller.known && !touched {
                        self.limits.wake(caller.from, &name, &self.metrics)?;
                    }
                    self.touch(&name).await?;
                    touched = true;
                }
                Decision::Dial(pod) => tokio::select! {
                    () = dial::dial(pod.endpoint.address) => return Ok(pod),
                    _ = subscription.changed() => {}
                },
                Decision::Wait => {
                    // The index lives as long as this object and with it the sender.
                    let _ = subscription.changed().await;
                }
            }
        }
    }

    async fn create(&self, user: &str) -> Result<(), Refusal> {
        let created = patiently(|| self.workspaces.find_or_create(user)).await;
        if !matches!(created, Ok(Created::Found)) {
            self.metrics.wrote(WriteKind::Create, created.is_ok());
        }
        created.map(|_| ()).map_err(Refusal::Api)
    }

    async fn touch(&self, name: &str) -> Result<(), Refusal> {
        let touched = patiently(|| self.workspaces.touch(name)).await;
        self.metrics.wrote(WriteKind::Touch, touched.is_ok());
        touched.map_err(Refusal::Api)
    }

    /// The refusal of a request whose time is up: names what the workspace is doing.
    fn late(&self, target: &Target) -> Refusal {
        if let Some(problem) = self.workspaces.health().problem() {
            return Refusal::Api(ApiError::Unavailable(problem.to_owned()));
        }
        let workspace = self.workspaces.current(target);
        let (state, message) = doing(workspace.as_deref());
        Refusal::Late { state, message, seconds: workspace.as_deref().map_or(SOON, try_again) }
    }
}

/// Seconds after which a new try is worth while: who is far back in the line of starts need not come as often.
fn try_again(workspace: &Workspace) -> u16 {
    let queued = workspace.ready.as_ref().is_some_and(|ready| ready.reason == ready::QUEUED);
    let place = workspace.queue_position.filter(|_| queued).unwrap_or(0);
    u16::try_from(place / STARTS_A_SECOND).unwrap_or(u16::MAX).clamp(SOON, LATE)
}

/// What a workspace that is waited for is doing: reason and message of the condition that says best why it is not there
/// yet.
pub(crate) fn doing(workspace: Option<&Workspace>) -> (String, String) {
    let Some(workspace) = workspace else {
        return ("Missing".to_owned(), "it has not been created yet".to_owned());
    };
    let failing = [&workspace.accepted, &workspace.storage].into_iter().flatten().find(|state| !state.holds);
    let ready = workspace.ready.as_ref();
    // "Starting" says less than what it waits for.
    let vague = |reason: &str| matches!(reason, ready::PENDING | ready::STARTING | ready::STORAGE_NOT_READY);
    let state = match (ready, failing) {
        (Some(ready), Some(failing)) if vague(&ready.reason) => Some(failing),
        (Some(ready), _) => Some(ready),
        (None, failing) => failing,
    };
    match state {
        Some(state) if is_stopped(&state.reason) && touch_is_pending(workspace) => {
            (ready::STARTING.to_owned(), "its start was asked for".to_owned())
        }
        Some(state) => (state.reason.clone(), state.message.clone()),
        None => (ready::PENDING.to_owned(), "the operator has not taken it up yet".to_owned()),
    }
}

/// Tries a call again while the API server is not available.
async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(call: impl Fn() -> F) -> Result<T, ApiError> {
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        match call().await {
            Err(ApiError::Unavailable(why)) if tries < WRITE_TRIES => {
                tracing::warn!(why, tries, "a write to the cluster is tried again");
            }
            outcome => return outcome,
        }
        sleep(pause).await;
        pause *= 2;
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use dexorder_crds::condition::storage;

    use super::*;
    use crate::workspaces::testing::{state, workspace};

    #[test]
    fn who_is_far_back_in_the_line_is_told_to_come_later() {
        let queued = |place| Workspace {
            ready: Some(state(false, ready::QUEUED)),
            queue_position: Some(place),
            ..workspace("w", "u")
        };
        assert_eq!([1, 40, 10_000].map(|place| try_again(&queued(place))), [2, 10, 60]);
        assert_eq!(try_again(&Workspace { ready: Some(state(false, ready::STARTING)), ..queued(40) }), 2);
    }

    #[test]
    fn a_late_answer_names_what_it_waits_for() {
        let reason = |workspace: &Workspace| doing(Some(workspace)).0;
        assert_eq!(reason(&workspace("w", "u")), ready::PENDING);
        let stopped = Workspace { ready: Some(state(false, ready::SUSPENDED)), ..workspace("w", "u") };
        assert_eq!(reason(&stopped), ready::SUSPENDED);
        let touched = Workspace { touched: Some("now".to_owned()), ..stopped };
        assert_eq!(reason(&touched), ready::STARTING);
        let starting = Workspace { ready: Some(state(false, ready::STARTING)), ..workspace("w", "u") };
        assert_eq!(reason(&starting), ready::STARTING);
        let unbound = Workspace { storage: Some(state(false, storage::PENDING)), ..starting };
        assert_eq!(reason(&unbound), storage::PENDING);
        let failing = Workspace { ready: Some(state(false, ready::IMAGE_PULL_FAILED)), ..unbound };
        assert_eq!(
            doing(Some(&failing)),
            (ready::IMAGE_PULL_FAILED.to_owned(), "about ImagePullFailed".to_owned())
        );
    }
}
