//! Anonymous visitors. What makes one is a credential that this gateway sealed: who has it comes back to the same
//! workspace until its time is over. Nothing is kept of a visitor here, and nobody can make or change a credential.

mod credential;

use std::net::IpAddr;

use dexorder_protocol::headers::VISITOR;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;

pub(crate) use credential::{Visitor, VisitorError};

use crate::auth::{self, AuthError};
use crate::clock;
use crate::config::VisitorsConfig;
use crate::limits::{Limit, Rate, counted};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::seal::Ring;

/// Where visitors are served.
pub(crate) const PATH: &str = "/public";
/// Addresses and visitors that are counted, at most.
const MOST_KEYS: usize = 50_000;

/// What visitors may do.
pub(crate) struct Visitors {
    config: VisitorsConfig,
    /// Whether cookies are for encrypted connections alone.
    secure: bool,
    of_address: Rate<IpAddr>,
    in_all: Rate<()>,
    requests: Rate<String>,
    turns_of_visitor: Rate<String>,
    turns: Rate<()>,
}

/// A visitor who has just come, with what to send back the next time.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    pub(crate) visitor: Visitor,
    pub(crate) credential: String,
}

impl Visitors {
    pub(crate) fn new(config: &VisitorsConfig, public_url: &str) -> Self {
        Self {
            of_address: Rate::new(config.new_per_address, MOST_KEYS),
            in_all: Rate::new(config.new_in_all, 1),
            requests: Rate::new(config.requests, MOST_KEYS),
            turns_of_visitor: Rate::new(config.chat.map_or(0, |chat| chat.per_visitor), MOST_KEYS),
            turns: Rate::new(config.chat.map_or(0, |chat| chat.in_all), 1),
            secure: public_url.starts_with("https:"),
            config: config.clone(),
        }
    }

    /// Makes a visitor, who counts as new only with [`Self::count_new`].
    pub(crate) fn make(&self, ring: &Ring) -> Result<Newcomer, Refusal> {
        let lifetime = i64::try_from(self.config.lifetime.as_secs()).unwrap_or(i64::MAX);
        let made = Visitor::make(clock::seconds().saturating_add(lifetime));
        let sealed = made.and_then(|visitor| visitor.seal(ring).map(|credential| (visitor, credential)));
        sealed.map(|(visitor, credential)| Newcomer { visitor, credential }).map_err(|error| {
            tracing::error!(%error, "no visitor could be made");
            Refusal::Signing
        })
    }

    /// Counts a new visitor.
    pub(crate) fn count_new(&self, from: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::VisitorsOfAddress, self.of_address.take(from), metrics)?;
        counted(Limit::Visitors, self.in_all.take(()), metrics)?;
        metrics.visitor();
        Ok(())
    }

    /// Counts a request of a visitor.
    pub(crate) fn count_request(&self, visitor: &Visitor, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::Visitor, self.requests.take(visitor.user()), metrics)
    }

    /// Whether they may use the chat.
    pub(crate) const fn may_chat(&self) -> bool {
        self.config.chat.is_some()
    }

    /// Counts a turn of the chat.
    pub(crate) fn count_turn(&self, user: &str, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::TurnsOfVisitor, self.turns_of_visitor.take(user.to_owned()), metrics)?;
        counted(Limit::Turns, self.turns.take(()), metrics)
    }

    /// The headers that give a new visitor the credential.
    pub(crate) fn welcome(&self, headers: &mut HeaderMap, newcomer: &Newcomer) {
        let Newcomer { visitor, credential } = newcomer;
        let secure = if self.secure { "; Secure" } else { "" };
        let seconds = (visitor.end() - clock::seconds()).max(0);
        let cookie = format!(
            "{VISITOR}={credential}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
        );
        for (name, text) in [(HeaderName::from_static(VISITOR), credential), (header::SET_COOKIE, &cookie)] {
            if let Ok(mut value) = HeaderValue::from_str(text) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
    }

    /// Takes a cookie back that does not hold: the browser's next request is a new visitor's.
    pub(crate) fn forget(headers: &mut HeaderMap) {
        let cookie = format!("{VISITOR}=; Path={PATH}; Max-Age=0; HttpOnly; SameSite=Strict");
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            headers.insert(header::SET_COOKIE, value);
        }
    }
}

