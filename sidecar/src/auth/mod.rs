//! Who may do what: users at the MCP port by the workspace's auth mode, the operator at the control port.

mod gateway;
mod keys;
mod public;

pub(crate) use gateway::Vouched;
pub(crate) use keys::{IdentityKeys, KeysFileError};
pub(crate) use public::{PublicMode, SessionKeyError};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dexorder_protocol::identity::{IdentityError, OPERATOR_SUBJECT, verify};
use dexorder_protocol::{Issuer, PUBLIC_BODY_BYTES, headers};
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::OwnedSemaphorePermit;

use crate::agent::Agent;
use crate::direct::{DirectMode, UsedProof};
use crate::refusal::Refusal;

/// A user who may send this request.
pub(crate) struct Caller {
    /// The user ID, as the agent is told it.
    pub(crate) user: HeaderValue,
    /// Mode Public: the session, as the client is to send it back.
    pub(crate) session: Option<HeaderValue>,
    /// Mode Public: a place among the requests at once, until the response has ended.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// Mode Public: how long a stream may listen, which is as long as the session lasts.
    pub(crate) listens: Option<Duration>,
    /// Mode Direct: the proof that is used up.
    pub(crate) proof: Option<UsedProof>,
}

/// How users are checked: one variant for each auth mode.
pub(crate) enum Users {
    /// The gateway vouches for the user.
    Gateway {
        /// What the gateway must say.
        vouched: Vouched,
        /// The user.
        user: HeaderValue,
    },
    /// The gateway vouches that somebody is there.
    Public(Box<PublicMode>),
    /// The user proves it to the workspace itself.
    Direct(Box<DirectMode>),
}

impl Users {
    /// Finds out from a request's head who sent it.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let now = now();
        match self {
            Self::Gateway { vouched, user } => {
                vouched.check(headers, now)?;
                Ok(Caller { user: user.clone(), session: None, place: None, listens: None, proof: None })
            }
            Self::Public(mode) => mode.check(method, headers, now),
            Self::Direct(mode) => mode.check(method, headers, now),
        }
    }

    /// How much of the body must be read before the request may be let in; nothing if its head is enough.
    pub(crate) const fn body_limit(&self) -> Option<usize> {
        match self {
            Self::Gateway { .. } => None,
            Self::Public(_) => Some(PUBLIC_BODY_BYTES),
            Self::Direct(_) => Some(crate::direct::BODY_BYTES),
        }
    }

    /// Checks the body of a request whose head was found good.
    pub(crate) async fn check_body(
        &self,
        caller: &mut Caller,
        method: &Method,
        body: &[u8],
        agent: &Agent,
    ) -> Result<(), Refusal> {
        match self {
            Self::Gateway { .. } => Ok(()),
            Self::Public(mode) => mode.check_body(method, body, &caller.user, agent).await,
            Self::Direct(mode) => mode.check_body(caller, body),
        }
    }

    /// A request that was let in was not begun: what it used up may be used again.
    pub(crate) fn not_begun(&self, caller: &Caller) {
        if let (Self::Direct(mode), Some(proof)) = (self, &caller.proof) {
            mode.give_back(proof);
        }
    }

    /// Sessions of anonymous visitors.
    pub(crate) fn sessions(&self) -> usize {
        match self {
            Self::Public(mode) => mode.sessions(now()),
            Self::Gateway { .. } | Self::Direct(_) => 0,
        }
    }
}

/// Checks that the operator sent a control call.
pub(crate) fn check_operator(
    keys: &IdentityKeys,
    audience: &str,
    headers: &HeaderMap,
) -> Result<(), IdentityError> {
    let claims = verify(token(headers)?, &keys.current().keys, Issuer::Operator, audience, now())?;
    if claims.sub == OPERATOR_SUBJECT { Ok(()) } else { Err(IdentityError::Issuer) }
}

/// The one signed identity of a request. Two of them are refused: one must be a client's.
fn token(headers: &HeaderMap) -> Result<&str, IdentityError> {
    match one(headers, headers::IDENTITY) {
        Ok(value) => value.ok_or(IdentityError::Missing),
        Err(Ambiguous) => Err(IdentityError::Malformed),
    }
}

/// A header that stands there twice, or is no text.
#[derive(Debug)]
pub(crate) struct Ambiguous;

/// The value of a header that may stand there once.
pub(crate) fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Ambiguous> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Ambiguous),
        (Some(_), Some(_)) => Err(Ambiguous),
    }
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
