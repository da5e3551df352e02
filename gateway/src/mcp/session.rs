//! Sessions of clients of the revisions before 2026-07-28. A session's identifier is sealed by the gateway and bound to
//! the user and to the workspace. It holds all that a session is: nothing is kept here, so it is good at every replica,
//! after a restart, and after the workspace was stopped. What the workspace's sidecar must know of the client to translate
//! its requests is inside, as the sidecar's own identifier, and never leaves the platform.
//!
//! A visitor's identifier has the visitor's credential before it, with a point between: clients of those revisions send
//! back the identifier and nothing else, and so come back to the same visitor.

use dexorder_protocol::mcp::REVISION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock;
use crate::refusal::Refusal;
use crate::seal::{Ring, SealError, Seals};
use crate::visitors::Visitor;

/// Carries the identifier.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// From this revision on there are no sessions, and an identifier is ignored.
const FIRST_WITHOUT_SESSIONS: &[u8] = REVISION.as_bytes();
/// The longest identifier of the workspace's own.
const MOST_OF_WORKSPACE: usize = 1024;
const FORM: u8 = 1;

/// What an identifier says.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    workspace_uid: String,
    /// The workspace's own identifier.
    own: Vec<u8>,
}

/// The session that a request belongs to.
#[derive(Debug)]
pub(super) struct Session {
    /// The identifier as the client has it.
    pub(super) id: HeaderValue,
    /// The workspace that it is bound to.
    pub(super) workspace_uid: String,
    /// Whether the workspace has an identifier of its own. One of an older version has none.
    pub(super) known_to_workspace: bool,
}

impl Content {
    /// The identifier of a session of a user in a workspace.
    fn seal(&self, user: &str, keys: &Ring) -> Result<String, SealError> {
        let uid = self.workspace_uid.as_bytes();
        let length = u8::try_from(uid.len()).map_err(|_| SealError)?;
        let text = [&[FORM, length], uid, &self.own].concat();
        keys.seal(text, user.as_bytes())
    }

    /// What an identifier says, if it was sealed by this gateway for this user.
    fn open(id: &[u8], user: &str, keys: &Ring) -> Option<Self> {
        let content = keys.open(id, user.as_bytes())?;
        let (&[FORM, length], rest) = content.split_first_chunk::<2>()? else {
            return None;
        };
        let (uid, own) = rest.split_at_checked(usize::from(length))?;
        Some(Self { workspace_uid: String::from_utf8(uid.to_vec()).ok()?, own: own.to_vec() })
    }
}

/// The identifier of a request, if its revision has sessions.
fn id_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let without = |version: &HeaderValue| version.as_bytes() >= FIRST_WITHOUT_SESSIONS;
    headers.get(SESSION_ID).filter(|_| !headers.get(PROTOCOL_VERSION).is_some_and(without))
}

/// The parts of a visitor's identifier.
fn parts(id: &[u8]) -> Option<(&[u8], &[u8])> {
    let point = id.iter().position(|byte| *byte == b'.')?;
    Some((&id[..point], &id[point + 1..]))
}

/// The visitor whose session a request belongs to.
pub(super) fn visitor(headers: &HeaderMap, keys: &Ring) -> Result<Option<Visitor>, Refusal> {
    let Some(id) = id_of(headers) else {
        return Ok(None);
    };
    let (credential, _) = parts(id.as_bytes()).ok_or(Refusal::NoSession)?;
    Visitor::open(credential, keys, clock::seconds()).map(Some).map_err(|_| Refusal::NoSession)
}

/// Takes the client's identifier out of the headers that go on, and puts the workspace's own in its place, if there is one.
/// `visits`: it is a visitor's.
pub(super) fn enter(
    headers: &mut HeaderMap,
    user: &str,
    visits: bool,
    keys: &Ring,
) -> Result<Option<Session>, Refusal> {
    let id = id_of(headers).cloned();
    headers.remove(SESSION_ID);
    let Some(id) = id else {
        return Ok(None);
    };
    let own = if visits { parts(id.as_bytes()).map(|(_, own)| own) } else { Some(id.as_bytes()) };
    let content = own.and_then(|own| Content::open(own, user, keys)).ok_or(Refusal::NoSession)?;
    let known_to_workspace = !content.own.is_empty();
    if known_to_workspace {
        let own = HeaderValue::from_bytes(&content.own).map_err(|_| Refusal::NoSession)?;
        headers.insert(SESSION_ID, own);
    }
    Ok(Some(Session { id, workspace_uid: content.workspace_uid, known_to_workspace }))
}

