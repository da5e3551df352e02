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
/// With TLS the cookie has this before its name: browsers take such a one from this host alone (RFC 6265bis, section
/// 4.1.3.2), so that no other site of the domain can make a browser somebody else's visitor.
const OF_HOST: &str = "__Host-";
/// Addresses and visitors that are counted, at most.
const MOST_KEYS: usize = 50_000;

/// What visitors may do.
pub(crate) struct Visitors {
    config: VisitorsConfig,
    cookie: Cookie,
    of_address: Rate<IpAddr>,
    in_all: Rate<()>,
    requests: Rate<String>,
    turns_of_visitor: Rate<String>,
    turns: Rate<()>,
}

/// The cookie with a visitor's credential.
struct Cookie {
    name: String,
    path: &'static str,
    /// Whether it is for encrypted connections alone.
    secure: bool,
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
            cookie: Cookie::new(public_url.starts_with("https:")),
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
        let cookie = self.cookie.text(credential, (visitor.end() - clock::seconds()).max(0));
        for (name, text) in [(HeaderName::from_static(VISITOR), credential), (header::SET_COOKIE, &cookie)] {
            if let Ok(mut value) = HeaderValue::from_str(text) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
    }

    /// Takes a cookie back that does not hold: the browser's next request is a new visitor's.
    pub(crate) fn forget(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.cookie.text("", 0)) {
            headers.insert(header::SET_COOKIE, value);
        }
    }

    /// The visitor of a request: by the header of its own, the cookie, or a bearer token, the first that is there.
    pub(crate) fn of_request(&self, headers: &HeaderMap, ring: &Ring) -> Result<Option<Visitor>, AuthError> {
        let own = single(headers.get_all(VISITOR).iter().map(HeaderValue::as_bytes))?;
        let credential = match own.map_or_else(|| single(self.cookie.values(headers)), |own| Ok(Some(own)))? {
            None if headers.contains_key(header::AUTHORIZATION) => Some(auth::bearer(headers)?.as_bytes()),
            found => found,
        };
        let visitor = credential.map(|credential| Visitor::open(credential, ring, clock::seconds()));
        Ok(visitor.transpose()?)
    }
}

/// The one credential. Two of them may be of two visitors: nobody can say whose the request is.
fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, VisitorError> {
    let first = values.next();
    if values.next().is_some() { Err(VisitorError::Unknown) } else { Ok(first) }
}

impl Cookie {
    fn new(secure: bool) -> Self {
        // With that prefix it must be of all paths.
        let (prefix, path) = if secure { (OF_HOST, "/") } else { ("", PATH) };
        Self { name: format!("{prefix}{VISITOR}"), path, secure }
    }

    fn text(&self, credential: &str, seconds: i64) -> String {
        let Self { name, path, secure } = self;
        let secure = if *secure { "; Secure" } else { "" };
        format!("{name}={credential}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    /// What a request has for it.
    fn values<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        let cookies = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        cookies.flat_map(|cookies| cookies.split(|byte| *byte == b';')).filter_map(|pair| {
            let rest = pair.trim_ascii().strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")?;
            Some(rest.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(rest))
        })
    }
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
        visitors().of_request(&headers, &ring())
    }

    #[test]
    fn a_visitor_is_known_by_header_cookie_or_token() {
        let Newcomer { visitor, credential } = visitors().make(&ring()).unwrap();
        let own = HeaderName::from_static(VISITOR);
        for (name, value) in [
            (own.clone(), credential.clone()),
            (header::COOKIE, format!("a=b; __Host-{VISITOR}={credential}")),
            (
                header::COOKIE,
                format!("x__Host-{VISITOR}=no; {VISITOR}=no; __Host-{VISITOR}=\"{credential}\""),
            ),
            (header::AUTHORIZATION, format!("Bearer {credential}")),
        ] {
            assert_eq!(found(&[(name.clone(), &value)]).unwrap().as_ref(), Some(&visitor), "{name}");
        }
        assert_eq!(found(&[(header::COOKIE, "a=b")]).unwrap(), None);
        let other = visitors().make(&ring()).unwrap().credential;
        assert!(found(&[(own.clone(), &credential), (own.clone(), &other)]).is_err());
        // Another site of the domain has added the second, or the first.
        for (one, two) in [(&credential, &other), (&other, &credential), (&credential, &credential)] {
            let both = [one, two].map(|credential| format!("__Host-{VISITOR}={credential}"));
            assert!(found(&[(header::COOKIE, &both.join("; "))]).is_err());
            assert!(found(&[(header::COOKIE, &both[0]), (header::COOKIE, &both[1])]).is_err());
        }
        for forged in ["", "x", &credential[1..]] {
            assert!(found(&[(own.clone(), forged)]).is_err(), "{forged}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_host_and_its_programs_cannot_read_it() {
        let (visitors, mut headers) = (visitors(), HeaderMap::new());
        visitors.welcome(&mut headers, &visitors.make(&ring()).unwrap());
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("__Host-dexorder-visitor="), "{cookie}");
        for part in ["; Path=/;", "HttpOnly", "SameSite=Strict", "; Secure", "Max-Age=3"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
        visitors.forget(&mut headers);
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("__Host-dexorder-visitor=; Path=/; Max-Age=0;"), "{cookie}");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
    }

    #[test]
    fn without_tls_the_cookie_is_as_narrow_as_browsers_let_it_be() {
        let cookie = Cookie::new(false).text("x", 60);
        assert_eq!(cookie, "dexorder-visitor=x; Path=/public; Max-Age=60; HttpOnly; SameSite=Strict");
    }

    #[tokio::test(start_paused = true)]
    async fn new_visitors_are_counted_by_address_and_in_all() {
        let (visitors, metrics) = (visitors(), Metrics::new());
        let new = |last: u8| visitors.count_new(IpAddr::from([192, 0, 2, last]), &metrics).is_ok();
        assert!(new(1) && new(1) && !new(1) && new(2) && !new(3));
        assert!(metrics.text(Known::default()).contains("dexorder_gateway_visitors_total 3"));
    }
}
