//! What anybody may cost: requests by address and by user, new workspaces, and wakes and visitors without a credential.

mod address;
mod held;
mod rate;

use std::net::IpAddr;
use std::time::Duration;

use http::{Extensions, HeaderMap};

pub use address::{Range, RangeError};
pub(crate) use held::{Budget, Held};
pub(crate) use rate::Rate;

use crate::config::LimitsConfig;
use crate::mcp::way::Kind;
use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// Keys of one limit that are kept. One takes about 60 bytes.
const MOST_KEYS: usize = 50_000;

/// So many bytes of bodies are kept at once of requests to public workspaces, and as many to those of mode Direct: anybody
/// may send them, and slowly.
const MOST_OF_BODIES: usize = 64 * 1024 * 1024;

/// The address of a connection, put into each of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Where a request comes from, put into those that pass several functions on their way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) from: IpAddr,
    /// It came by a way of visitors.
    pub(crate) visits: bool,
}

/// What can be had too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Requests from one address.
    Address,
    /// Requests of one user.
    User,
    /// Workspaces made for one address.
    WorkspacesOfAddress,
    /// Workspaces made in all.
    Workspaces,
    /// Starts that were asked for from one address without a credential.
    WakesOfAddress,
    /// Starts of one workspace that were asked for without a credential.
    WakesOfWorkspace,
    /// Logins at one workspace of mode Direct from one address.
    LoginsOfAddress,
    /// Bodies of callers without a login that are kept at once.
    Bodies,
    /// Visitors from one address.
    VisitorsOfAddress,
    /// Visitors in all.
    Visitors,
    /// Requests of one visitor.
    Visitor,
    /// Turns of one visitor in the chat.
    TurnsOfVisitor,
    /// Turns of all visitors.
    Turns,
    /// Tokens of one user in the chat.
    Tokens,
}

impl Limit {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::WorkspacesOfAddress => "workspaces_of_address",
            Self::Workspaces => "workspaces",
            Self::WakesOfAddress => "wakes_of_address",
            Self::WakesOfWorkspace => "wakes_of_workspace",
            Self::LoginsOfAddress => "logins_of_address",
            Self::Bodies => "bodies",
            Self::VisitorsOfAddress => "visitors_of_address",
            Self::Visitors => "visitors",
            Self::Visitor => "visitor",
            Self::TurnsOfVisitor => "turns_of_visitor",
            Self::Turns => "turns_of_visitors",
            Self::Tokens => "tokens",
        }
    }

    /// What the client is told.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Address => "more requests than one address may send in a while",
            Self::User => "more requests than one user may send in a while",
            Self::WorkspacesOfAddress => "more new workspaces than one address may have made in a while",
            Self::Workspaces => "more new workspaces than are made in a while",
            Self::WakesOfAddress => {
                "more starts than one address may ask for in a while without a credential"
            }
            Self::WakesOfWorkspace => {
                "more starts of this workspace than may be asked for in a while without a credential"
            }
            Self::LoginsOfAddress => "more logins at this workspace than one address may try in a while",
            Self::Bodies => "more in all than is kept at once of requests without a login",
            Self::VisitorsOfAddress => "more visitors than may come from one address in a while",
            Self::Visitors => "more visitors than may come in a while",
            Self::Visitor => "more requests than one visitor may send in a while",
            Self::TurnsOfVisitor => "more messages than one visitor may send in a while",
            Self::Turns => "more messages than all visitors together may send in a while",
            Self::Tokens => "more tokens of the model than one user of this tier has in a day",
        }
    }
}

/// Counts what comes. Each replica counts for itself.
pub(crate) struct Limits {
    trusted_proxies: Vec<Range>,
    address: Rate<IpAddr>,
    user: Rate<String>,
    workspaces_of_address: Rate<IpAddr>,
    workspaces: Rate<()>,
    wakes_of_address: Rate<IpAddr>,
    wakes_of_workspace: Rate<String>,
    logins_of_address: Rate<(IpAddr, String)>,
    public_bodies: Budget,
    direct_bodies: Budget,
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let LimitsConfig { trusted_proxies, requests, new_workspaces, wakes, logins } = config;
        Self {
            trusted_proxies: trusted_proxies.clone(),
            address: Rate::new(requests.per_address, MOST_KEYS),
            user: Rate::new(requests.per_user, MOST_KEYS),
            workspaces_of_address: Rate::new(new_workspaces.per_address, MOST_KEYS),
            workspaces: Rate::new(new_workspaces.in_all, 1),
            wakes_of_address: Rate::new(wakes.per_address, MOST_KEYS),
            wakes_of_workspace: Rate::new(wakes.per_workspace, MOST_KEYS),
            logins_of_address: Rate::new(logins.per_address, MOST_KEYS),
            public_bodies: Budget::new(MOST_OF_BODIES),
            direct_bodies: Budget::new(MOST_OF_BODIES),
        }
    }

    /// Where a request comes from, as far as it is limited as one.
    pub(crate) fn origin(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = extensions.get().map_or(IpAddr::from([0, 0, 0, 0]), |peer: &Peer| peer.0);
        address::customer(address::of_client(peer, headers, &self.trusted_proxies))
    }

    /// Counts a request.
    pub(crate) fn request(&self, from: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::Address, self.address.take(from), metrics)
    }

    /// Counts a request of a user who is known.
    pub(crate) fn of_user(&self, user: &str, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::User, self.user.take(user.to_owned()), metrics)
    }

    /// Counts a workspace that is to be made.
    pub(crate) fn new_workspace(&self, from: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::WorkspacesOfAddress, self.workspaces_of_address.take(from), metrics)?;
        counted(Limit::Workspaces, self.workspaces.take(()), metrics)
    }

    /// Counts a start that somebody unknown asks for.
    pub(crate) fn wake(&self, from: IpAddr, workspace: &str, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::WakesOfAddress, self.wakes_of_address.take(from), metrics)?;
        counted(Limit::WakesOfWorkspace, self.wakes_of_workspace.take(workspace.to_owned()), metrics)
    }

    /// What a request may keep of its body: nothing is counted of those whose user is known.
    pub(crate) fn held(&self, kind: Kind) -> Option<Held> {
        match kind {
            Kind::User => None,
            Kind::Public => Some(self.public_bodies.held()),
            Kind::Direct => Some(self.direct_bodies.held()),
        }
    }

    /// Counts a login at a workspace of mode Direct, whose own limit is one for all who try.
    pub(crate) fn login(&self, from: IpAddr, workspace: &str, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::LoginsOfAddress, self.logins_of_address.take((from, workspace.to_owned())), metrics)
    }
}

/// The refusal of what is over a limit.
pub(crate) fn counted(limit: Limit, taken: Result<(), Duration>, metrics: &Metrics) -> Result<(), Refusal> {
    taken.map_err(|after| {
        metrics.limited(limit);
        // Rounded up: a client that comes after so many whole seconds finds room.
        let seconds = u16::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u16::MAX);
        Refusal::TooMany { limit, seconds }
    })
}
