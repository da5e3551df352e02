//! The platform's own MCP servers: their tools stand beside those of the workspace. The gateway tells each of them whom
//! it acts for, in a signed header that no argument of a model changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dexorder_protocol::headers::IDENTITY;
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::web::{self, WebClient, WebError};
use super::wire::{self, McpError, ToolResult};
use crate::clock;
use crate::config::ServerConfig;
use crate::identity::Signer;
use dexorder_oidc::Expiring;

/// The revision that is spoken with a server that does not know the newest one.
const OLDER_REVISION: &str = "2025-11-25";
/// The newest revision's first question; older servers don't know it.
const DISCOVER: &str = "server/discover";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// How long a list of tools is used again, and how long a server that failed is left alone.
const LISTED_SECONDS: i64 = 60;
const FAILED_SECONDS: i64 = 15;
const SESSION_SECONDS: i64 = 600;
const MOST_USERS: usize = 2000;

/// All of them.
pub(crate) struct Servers {
    servers: Vec<Server>,
}

struct Server {
    config: ServerConfig,
    client: WebClient,
    /// By user: a server may show each one other tools.
    tools: Expiring<String, Result<Arc<Vec<Value>>, String>>,
    sessions: Expiring<String, Speaking>,
}

/// How a server is spoken to for one user.
#[derive(Clone, Debug)]
enum Speaking {
    Newest,
    Older { revision: HeaderValue, session: Option<HeaderValue> },
}

/// The tools of one server, or why there are none.
pub(crate) struct Offer {
    pub(crate) server: usize,
    pub(crate) name: String,
    pub(crate) tools: Result<Arc<Vec<Value>>, String>,
}

/// Why a request to a server has no result.
enum Trouble {
    /// The server does not know the revision, or the session any more.
    Unspoken(McpError),
    Other(McpError),
}

impl From<McpError> for Trouble {
    fn from(error: McpError) -> Self {
        Self::Other(error)
    }
}

impl Servers {
    pub(crate) fn new(configs: &[ServerConfig]) -> Result<Self, WebError> {
        let server = |config: &ServerConfig| {
            let place = format!("chat.servers.{}", config.name);
            if let Some(path) = &config.credential_file {
                web::check(&format!("{place}.credentialFile"), path)?;
            }
            Ok(Server {
                client: web::client(&place, config.ca_file.as_deref())?,
                config: config.clone(),
                tools: Expiring::new(MOST_USERS),
                sessions: Expiring::new(MOST_USERS),
            })
        };
        Ok(Self { servers: configs.iter().map(server).collect::<Result<_, _>>()? })
    }

    /// What the servers offer to a user. One that fails or is slow offers nothing.
    pub(crate) async fn offers(&self, signer: &Signer, user: &str, within: Duration) -> Vec<Offer> {
        let offers = self.servers.iter().enumerate().map(|(place, server)| async move {
            let tools = server.tools(signer, user, within).await;
            Offer { server: place, name: server.config.name.clone(), tools }
        });
        join_all(offers).await
    }

    /// Runs a tool for a user.
    pub(crate) async fn call(
        &self,
        signer: &Signer,
        server: usize,
        user: &str,
        name: &str,
        arguments: &Value,
    ) -> Result<ToolResult, McpError> {
        let server = self.servers.get(server).ok_or(McpError::Malformed("no such server"))?;
        let params = json!({"name": name, "arguments": arguments});
        let caller = Caller { server, signer, user };
        let within = server.config.timeout;
        let result = timeout(within, caller.request("tools/call", Some(name), params)).await;
        wire::tool_result(result.unwrap_or(Err(McpError::Late))?)
    }
}

impl Server {
    async fn tools(&self, signer: &Signer, user: &str, within: Duration) -> Result<Arc<Vec<Value>>, String> {
        let now = clock::seconds();
        let user = user.to_owned();
        if let Some(known) = self.tools.get(&user, now) {
            return known;
        }
        let caller = Caller { server: self, signer, user: &user };
        let listed = timeout(within.min(self.config.timeout), caller.tools()).await;
        let tools = listed.unwrap_or(Err(McpError::Late)).map(Arc::new).map_err(|error| error.to_string());
        let seconds = if tools.is_ok() { LISTED_SECONDS } else { FAILED_SECONDS };
        if let Err(error) = &tools {
            tracing::warn!(server = self.config.name, error, "a server's tools can't be listed");
        }
        self.tools.put(user, tools.clone(), now + seconds, now);
        tools
    }
}

/// One server as it is asked for one user.
struct Caller<'a> {
    server: &'a Server,
    signer: &'a Signer,
    user: &'a str,
}

