//! The agent's lifecycle calls.

use std::io;
use std::time::Duration;

use axum::body::Body;
use dexorder_protocol::control::RemoteState;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Agent, SendError};

const STATUS_PATH: &str = "/lifecycle/status";
const SAVE_PATH: &str = "/lifecycle/save";
const ANSWER_BYTES: usize = 256 * 1024;

/// The agent's answer to a question for its status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Status {
    /// Whether it is ready for requests.
    pub(crate) ready: bool,
    /// What it does without a request.
    #[serde(default)]
    pub(crate) busy: Vec<String>,
    /// Commit of its repository.
    #[serde(default)]
    pub(crate) commit: Option<String>,
}

/// The agent's answer to a save.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Saved {
    /// Commit of its repository after the save.
    pub(crate) commit: String,
    /// Whether everything is committed.
    pub(crate) clean: bool,
    /// How far the git remote is in step.
    #[serde(default)]
    pub(crate) remote: Option<RemoteState>,
}

/// What the agent says when it fails.
#[derive(Deserialize)]
struct Failure {
    error: String,
}

/// Why a lifecycle call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nobody listens at the socket.
    #[error("can't connect to the agent's socket: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke.
    #[error("the agent broke off its answer to {path}")]
    Broken {
        /// What was asked.
        path: &'static str,
    },
    /// No answer in time.
    #[error("the agent did not answer {path} within {limit:?}")]
    Timeout {
        /// What was asked.
        path: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The agent says that it failed.
    #[error("the agent answered {path} with {status}: {message}")]
    Failed {
        /// What was asked.
        path: &'static str,
        /// The status.
        status: StatusCode,
        /// Its own words.
        message: String,
    },
    /// The answer is not what was agreed.
    #[error("the agent's answer to {path} can't be read")]
    Unreadable {
        /// What was asked.
        path: &'static str,
        /// Where it can't be read.
        #[source]
        source: serde_json::Error,
    },
}

impl Agent {
    /// Asks for the status.
    pub(crate) async fn status(&self, limit: Duration) -> Result<Status, AgentError> {
        let status: Status = self.ask(Method::GET, STATUS_PATH, limit).await?;
        self.seen(status.clone());
        Ok(status)
    }

    /// Has everything committed and synced.
    pub(crate) async fn save(&self, limit: Duration) -> Result<Saved, AgentError> {
        let saved: Saved = self.ask(Method::POST, SAVE_PATH, limit).await?;
        self.saved(&saved.commit);
        Ok(saved)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &'static str,
        limit: Duration,
    ) -> Result<T, AgentError> {
        timeout(limit, self.ask_unlimited(method, path))
            .await
            .unwrap_or(Err(AgentError::Timeout { path, limit }))
    }

    async fn ask_unlimited<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &'static str,
    ) -> Result<T, AgentError> {
        let broken = || AgentError::Broken { path };
        let mut connection = self.pool.connection().await?;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        request.headers_mut().insert(HOST, http::HeaderValue::from_static("localhost"));
        let response = match connection.send(request).await {
            Ok(response) => response,
            Err(SendError::NotSent(_) | SendError::Sent(_)) => return Err(broken()),
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|_| broken())?
            .to_bytes();
        connection.give_back();
        if status != StatusCode::OK {
            let message = serde_json::from_slice(&body)
                .map_or_else(|_| "no reason was given".to_owned(), |failure: Failure| failure.error);
            return Err(AgentError::Failed { path, status, message });
        }
        serde_json::from_slice(&body).map_err(|source| AgentError::Unreadable { path, source })
    }
}
