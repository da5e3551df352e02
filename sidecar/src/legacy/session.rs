//! What a session is: all of it is in its identifier, so that it outlives this process. The gateway seals it for the
//! client and gives it back with each request; what comes back is read as anything from outside is.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::revision::Revision;
use crate::auth::one;
use crate::headers::SESSION_ID;
use crate::refusal::Refusal;

/// The longest identifier; the gateway takes no longer one.
const MOST_CHARACTERS: usize = 1024;
/// Bytes of JSON for what of a client's capabilities is kept only if it is small.
const MOST_EXTRAS: usize = 224;
/// Bytes of JSON for each of the client's name, title and version.
const MOST_OF_NAME: usize = 96;
/// Parts this form of an identifier from a later one.
const FORM: char = '1';
const NONCE_BYTES: usize = 16;
/// Bytes of the quotation marks of a JSON text.
const QUOTES: usize = 2;

/// What tells one session from another.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// The session of a request. A request without one stands alone: nobody could answer what the agent asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    pub(super) revision: Revision,
    pub(super) nonce: Option<Nonce>,
    /// The client's `clientInfo`, if it said who it is.
    pub(super) client_info: Option<Value>,
    /// The client's capabilities, an object.
    pub(super) capabilities: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    r: String,
    n: String,
    i: Map<String, Value>,
    c: Map<String, Value>,
}

/// The system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no session can be made: the system gives no randomness")]
pub(super) struct NoRandomness;

impl Session {
    /// A session of a client that introduced itself.
    pub(super) fn begin(
        revision: Revision,
        client_info: &Map<String, Value>,
        capabilities: &Map<String, Value>,
    ) -> Result<Self, NoRandomness> {
        let mut nonce = Nonce::default();
        rand::fill(&mut nonce).map_err(|_| NoRandomness)?;
        Ok(Self {
            revision,
            nonce: Some(nonce),
            client_info: Some(Value::Object(brief(client_info))),
            capabilities: Value::Object(of_newest(capabilities)),
        })
    }

    /// What a request without a session has.
    fn none(revision: Revision) -> Self {
        Self { revision, nonce: None, client_info: None, capabilities: json!({}) }
    }

    /// The session that a request names.
    pub(super) fn of_request(headers: &HeaderMap, revision: Revision) -> Result<Self, Refusal> {
        match one(headers, SESSION_ID).map_err(|_| Refusal::UnknownSession)? {
            None => Ok(Self::none(revision)),
            Some(id) => Self::open(id).ok_or(Refusal::UnknownSession),
        }
    }

    /// The identifier, if there is a session.
    pub(super) fn id(&self) -> Option<HeaderValue> {
        let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let content = Content {
            r: self.revision.as_str().to_owned(),
            n: URL_SAFE_NO_PAD.encode(self.nonce?),
            i: self.client_info.as_ref().map(object).unwrap_or_default(),
            c: object(&self.capabilities),
        };
        let text = serde_json::to_vec(&content).ok()?;
        let mut id = HeaderValue::from_str(&format!("{FORM}{}", URL_SAFE_NO_PAD.encode(text))).ok()?;
        id.set_sensitive(true);
        Some(id)
    }

    fn open(id: &str) -> Option<Self> {
        if id.len() > MOST_CHARACTERS {
            return None;
        }
        let text = URL_SAFE_NO_PAD.decode(id.strip_prefix(FORM)?).ok()?;
        let Content { r, n, i, c } = serde_json::from_slice(&text).ok()?;
        Some(Self {
            revision: Revision::parse(&r)?,
            nonce: Some(URL_SAFE_NO_PAD.decode(n).ok()?.try_into().ok()?),
            client_info: Some(Value::Object(i)),
            capabilities: Value::Object(c),
        })
    }
}

/// Name, title and version of a client, each cut to a length.
fn brief(info: &Map<String, Value>) -> Map<String, Value> {
    let cut = |text: &str| {
        let mut room = MOST_OF_NAME;
        let fits = |letter: &char| {
            let left = room.checked_sub(json!(letter).to_string().len() - QUOTES);
            room = left.unwrap_or(0);
            left.is_some()
        };
        text.chars().take_while(fits).collect::<String>()
    };
    let kept = ["name", "title", "version"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), json!(cut(info.get(name)?.as_str()?)))));
    kept.collect()
}

