//! Who may do what: users at the MCP port by the workspace's auth mode, the operator at the control port.

mod gateway;
mod keys;

pub(crate) use keys::{IdentityKeys, KeysFileError};

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dexorder_protocol::identity::{IdentityError, OPERATOR_SUBJECT, verify};
use dexorder_protocol::{Issuer, headers};
use http::{HeaderMap, HeaderValue};

use crate::config::{AuthMode, Config};
use crate::refusal::Refusal;
use gateway::GatewayMode;

/// A user whose identity was verified.
pub(crate) struct Caller {
    /// The user ID, as the agent is told it.
    pub(crate) user: HeaderValue,
}

/// How users are checked: one variant for each auth mode that has a check of its own.
pub(crate) enum Users {
    /// The gateway vouches.
    Gateway(GatewayMode),
    /// This release has no check for the mode, so nobody gets in.
    NotOffered(AuthMode),
}

impl Users {
    pub(crate) fn new(config: &Config, keys: Arc<IdentityKeys>) -> Self {
        match config.auth_mode {
            AuthMode::Gateway => {
                Self::Gateway(GatewayMode::new(keys, config.workspace_uid.clone(), config.user_id.clone()))
            }
            mode @ (AuthMode::Public | AuthMode::Direct) => Self::NotOffered(mode),
        }
    }

    /// Finds out who sent a request.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match self {
            Self::Gateway(mode) => mode.check(headers, now()),
            Self::NotOffered(mode) => Err(Refusal::ModeNotOffered(*mode)),
        }
    }
}

/// Checks that the operator sent a control call.
pub(crate) fn check_operator(
    keys: &IdentityKeys,
    workspace_uid: &str,
    headers: &HeaderMap,
) -> Result<(), IdentityError> {
    let claims = verify(token(headers)?, &keys.current().keys, Issuer::Operator, workspace_uid, now())?;
    if claims.sub == OPERATOR_SUBJECT { Ok(()) } else { Err(IdentityError::Issuer) }
}

/// The one signed identity of a request. Two of them are refused: one must be a client's.
fn token(headers: &HeaderMap) -> Result<&str, IdentityError> {
    let mut values = headers.get_all(headers::IDENTITY).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(IdentityError::Missing),
        (Some(value), None) => value.to_str().map_err(|_| IdentityError::Malformed),
        (Some(_), Some(_)) => Err(IdentityError::Malformed),
    }
}

fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
