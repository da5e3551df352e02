//! Sessions of clients of the revisions before 2026-07-28. A session's identifier is sealed by the gateway and bound to
//! the user and to the workspace. It holds all that a session is: nothing is kept here, so it is good at every replica,
//! after a restart, and after the workspace was stopped. If the agent keeps a session of its own, that one's identifier
//! is inside and never leaves the platform.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::refusal::Refusal;

/// Carries the identifier.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// From this revision on there are no sessions, and an identifier is ignored.
const FIRST_WITHOUT_SESSIONS: &[u8] = b"2026-07-28";
/// Longer ones are none of ours.
const MOST_CHARACTERS: usize = 1024;
/// The longest identifier of the agent's own.
const MOST_OF_AGENT: usize = 512;
const SALT: &[u8] = b"dexorder gateway session identifiers";
const FORM: u8 = 1;

/// The key is of no use, or the randomness that sealing takes is missing.
#[derive(Debug, thiserror::Error)]
#[error("session identifiers can't be sealed")]
pub(crate) struct SealError;

/// Seals and opens identifiers. Derived from the signing key, which all replicas share.
pub(crate) struct SessionKey(RandomizedNonceKey);

/// What an identifier says.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    workspace_uid: String,
    /// Identifier of the agent's own session.
    agent: Vec<u8>,
}

/// The session that a request belongs to.
#[derive(Debug)]
pub(super) struct Session {
    /// The identifier as the client has it.
    pub(super) id: HeaderValue,
    /// The workspace that it is bound to.
    pub(super) workspace_uid: String,
    /// Whether the agent keeps a session too.
    pub(super) kept_by_agent: bool,
}

impl SessionKey {
    /// The key that belongs to a signing key.
    pub(crate) fn derive(signing_key: &[u8]) -> Result<Self, SealError> {
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, SALT)
            .extract(signing_key)
            .expand(&[&[FORM]], HKDF_SHA256)
            .and_then(|material| material.fill(&mut key))
            .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &key))
            .map(Self)
            .map_err(|_| SealError)
    }

    /// The identifier of a session of a user in a workspace.
    fn seal(&self, user: &str, content: &Content) -> Result<HeaderValue, SealError> {
        let uid = content.workspace_uid.as_bytes();
        let length = u8::try_from(uid.len()).map_err(|_| SealError)?;
        let mut text = [&[FORM, length], uid, &content.agent].concat();
        let nonce = self.0.seal_in_place_append_tag(bound_to(user), &mut text).map_err(|_| SealError)?;
        let sealed = [&nonce.as_ref()[..], &text].concat();
        let mut value = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(sealed)).map_err(|_| SealError)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What an identifier says, if it was sealed by this gateway for this user.
    fn open(&self, user: &str, id: &[u8]) -> Option<Content> {
        if id.len() > MOST_CHARACTERS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let content = self.0.open_in_place(nonce, bound_to(user), &mut text).ok()?;
        let (&[FORM, length], rest) = content.split_first_chunk::<2>()? else {
            return None;
        };
        let (uid, agent) = rest.split_at_checked(usize::from(length))?;
        Some(Content { workspace_uid: String::from_utf8(uid.to_vec()).ok()?, agent: agent.to_vec() })
    }
}

fn bound_to(user: &str) -> Aad<&[u8]> {
    Aad::from(user.as_bytes())
}

/// Takes the client's identifier out of the headers that go on, and puts the agent's own in its place, if there is one.
pub(super) fn enter(
    headers: &mut HeaderMap,
    user: &str,
    key: &SessionKey,
) -> Result<Option<Session>, Refusal> {
    let Some(id) = headers.remove(SESSION_ID) else {
        return Ok(None);
    };
    if headers.get(PROTOCOL_VERSION).is_some_and(|version| version.as_bytes() >= FIRST_WITHOUT_SESSIONS) {
        return Ok(None);
    }
    let content = key.open(user, id.as_bytes()).ok_or(Refusal::NoSession)?;
    let kept_by_agent = !content.agent.is_empty();
    if kept_by_agent {
        let agent = HeaderValue::from_bytes(&content.agent).map_err(|_| Refusal::NoSession)?;
        headers.insert(SESSION_ID, agent);
    }
    Ok(Some(Session { id, workspace_uid: content.workspace_uid, kept_by_agent }))
}

