//! The ways to a workspace: who asks, which workspace is meant, and in whose name its sidecar is called.

use std::net::IpAddr;

use dexorder_crds::AuthMode;
use dexorder_protocol::identity::{ANONYMOUS_SUBJECT, GATEWAY_SUBJECT, VISITOR_PREFIX};
use http::HeaderMap;

use crate::app::App;
use crate::auth::AuthError;
use crate::refusal::Refusal;
use crate::visitors::Visitor;
use crate::wake::Caller;
use crate::workspaces::{ApiError, Target};

/// What a workspace's sidecar takes from this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway vouches for the user.
    User,
    /// Anonymous sessions, in a workspace of the visitor's own or in one that many share.
    Public,
    /// The user's own proof: the gateway vouches for nothing but itself.
    Direct,
}

/// How a request goes to its workspace.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) caller: Caller,
    /// Whom the signed identity names.
    pub(crate) subject: String,
    pub(crate) kind: Kind,
}

impl Way {
    /// To the workspace of a user whom the gateway knows, visitors among them.
    pub(crate) fn of_user(user: &str, from: IpAddr) -> Self {
        let visits = user.starts_with(VISITOR_PREFIX);
        Self {
            caller: Caller { target: Target::User(user.to_owned()), from, known: !visits },
            subject: user.to_owned(),
            kind: if visits { Kind::Public } else { Kind::User },
        }
    }

    /// To the workspace of a visitor.
    pub(super) fn of_visitor(visitor: &Visitor, from: IpAddr) -> Self {
        Self::of_user(&visitor.user(), from)
    }

    fn named(name: &str, from: IpAddr, subject: &str, kind: Kind) -> Self {
        let target = Target::Named(name.to_owned());
        Self { caller: Caller { target, from, known: kind == Kind::User }, subject: subject.to_owned(), kind }
    }
}

/// Who asks at `/mcp`, and that the workspace takes the gateway's word for its user.
pub(crate) async fn by_user(app: &App, headers: &HeaderMap, from: IpAddr) -> Result<Way, Refusal> {
    let user = app.auth.authenticate(headers, None).await.map_err(Refusal::Auth)?;
    app.limits.of_user(&user, &app.metrics)?;
    match app.workspaces.of_user(&user) {
        Some(workspace) if workspace.auth != AuthMode::Gateway => {
            Err(Refusal::OtherWay { mode: workspace.auth.as_str(), name: workspace.name.clone() })
        }
        _ => Ok(Way::of_user(&user, from)),
    }
}

/// Which visitor asks at a place that makes none.
pub(crate) fn by_visitor(app: &App, headers: &HeaderMap, from: IpAddr) -> Result<Way, Refusal> {
    let visitors = app.visitors.as_ref().ok_or(Refusal::NoVisitor)?;
    let known = visitors.of_request(headers, &app.signer.seals().visitors).map_err(Refusal::Auth)?;
    let visitor = known.ok_or(Refusal::NoVisitor)?;
    visitors.count_request(&visitor, &app.metrics)?;
    Ok(Way::of_visitor(&visitor, from))
}

/// Who may ask for a workspace by its name: anybody if it checks its users itself or has none, else its user alone.
pub(super) async fn by_name(
    app: &App,
    name: &str,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Way, Refusal> {
    let workspace = app.workspaces.current(&Target::Named(name.to_owned()));
    // A visitor's own is its visitor's, at another path.
    let Some(workspace) = workspace.filter(|workspace| !workspace.is_anonymous()) else {
        return Err(match app.workspaces.health().problem() {
            Some(problem) => Refusal::Api(ApiError::Unavailable(problem.to_owned())),
            None => Refusal::NoWorkspace,
        });
    };
    match workspace.auth {
        AuthMode::Public => Ok(Way::named(name, from, ANONYMOUS_SUBJECT, Kind::Public)),
        AuthMode::Direct => Ok(Way::named(name, from, GATEWAY_SUBJECT, Kind::Direct)),
        AuthMode::Gateway => {
            let resource = app.config.resource_of(name);
            let user = app.auth.authenticate(headers, Some(&resource)).await.map_err(Refusal::Auth)?;
            app.limits.of_user(&user, &app.metrics)?;
            if user == workspace.user {
                Ok(Way::named(name, from, &user, Kind::User))
            } else {
                Err(Refusal::NotYours)
            }
        }
    }
}

/// The way to the key and the sessions of a workspace of mode Direct.
pub(super) async fn to_direct(
    app: &App,
    name: &str,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Way, Refusal> {
    let refuse = |mode: AuthMode| Refusal::NotDirect { mode: mode.as_str() };
    let way = match by_name(app, name, headers, from).await {
        // What it is can be told to anybody: so does the answer at its MCP endpoint.
        Err(Refusal::Auth(AuthError::Missing)) => return Err(refuse(AuthMode::Gateway)),
        way => way?,
    };
    match way.kind {
        Kind::Direct => Ok(way),
        Kind::Public => Err(refuse(AuthMode::Public)),
        Kind::User => Err(refuse(AuthMode::Gateway)),
    }
}