/// Puts the client's identifier into a response in place of the workspace's own.
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
    visitor: Option<&Visitor>,
    workspace_uid: &str,
    keys: &Seals,
) -> Result<(), SealError> {
    let own = headers.remove(SESSION_ID).map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    if own.len() > MOST_OF_WORKSPACE {
        return Err(SealError);
    }
    let mut id = Content { workspace_uid: workspace_uid.to_owned(), own }.seal(user, &keys.sessions)?;
    if let Some(visitor) = visitor {
        id = format!("{}.{id}", visitor.seal(&keys.visitors)?);
    }
    let mut value = HeaderValue::from_str(&id).map_err(|_| SealError)?;
    value.set_sensitive(true);
    headers.insert(SESSION_ID, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::mutation::{CASES, change};

    fn seals(text: &str) -> Seals {
        Seals::derive(&[text]).unwrap()
    }

    fn key(text: &str) -> Ring {
        seals(text).sessions
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn issued(user: &str, own: Option<&'static str>) -> String {
        let mut response = HeaderMap::new();
        if let Some(own) = own {
            response.insert(SESSION_ID, HeaderValue::from_static(own));
        }
        begin(&mut response, user, None, "uid-1", &seals("a")).unwrap();
        response[SESSION_ID].to_str().unwrap().to_owned()
    }

    fn entered(user: &str, id: &str, keys: &Ring) -> Result<Option<Session>, Refusal> {
        enter(&mut headers(&[("mcp-session-id", id)]), user, false, keys)
    }

    #[test]
    fn a_session_is_known_again_by_another_process_with_the_same_key() {
        let id = issued("trader1", None);
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        let session = entered("trader1", &id, &key("a")).unwrap().unwrap();
        assert_eq!((session.workspace_uid.as_str(), session.known_to_workspace), ("uid-1", false));
        assert_ne!(id, issued("trader1", None));
    }

    #[test]
    fn the_workspaces_own_identifier_is_inside_and_not_to_be_read() {
        let id = issued("trader1", Some("of-the-workspace"));
        assert!(!String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(&id).unwrap()).contains("of-the"));
        let mut request = headers(&[("mcp-session-id", &id), ("mcp-protocol-version", "2025-11-25")]);
        let session = enter(&mut request, "trader1", false, &key("a")).unwrap().unwrap();
        assert!(session.known_to_workspace);
        assert_eq!(request[SESSION_ID], "of-the-workspace");
        let mut response = headers(&[("mcp-session-id", "of-the-workspace")]);
        leave(&mut response, Some(&session));
        assert_eq!(response[SESSION_ID], id);
        response = headers(&[("mcp-session-id", "of-the-workspace")]);
        leave(&mut response, None);
        assert!(response.is_empty());
    }

    #[test]
    fn an_identifier_of_another_user_or_key_and_a_changed_one_are_unknown() {
        let id = issued("trader1", None);
        let refused = |user, id: &str, keys: &Ring| {
            assert!(matches!(entered(user, id, keys), Err(Refusal::NoSession)), "{id}");
        };
        refused("trader2", &id, &key("a"));
        refused("trader1", &id, &key("b"));
        for foreign in ["", "x", "of-the-workspace", &id[1..], &"A".repeat(5000)] {
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
        assert!(enter(&mut request, "trader1", false, &key("a")).unwrap().is_none());
        assert!(!request.contains_key(SESSION_ID));
    }

    #[test]
    fn a_workspace_can_not_make_the_identifier_too_long() {
        let long = "x".repeat(MOST_OF_WORKSPACE + 1);
        assert!(begin(&mut headers(&[("mcp-session-id", &long)]), "u", None, "uid", &seals("a")).is_err());
        let mut longest = headers(&[("mcp-session-id", &long[1..])]);
        begin(&mut longest, "u", None, &"u".repeat(36), &seals("a")).unwrap();
        assert!(longest[SESSION_ID].len() <= 1536);
    }

    #[test]
    fn a_visitors_identifier_says_who_the_visitor_is() {
        let (seals, clock) = (seals("a"), clock::seconds());
        let (own, other) = (Visitor::make(clock + 60).unwrap(), Visitor::make(clock + 60).unwrap());
        let id_of = |visitor: &Visitor| {
            let mut response = HeaderMap::new();
            begin(&mut response, &visitor.user(), Some(visitor), "uid-1", &seals).unwrap();
            response[SESSION_ID].to_str().unwrap().to_owned()
        };
        let (id, of_other) = (id_of(&own), id_of(&other));
        let request = |id: &str| headers(&[("mcp-session-id", id)]);
        assert_eq!(visitor(&request(&id), &seals.visitors).unwrap().as_ref(), Some(&own));
        let entered = enter(&mut request(&id), &own.user(), true, &seals.sessions).unwrap();
        assert_eq!(entered.unwrap().workspace_uid, "uid-1");
        // The one visitor's name before the other's session.
        let mixed = format!("{}.{}", id.split_once('.').unwrap().0, of_other.split_once('.').unwrap().1);
        assert!(enter(&mut request(&mixed), &own.user(), true, &seals.sessions).is_err());
        assert!(enter(&mut request(&id), &own.user(), false, &seals.sessions).is_err());
        for foreign in ["", ".", "x.y", id.split_once('.').unwrap().1] {
            assert!(visitor(&request(foreign), &seals.visitors).is_err(), "{foreign}");
        }
        let newest = headers(&[("mcp-session-id", "any"), ("mcp-protocol-version", "2026-07-28")]);
        assert!(visitor(&newest, &seals.visitors).unwrap().is_none());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(CASES))]

        #[test]
        fn a_session_that_was_changed_anywhere_is_unknown(
            change in change(), agent in proptest::bool::ANY, visits in proptest::bool::ANY,
        ) {
            let (seals, own) = (seals("a"), Visitor::make(clock::seconds() + 60).unwrap());
            let user = if visits { own.user() } else { "trader1".to_owned() };
            let mut response = HeaderMap::new();
            if agent {
                response.insert(SESSION_ID, HeaderValue::from_static("of-the-agent"));
            }
            begin(&mut response, &user, visits.then_some(&own), "uid-1", &seals).unwrap();
            let id = response[SESSION_ID].as_bytes();
            let changed = change.of(id);
            if changed != id && let Ok(value) = HeaderValue::from_bytes(&changed) {
                let mut request = HeaderMap::from_iter([(SESSION_ID, value)]);
                let known = if visits { visitor(&request, &seals.visitors) } else { Ok(None) };
                // One of the two parts of a visitor's may still hold by itself.
                let same = known.as_ref().is_ok_and(|known| !visits || known.as_ref() == Some(&own));
                let entered = enter(&mut request, &user, visits, &seals.sessions);
                proptest::prop_assert!(!same || matches!(entered, Err(Refusal::NoSession)));
            }
        }

        #[test]
        fn what_was_not_sealed_here_is_no_session(id in "[!-~]{0,200}", user in ".{0,20}") {
            for visits in [false, true] {
                let entered = enter(&mut headers(&[("mcp-session-id", &id)]), &user, visits, &key("a"));
                proptest::prop_assert!(matches!(entered, Err(Refusal::NoSession)));
            }
            proptest::prop_assert!(visitor(&headers(&[("mcp-session-id", &id)]), &key("a")).is_err());
        }

        #[test]
        fn a_session_reads_back_as_it_was_sealed(user in ".{1,100}", uid in "[0-9a-f-]{0,36}", own in "[!-~]{0,1024}") {
            let content = Content { workspace_uid: uid, own: own.into_bytes() };
            let sealed = content.seal(&user, &key("a")).unwrap();
            proptest::prop_assert_eq!(Content::open(sealed.as_bytes(), &user, &key("a")), Some(content));
        }
    }
}
