//! Auth mode Public: anonymous sessions with a quota, and a list of what they may do.
//!
//! A session is a value that the client sends back: an identifier and an end, with a MAC under a key of this process.
//! Nothing is kept of a session until its client comes back with it, so requests without one cost no memory.

mod quota;
mod rules;
mod session;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dexorder_protocol::headers::SESSION;
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::Semaphore;

use super::{Ambiguous, Caller, Vouched, one};
use crate::activity::Kind;
use crate::agent::{Agent, ReadOnlyTools};
use crate::config::PublicConfig;
use crate::headers::kind;
use crate::refusal::{NotForVisitors, Refusal};
use quota::Quota;
use rules::Asked;
pub(crate) use session::SessionKeyError;
use session::Sessions;

/// Lets anonymous visitors in.
pub(crate) struct PublicMode {
    vouched: Vouched,
    user: HeaderValue,
    sessions: Sessions,
    lifetime: Duration,
    quota: Mutex<Quota>,
    /// Calls at once, and apart from them streams that listen: whoever keeps one open takes no call's place.
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    tools: ReadOnlyTools,
}

impl PublicMode {
    pub(crate) fn new(
        vouched: Vouched,
        user: HeaderValue,
        config: &PublicConfig,
    ) -> Result<Self, SessionKeyError> {
        Ok(Self {
            vouched,
            user,
            sessions: Sessions::new(config.session_lifetime)?,
            lifetime: config.session_lifetime,
            quota: Mutex::new(Quota::new(config, Instant::now())),
            calls: places(config.concurrent),
            streams: places(config.sessions),
            tools: ReadOnlyTools::default(),
        })
    }

    /// Finds or makes the session of a request, and takes the request from its quota.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap, now: i64) -> Result<Caller, Refusal> {
        self.vouched.check(headers, now)?;
        let sent = one(headers, SESSION).map_err(|Ambiguous| Refusal::Session)?;
        let known = sent.map(|sent| self.sessions.open(sent, now).ok_or(Refusal::Session)).transpose()?;
        let end = self.sessions.end(now);
        let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota.take(known, end, now, Instant::now()).map_err(|seconds| Refusal::TooMany { seconds })?;
        drop(quota);
        let kind = kind(method, headers);
        let places = match kind {
            Kind::Call => &self.calls,
            Kind::Listen => &self.streams,
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Refusal::TooMany { seconds: 1 })?;
        let id = match known {
            Some(id) => id,
            None => session::new_id().map_err(|_| Refusal::Unavailable("no session can be made"))?,
        };
        let session = HeaderValue::from_str(&self.sessions.seal(id, end))
            .map_err(|_| Refusal::Unavailable("no session can be made"))?;
        let listens = (kind == Kind::Listen).then_some(self.lifetime);
        Ok(Caller {
            user: self.user.clone(),
            session: Some(session),
            place: Some(place),
            listens,
            proof: None,
        })
    }

    /// Checks that what a request asks for is on the list.
    pub(super) async fn check_body(
        &self,
        method: &Method,
        body: &[u8],
        user: &HeaderValue,
        agent: &Agent,
    ) -> Result<(), Refusal> {
        // A stream that is opened, a session that is ended.
        if *method != Method::POST {
            return Ok(());
        }
        match rules::read(body)? {
            Asked::Allowed => Ok(()),
            Asked::Tool(name) if self.tools.has(&name, user, agent).await? => Ok(()),
            Asked::Tool(_) => Err(Refusal::NotForVisitors(NotForVisitors::Tool)),
            Asked::Other => Err(Refusal::NotForVisitors(NotForVisitors::Method)),
        }
    }

    /// Sessions that are kept.
    pub(super) fn sessions(&self, now: i64) -> usize {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner).sessions(now)
    }
}

fn places(number: u32) -> Arc<Semaphore> {
    let number = usize::try_from(number).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)))
}