/// The capabilities that 2026-07-28 has too. `experimental` and `extensions` are of any size and are kept if they are
/// small: an agent that can't see them does without.
fn of_newest(capabilities: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, parts) in
        [("roots", &[][..]), ("sampling", &["context", "tools"]), ("elicitation", &["form", "url"])]
    {
        if let Some(Value::Object(declared)) = capabilities.get(name) {
            let has = |part: &&&str| declared.get(**part).is_some_and(Value::is_object);
            let parts: Map<String, Value> =
                parts.iter().filter(has).map(|part| ((*part).to_owned(), json!({}))).collect();
            kept.insert(name.to_owned(), Value::Object(parts));
        }
    }
    let mut room = MOST_EXTRAS;
    for name in ["extensions", "experimental"] {
        if let Some(declared @ Value::Object(_)) = capabilities.get(name)
            && let Some(left) = room.checked_sub(declared.to_string().len())
        {
            room = left;
            kept.insert(name.to_owned(), declared.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("no object") };
        map
    }

    fn begun(info: Value, capabilities: Value) -> Session {
        Session::begin(Revision::V2025_11_25, &object(info), &object(capabilities)).unwrap()
    }

    fn of_request(id: &str) -> Result<Session, Refusal> {
        let headers = HeaderMap::from_iter([(SESSION_ID.parse().unwrap(), id.parse().unwrap())]);
        Session::of_request(&headers, Revision::V2025_03_26)
    }

    #[test]
    fn a_session_reads_back_from_its_identifier_and_is_like_no_other() {
        let info = json!({"name": "client", "title": "Client", "version": "1.0", "icons": [{"src": "x"}]});
        let capabilities = json!({
            "roots": {"listChanged": true}, "sampling": {"tools": {}}, "elicitation": {},
            "tasks": {"list": {}}, "extensions": {"a.b/c": {"d": 1}}, "experimental": {},
        });
        let session = begun(info.clone(), capabilities.clone());
        let id = session.id().unwrap();
        assert!(id.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte)));
        assert_eq!(of_request(id.to_str().unwrap()).unwrap(), session);
        assert_eq!(session.client_info, Some(json!({"name": "client", "title": "Client", "version": "1.0"})));
        let kept = json!({
            "roots": {}, "sampling": {"tools": {}}, "elicitation": {},
            "extensions": {"a.b/c": {"d": 1}}, "experimental": {},
        });
        assert_eq!(session.capabilities, kept);
        assert_ne!(id, begun(info, capabilities).id().unwrap());
    }

    #[test]
    fn a_request_without_a_session_has_no_capabilities() {
        let session = Session::of_request(&HeaderMap::new(), Revision::V2025_06_18).unwrap();
        assert_eq!(session, Session::none(Revision::V2025_06_18));
        assert_eq!(session.id(), None);
    }

    #[test]
    fn what_is_no_session_of_this_form_is_unknown() {
        let sealed = |content: Value| format!("1{}", URL_SAFE_NO_PAD.encode(content.to_string()));
        let nonce = URL_SAFE_NO_PAD.encode(Nonce::default());
        assert!(of_request(&sealed(json!({"r": "2025-11-25", "n": nonce, "i": {}, "c": {}}))).is_ok());
        for content in [
            json!({"r": "2026-07-28", "n": nonce, "i": {}, "c": {}}),
            json!({"r": "2025-11-25", "n": "short", "i": {}, "c": {}}),
            json!({"r": "2025-11-25", "n": nonce, "i": {}, "c": []}),
            json!({"r": "2025-11-25", "n": nonce, "i": {}}),
            json!({"r": "2025-11-25", "n": nonce, "i": {}, "c": {}, "more": 1}),
            json!([]),
        ] {
            assert_eq!(of_request(&sealed(content.clone())), Err(Refusal::UnknownSession), "{content}");
        }
        let long = json!({"r": "2025-11-25", "n": nonce, "i": {"name": "x".repeat(800)}, "c": {}});
        for id in ["", "1", "2abc", "1abc", "abc", &sealed(long)] {
            assert_eq!(of_request(id), Err(Refusal::UnknownSession), "{id}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(SESSION_ID, "1abc".parse().unwrap());
        }
        assert_eq!(Session::of_request(&twice, Revision::V2025_11_25), Err(Refusal::UnknownSession));
    }

    /// Any JSON that a client could declare.
    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,60}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 40, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                members(inner).prop_map(Value::Object),
            ]
        })
    }

    fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        let names = "(roots|sampling|elicitation|form|url|tools|extensions|experimental|name|title|version|\\PC{0,20})";
        proptest::collection::vec((names, value), 0..8).prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn whatever_a_client_says_of_itself_makes_a_session_that_fits_and_reads_back(
            info in members(tree()),
            capabilities in members(tree()),
        ) {
            let session = Session::begin(Revision::V2025_06_18, &info, &capabilities).unwrap();
            let id = session.id().unwrap();
            prop_assert!(id.len() <= MOST_CHARACTERS, "{} characters", id.len());
            prop_assert_eq!(Session::open(id.to_str().unwrap()), Some(session));
        }

        #[test]
        fn whatever_comes_as_an_identifier_is_read_or_unknown(id in "1?[A-Za-z0-9_-]{0,200}|[!-~]{0,1200}") {
            if let Some(session) = Session::open(&id) {
                prop_assert!(session.nonce.is_some() && session.capabilities.is_object());
            }
        }

        #[test]
        fn a_changed_identifier_is_another_session_or_none(at in any::<prop::sample::Index>(), bit in 0_u8..7) {
            let session = begun(json!({"name": "c", "version": "1"}), json!({}));
            let mut id = session.id().unwrap().as_bytes().to_vec();
            let at = at.index(id.len());
            id[at] ^= 1 << bit;
            let Ok(id) = String::from_utf8(id) else { return Ok(()) };
            prop_assert_ne!(Session::open(&id), Some(session));
        }
    }
}