impl Caller<'_> {
    /// The tools that the configuration allows.
    async fn tools(&self) -> Result<Vec<Value>, McpError> {
        let (mut tools, mut cursor) = (Vec::new(), Value::Null);
        for _ in 0..20 {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let mut result = self.request("tools/list", None, params).await?;
            match result["tools"].take() {
                Value::Array(page) => tools.extend(page.into_iter().filter(|tool| {
                    let name = tool["name"].as_str().unwrap_or_default();
                    self.server.config.tools.iter().any(|allowed| allowed == name)
                })),
                _ => return Err(McpError::Malformed("a list of tools without tools")),
            }
            cursor = result["nextCursor"].take();
            if cursor.is_null() {
                return Ok(tools);
            }
        }
        Err(McpError::Malformed("a list of tools that does not end"))
    }

    /// Asks, in the way that the server understands. A call that the server may have begun is never sent twice.
    async fn request(&self, method: &str, name: Option<&str>, params: Value) -> Result<Value, McpError> {
        let known = self.server.sessions.get(&self.user.to_owned(), clock::seconds());
        let speaking = match &known {
            Some(speaking) => speaking.clone(),
            None => self.speak().await?,
        };
        match self.ask(&speaking, method, name, &params).await {
            Ok(result) => Ok(result),
            // The session has ended, or the server is another now.
            Err(Trouble::Unspoken(_)) if known.is_some() => {
                let speaking = self.speak().await?;
                self.ask(&speaking, method, name, &params).await.map_err(Trouble::into_error)
            }
            Err(trouble) => Err(trouble.into_error()),
        }
    }

    /// Finds out how the server is spoken to.
    async fn speak(&self) -> Result<Speaking, McpError> {
        let discovered = self.ask(&Speaking::Newest, DISCOVER, None, &json!({})).await;
        let speaking = match discovered {
            Ok(_) => Speaking::Newest,
            Err(Trouble::Unspoken(_)) => self.initialize().await?,
            Err(Trouble::Other(error)) => return Err(error),
        };
        let now = clock::seconds();
        self.server.sessions.put(self.user.to_owned(), speaking.clone(), now + SESSION_SECONDS, now);
        Ok(speaking)
    }

    async fn initialize(&self) -> Result<Speaking, McpError> {
        let id = wire::next_id();
        let params = json!({
            "protocolVersion": OLDER_REVISION, "capabilities": {}, "clientInfo": wire::client_info(),
        });
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params});
        let response = self.send(wire::plain_headers(), Bytes::from(message.to_string())).await?;
        let session = response.headers().get(SESSION).cloned();
        let result = wire::answer(response, id).await?;
        let revision = result["protocolVersion"].as_str().unwrap_or(OLDER_REVISION);
        let revision = HeaderValue::from_str(revision).map_err(|_| McpError::Malformed("a revision"))?;
        let speaking = Speaking::Older { revision, session };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let told = self.send(speaking.headers(), Bytes::from(ready.to_string())).await?;
        if told.status().is_success() { Ok(speaking) } else { Err(McpError::Malformed("a refused session")) }
    }

    async fn ask(
        &self,
        speaking: &Speaking,
        method: &str,
        name: Option<&str>,
        params: &Value,
    ) -> Result<Value, Trouble> {
        let (id, headers, body) = match speaking {
            Speaking::Newest => wire::message(method, name, params.clone())?,
            Speaking::Older { .. } => {
                let id = wire::next_id();
                let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
                (id, speaking.headers(), Bytes::from(message.to_string()))
            }
        };
        let response = self.send(headers, body).await?;
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::error!(server = self.server.config.name, %status, "a server refuses the credential");
                Err(McpError::Malformed("it refuses the platform's credential").into())
            }
            status if status.is_success() => match wire::answer(response, id).await {
                Err(error @ McpError::Error { .. }) if method == DISCOVER => Err(Trouble::Unspoken(error)),
                answer => Ok(answer?),
            },
            status if status.is_client_error() => {
                Err(Trouble::Unspoken(match wire::answer(response, id).await {
                    Err(error @ McpError::Error { .. }) => error,
                    _ => McpError::Malformed("it refuses the request"),
                }))
            }
            _ => Err(McpError::Malformed("it answers with a failure").into()),
        }
    }

    async fn send(&self, mut headers: HeaderMap, body: Bytes) -> Result<Response<Incoming>, McpError> {
        let config = &self.server.config;
        if let Some(path) = &config.credential_file {
            let credential = web::bearer(path).await.map_err(|error| {
                tracing::error!(%error, server = config.name, "a server's credential can't be used");
                McpError::Malformed("the platform's credential for it can't be used")
            })?;
            headers.insert(header::AUTHORIZATION, credential);
        }
        // A colon can't stand in a UID: no sidecar takes this for an identity of its own workspace.
        let audience = format!("server:{}", config.name);
        let identity = self
            .signer
            .identity(&audience, self.user)
            .map_err(|_| McpError::Malformed("no identity could be signed"))?;
        headers.insert(HeaderName::from_static(IDENTITY), identity);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = config.url.clone();
        *request.headers_mut() = headers;
        let begun = Instant::now();
        self.server.client.request(request).await.map_err(|error| {
            let milliseconds = begun.elapsed().as_millis();
            tracing::debug!(%error, server = config.name, milliseconds, "a server could not be asked");
            McpError::BrokeOff
        })
    }
}

impl Trouble {
    fn into_error(self) -> McpError {
        match self {
            Self::Unspoken(error) | Self::Other(error) => error,
        }
    }
}

impl Speaking {
    /// The headers of the older revision.
    fn headers(&self) -> HeaderMap {
        let mut headers = wire::plain_headers();
        if let Self::Older { revision, session } = self {
            headers.insert(VERSION, revision.clone());
            if let Some(session) = session {
                headers.insert(SESSION, session.clone());
            }
        }
        headers
    }
}