/// Puts the client's identifier into a response in place of the agent's own.
pub(super) fn leave(headers: &mut HeaderMap, session: Option<&Session>) {
    let named = headers.remove(SESSION_ID).is_some();
    if let Some(session) = session.filter(|_| named) {
        headers.insert(SESSION_ID, session.id.clone());
    }
}

/// Gives the client a session: puts a new identifier into the response to `initialize`.
pub(super) fn begin(
    headers: &mut HeaderMap,
    user: &str,
    workspace_uid: &str,
    key: &SessionKey,
) -> Result<(), SealError> {
    let agent = headers.remove(SESSION_ID).map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    if agent.len() > MOST_OF_AGENT {
        return Err(SealError);
    }
    let content = Content { workspace_uid: workspace_uid.to_owned(), agent };
    headers.insert(SESSION_ID, key.seal(user, &content)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SessionKey {
        SessionKey::derive(text.as_bytes()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn issued(user: &str, agent: Option<&'static str>) -> String {
        let mut response = HeaderMap::new();
        if let Some(agent) = agent {
            response.insert(SESSION_ID, HeaderValue::from_static(agent));
        }
        begin(&mut response, user, "uid-1", &key("a")).unwrap();
        response[SESSION_ID].to_str().unwrap().to_owned()
    }

    fn entered(user: &str, id: &str, key: &SessionKey) -> Result<Option<Session>, Refusal> {
        enter(&mut headers(&[("mcp-session-id", id)]), user, key)
    }

    #[test]
    fn a_session_is_known_again_by_another_process_with_the_same_key() {
        let id = issued("trader1", None);
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        let session = entered("trader1", &id, &key("a")).unwrap().unwrap();
        assert_eq!((session.workspace_uid.as_str(), session.kept_by_agent), ("uid-1", false));
        assert_ne!(id, issued("trader1", None));
    }

    #[test]
    fn the_agents_own_identifier_is_inside_and_not_to_be_read() {
        let id = issued("trader1", Some("of-the-agent"));
        assert!(!String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(&id).unwrap()).contains("agent"));
        let mut request = headers(&[("mcp-session-id", &id), ("mcp-protocol-version", "2025-11-25")]);
        let session = enter(&mut request, "trader1", &key("a")).unwrap().unwrap();
        assert!(session.kept_by_agent);
        assert_eq!(request[SESSION_ID], "of-the-agent");
        let mut response = headers(&[("mcp-session-id", "of-the-agent")]);
        leave(&mut response, Some(&session));
        assert_eq!(response[SESSION_ID], id);
        response = headers(&[("mcp-session-id", "of-the-agent")]);
        leave(&mut response, None);
        assert!(response.is_empty());
    }

    #[test]
    fn an_identifier_of_another_user_or_key_and_a_changed_one_are_unknown() {
        let id = issued("trader1", None);
        let refused = |user, id: &str, key: &SessionKey| {
            assert!(matches!(entered(user, id, key), Err(Refusal::NoSession)), "{id}");
        };
        refused("trader2", &id, &key("a"));
        refused("trader1", &id, &key("b"));
        for foreign in ["", "x", "of-the-agent", &id[1..], &"A".repeat(5000)] {
            refused("trader1", foreign, &key("a"));
        }
        let sealed = URL_SAFE_NO_PAD.decode(&id).unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            refused("trader1", &URL_SAFE_NO_PAD.encode(changed), &key("a"));
        }
        for length in 0..sealed.len() {
            refused("trader1", &URL_SAFE_NO_PAD.encode(&sealed[..length]), &key("a"));
        }
    }

    #[test]
    fn a_revision_without_sessions_ignores_the_identifier() {
        let mut request = headers(&[("mcp-session-id", "anything"), ("mcp-protocol-version", "2026-07-28")]);
        assert!(enter(&mut request, "trader1", &key("a")).unwrap().is_none());
        assert!(!request.contains_key(SESSION_ID));
    }

    #[test]
    fn an_agent_can_not_make_the_identifier_too_long() {
        let long = "x".repeat(MOST_OF_AGENT + 1);
        assert!(begin(&mut headers(&[("mcp-session-id", &long)]), "u", "uid", &key("a")).is_err());
        let mut longest = headers(&[("mcp-session-id", &long[1..])]);
        begin(&mut longest, "u", &"u".repeat(36), &key("a")).unwrap();
        assert!(longest[SESSION_ID].len() <= MOST_CHARACTERS);
    }
}
