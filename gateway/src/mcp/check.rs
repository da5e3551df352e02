//! Checks who asks and whether it is a request. Nothing of the cluster is touched.

use std::net::IpAddr;

use axum::body::Body;
use bytes::Bytes;
use dexorder_protocol::jsonrpc;
use dexorder_protocol::{DIRECT_KEY_PATH, DIRECT_SESSION_PATH, PUBLIC_BODY_BYTES};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use serde_json::Value;

use super::body::{read_held, read_id};
use super::forward::Checked;
use super::way::{self, Kind, Way};
use super::{headers, message, session};
use crate::app::App;
use crate::limits::Held;
use crate::refusal::{METHODS, Refusal};
use crate::visitors::{Newcomer, Visitor, Visitors};
use crate::wake::Purpose;

/// Largest body of a sealed credential.
const MOST_SEALED: usize = 64 * 1024;

/// Where a request came in.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// `/mcp`
    User,
    /// `/public/mcp`
    Visitor,
    /// `/workspaces/NAME/mcp`
    Named(String),
    /// `/workspaces/NAME/direct/key`
    DirectKey(String),
    /// `/workspaces/NAME/direct/session`
    DirectSession(String),
}

/// A refusal with the id of the request that it answers.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) id: Option<Value>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None }
    }
}

/// Who came, before it is known what for.
struct Guest {
    way: Way,
    visitor: Option<Visitor>,
    /// A visitor who may become one with this request.
    newcomer: Option<Newcomer>,
}

impl From<Way> for Guest {
    fn from(way: Way) -> Self {
        Self { way, visitor: None, newcomer: None }
    }
}

/// Checks a request.
pub(super) async fn check(
    app: &App,
    door: &Door,
    from: IpAddr,
    request: Request<Body>,
) -> Result<Checked, Refused> {
    let (parts, body) = request.into_parts();
    let Parts { method, headers, .. } = parts;
    let path = match door {
        Door::DirectKey(_) => allowed(&method, &[Method::GET], "GET").map(|()| Some(DIRECT_KEY_PATH)),
        Door::DirectSession(_) => {
            allowed(&method, &[Method::POST], "POST").map(|()| Some(DIRECT_SESSION_PATH))
        }
        _ => allowed(&method, &[Method::POST, Method::GET, Method::DELETE], METHODS).map(|()| None),
    }?;
    let guest = match enter(app, door, &method, &headers, from).await {
        Ok(guest) => guest,
        Err(refusal) => return Err(Refused { refusal, id: read_id(&headers, body).await }),
    };
    let mut forwarded = headers::to_sidecar(&headers, guest.way.kind)?;
    if let Door::DirectSession(name) = door {
        app.limits.login(from, name, &app.metrics)?;
    }
    let mut held = app.limits.held(guest.way.kind);
    if path.is_some() {
        let body = read(app, &headers, body, MOST_SEALED, &mut held).await?;
        let checked = Checked::message(guest.way, Purpose::Work, forwarded, body);
        return Ok(Checked { method, path, _held: held, ..checked });
    }
    let (subject, visits) = (&guest.way.subject, guest.visitor.is_some());
    let session = session::enter(&mut forwarded, subject, visits, &app.signer.seals().sessions);
    let checked = |session, purpose, body, id, initializes, guest: Guest, held| Checked {
        way: guest.way,
        purpose,
        method: method.clone(),
        path: None,
        headers: forwarded,
        body,
        id,
        session,
        initializes,
        visitor: guest.visitor,
        newcomer: guest.newcomer,
        _held: held,
    };
    match method {
        Method::POST => {
            headers::check_post(&headers)?;
            let most = match guest.way.kind {
                Kind::Public => app.config.body_limit.min(PUBLIC_BODY_BYTES),
                Kind::User | Kind::Direct => app.config.body_limit,
            };
            let body = read(app, &headers, body, most, &mut held).await?;
            let message = message::read(&body)
                .map_err(|refusal| Refused { id: jsonrpc::request_id(&body), refusal })?;
            let refused = |refusal| Refused { id: message.id.clone(), refusal };
            let session = session.map_err(refused)?;
            if guest.newcomer.is_some() {
                admit(app, message.asks, from).map_err(refused)?;
            }
            let purpose = if message.listens { Purpose::Listen } else { Purpose::Work };
            Ok(checked(session, purpose, body, message.id, message.initializes, guest, held))
        }
        Method::GET => {
            headers::check_get(&headers)?;
            Ok(checked(session?, Purpose::Listen, Bytes::new(), None, false, guest, None))
        }
        // Ends what the workspace keeps of a session: nothing that a stopped one would be woken for.
        _ => match session? {
            Some(session) if !session.known_to_workspace => Err(Refusal::SessionStays.into()),
            session => Ok(checked(session, Purpose::Listen, Bytes::new(), None, false, guest, None)),
        },
    }
}

/// The body of a request, within what all may keep.
async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    most: usize,
    held: &mut Option<Held>,
) -> Result<Bytes, Refusal> {
    read_held(headers, body, most, held).await.inspect_err(|refusal| {
        if let Refusal::TooMany { limit, .. } = refusal {
            app.metrics.limited(*limit);
        }
    })
}

fn allowed(method: &Method, methods: &[Method], text: &'static str) -> Result<(), Refusal> {
    if methods.contains(method) { Ok(()) } else { Err(Refusal::Method(text)) }
}

/// Who comes through a door.
async fn enter(
    app: &App,
    door: &Door,
    method: &Method,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Guest, Refusal> {
    match door {
        Door::User => way::by_user(app, headers, from).await.map(Guest::from),
        Door::Named(name) => way::by_name(app, name, headers, from).await.map(Guest::from),
        Door::DirectKey(name) | Door::DirectSession(name) => {
            way::to_direct(app, name, headers, from).await.map(Guest::from)
        }
        Door::Visitor => visitor(app, method, headers, from),
    }
}

fn visitors(app: &App) -> Result<&Visitors, Refusal> {
    app.visitors.as_ref().ok_or(Refusal::NotFound)
}

/// The visitor who comes, a new one if nothing says who it is. An old-style session says it too.
fn visitor(app: &App, method: &Method, headers: &HeaderMap, from: IpAddr) -> Result<Guest, Refusal> {
    let visitors = visitors(app)?;
    let seals = app.signer.seals();
    let known = visitors.of_request(headers, &seals.visitors).map_err(Refusal::Auth)?;
    let of_session = session::visitor(headers, &seals.visitors)?;
    if known.is_some() && of_session.is_some() && known != of_session {
        return Err(Refusal::NoSession);
    }
    let (visitor, newcomer) = if let Some(known) = known.or(of_session) {
        visitors.count_request(&known, &app.metrics)?;
        (known, None)
    } else if method != Method::POST {
        return Err(Refusal::NoVisitor);
    } else {
        let newcomer = visitors.make(&seals.visitors)?;
        (newcomer.visitor.clone(), Some(newcomer))
    };
    Ok(Guest { way: Way::of_visitor(&visitor, from), visitor: Some(visitor), newcomer })
}

/// Lets a new visitor in, who must have asked for something.
fn admit(app: &App, asks: bool, from: IpAddr) -> Result<(), Refusal> {
    if asks { visitors(app)?.count_new(from, &app.metrics) } else { Err(Refusal::NoVisitor) }
}
