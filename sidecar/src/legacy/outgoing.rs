//! What goes to the agent: a client's request, with what the newest revision has in each request (2026-07-28, basic,
//! Per-request protocol fields).

use axum::body::Body;
use dexorder_protocol::MCP_PATH;
use dexorder_protocol::headers::strip_named;
use dexorder_protocol::mcp::{CAPABILITIES_KEY, CLIENT_INFO_KEY, VERSION_KEY};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, Request, Uri};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::downgrade::META;
use super::level::Level;
use super::members::{Members, raw};
use super::parameters::{self, Parameter};
use super::session::Session;
use crate::headers::{MCP_PREFIX, NEWEST_REVISION, mirror};
use crate::refusal::Refusal;

const LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
/// Members of params that mean nothing in the older revisions and something in the newest, and `task` of 2025-11-25, which
/// a server that has no tasks ignores.
const NOT_FROM_CLIENT: [&str; 3] = ["inputResponses", "requestState", "task"];
/// Headers of a client's request that are about its body, or about a stream that it lost.
const NOT_FOR_AGENT: [HeaderName; 4] =
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, HeaderName::from_static("last-event-id")];

/// What a client said to what the agent asked, for the request that comes again.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) responses: Option<Box<RawValue>>,
    pub(super) state: Option<Box<RawValue>>,
}

/// A request to the agent.
pub(super) struct Outgoing<'a> {
    pub(super) id: u64,
    pub(super) method: &'a str,
    pub(super) params: Members<'a>,
    /// Of the log messages that it may bring.
    pub(super) level: Option<Level>,
    pub(super) inputs: &'a Inputs,
}

#[derive(Serialize)]
struct Text<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a Members<'a>,
}

/// Whether params are those of the newest revision, whose requests name it in a header too.
pub(super) fn is_newest(params: &Members<'_>) -> bool {
    let meta = params.get(META).and_then(|meta| Members::parse(meta).ok());
    meta.is_some_and(|meta| meta.get(VERSION_KEY).is_some())
}

impl Outgoing<'_> {
    /// The request, in a session, with the headers of the client's own that go on. `parameters` are the called tool's.
    pub(super) fn request(
        mut self,
        session: &Session,
        headers: &HeaderMap,
        parameters: &[Parameter],
    ) -> Result<Request<Body>, Refusal> {
        self.params.remove(&NOT_FROM_CLIENT);
        let meta = self.meta(session)?;
        self.params.set(META, meta);
        for (name, value) in
            [("inputResponses", &self.inputs.responses), ("requestState", &self.inputs.state)]
        {
            if let Some(value) = value {
                self.params.set(name, value.clone());
            }
        }
        let headers = self.headers(headers, parameters);
        let Self { id, method, params, .. } = &self;
        let text = raw(&Text { jsonrpc: "2.0", id: *id, method, params });
        let mut request = Request::new(Body::from(Box::<str>::from(text).into_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(MCP_PATH);
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn meta(&self, session: &Session) -> Result<Box<RawValue>, Refusal> {
        let mut meta = match self.params.get(META) {
            Some(meta) => {
                Members::parse(meta).map_err(|_| Refusal::Malformed("\"_meta\" must be an object"))?
            }
            None => Members::default(),
        };
        meta.remove(&[VERSION_KEY, CLIENT_INFO_KEY, CAPABILITIES_KEY, LEVEL_KEY]);
        meta.set(VERSION_KEY, raw(&NEWEST_REVISION));
        if let Some(info) = &session.client_info {
            meta.set(CLIENT_INFO_KEY, raw(info));
        }
        meta.set(CAPABILITIES_KEY, raw(&session.capabilities));
        if let Some(level) = self.level {
            meta.set(LEVEL_KEY, raw(&level));
        }
        Ok(raw(&meta))
    }

    fn headers(&self, of_client: &HeaderMap, parameters: &[Parameter]) -> HeaderMap {
        let mut headers = of_client.clone();
        for name in &NOT_FOR_AGENT {
            headers.remove(name);
        }
        strip_named(&mut headers, |name| name.starts_with(MCP_PREFIX));
        let named = match self.method {
            "tools/call" | "prompts/get" => self.params.text("name"),
            "resources/read" => self.params.text("uri"),
            _ => None,
        };
        mirror(&mut headers, self.method, named.as_deref());
        if !parameters.is_empty() {
            let arguments =
                self.params.get("arguments").and_then(|text| serde_json::from_str(text.get()).ok());
            parameters::mirror(parameters, &arguments.unwrap_or(Value::Null), &mut headers);
        }
        headers
    }
}