/// The visitor of a request: by the header of its own, the cookie, or a bearer token, the first that is there.
pub(crate) fn of_request(headers: &HeaderMap, ring: &Ring) -> Result<Option<Visitor>, AuthError> {
    let mut own = headers.get_all(VISITOR).iter();
    let credential = match (own.next(), own.next()) {
        (Some(_), Some(_)) => return Err(AuthError::Visitor(VisitorError::Unknown)),
        (Some(value), None) => Some(value.as_bytes()),
        (None, _) => match cookie(headers) {
            Some(value) => Some(value),
            None if headers.contains_key(header::AUTHORIZATION) => Some(auth::bearer(headers)?.as_bytes()),
            None => None,
        },
    };
    let visitor = credential.map(|credential| Visitor::open(credential, ring, clock::seconds()));
    Ok(visitor.transpose()?)
}

/// The value of the cookie.
fn cookie(headers: &HeaderMap) -> Option<&[u8]> {
    let mut pairs =
        headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(VISITOR.as_bytes())?.strip_prefix(b"=")?;
        Some(rest.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(rest))
    })
}

/// When a visitor ends, for people and programs.
pub(crate) fn end_of(visitor: &Visitor) -> String {
    Timestamp::from_second(visitor.end()).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Known;
    use crate::seal::Seals;

    fn ring() -> Ring {
        Seals::derive(&["key"]).unwrap().visitors
    }

    fn visitors() -> Visitors {
        let config = VisitorsConfig {
            tier: "free".to_owned(),
            lifetime: Duration::from_hours(1),
            most: 10,
            new_per_address: 2,
            new_in_all: 3,
            requests: 0,
            chat: None,
        };
        Visitors::new(&config, "https://gw.example")
    }

    fn found(pairs: &[(HeaderName, &str)]) -> Result<Option<Visitor>, AuthError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        of_request(&headers, &ring())
    }

    #[test]
    fn a_visitor_is_known_by_header_cookie_or_token() {
        let Newcomer { visitor, credential } = visitors().make(&ring()).unwrap();
        let own = HeaderName::from_static(VISITOR);
        for (name, value) in [
            (own.clone(), credential.clone()),
            (header::COOKIE, format!("a=b; {VISITOR}={credential}")),
            (header::COOKIE, format!("x{VISITOR}=no; {VISITOR}=\"{credential}\"")),
            (header::AUTHORIZATION, format!("Bearer {credential}")),
        ] {
            assert_eq!(found(&[(name.clone(), &value)]).unwrap().as_ref(), Some(&visitor), "{name}");
        }
        assert_eq!(found(&[(header::COOKIE, "a=b")]).unwrap(), None);
        let other = visitors().make(&ring()).unwrap().credential;
        assert!(found(&[(own.clone(), &credential), (own.clone(), &other)]).is_err());
        for forged in ["", "x", &credential[1..]] {
            assert!(found(&[(own.clone(), forged)]).is_err(), "{forged}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_site_and_its_programs_cannot_read_it() {
        let (visitors, mut headers) = (visitors(), HeaderMap::new());
        visitors.welcome(&mut headers, &visitors.make(&ring()).unwrap());
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        for part in ["Path=/public;", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=3"] {
            assert!(cookie.contains(part), "{cookie}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_visitors_are_counted_by_address_and_in_all() {
        let (visitors, metrics) = (visitors(), Metrics::new());
        let new = |last: u8| visitors.count_new(IpAddr::from([192, 0, 2, last]), &metrics).is_ok();
        assert!(new(1) && new(1) && !new(1) && new(2) && !new(3));
        assert!(metrics.text(Known::default()).contains("dexorder_gateway_visitors_total 3"));
    }
}
