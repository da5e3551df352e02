//! Which arguments of which tools are mirrored in headers, as far as it is known: learnt from the lists that pass, or
//! fetched when a tool is called of which nothing is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::parameters::{self, Parameter};
use crate::agent::Agent;

/// How long what was learnt is taken as true. An agent that has changed a tool since refuses the call, and the list is
/// fetched again.
const FRESH: Duration = Duration::from_mins(5);
/// So many tools are remembered.
const MOST_TOOLS: usize = 1000;
/// Longer names are not remembered.
const MOST_OF_NAME: usize = 256;

/// What is known.
#[derive(Default)]
pub(super) struct Tools {
    known: Mutex<HashMap<String, Known>>,
    /// One list at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    parameters: Arc<[Parameter]>,
    at: Instant,
}

impl Tools {
    /// Learns of a tool.
    pub(super) fn learn(&self, name: &str, parameters: Vec<Parameter>) {
        let mut known = self.lock();
        if known.len() >= MOST_TOOLS && !known.contains_key(name) {
            known.retain(|_, known| known.at.elapsed() < FRESH);
        }
        if name.len() <= MOST_OF_NAME && (known.len() < MOST_TOOLS || known.contains_key(name)) {
            known.insert(name.to_owned(), Known { parameters: parameters.into(), at: Instant::now() });
        }
    }

    /// Forgets a tool: what was known of it is not true any more.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// The mirrored arguments of a tool. None if the list can't be had: the agent refuses a call that lacks a header.
    pub(super) async fn parameters(&self, name: &str, user: &HeaderValue, agent: &Agent) -> Arc<[Parameter]> {
        if let Some(parameters) = self.fresh(name) {
            return parameters;
        }
        let _fetching = self.fetching.lock().await;
        if let Some(parameters) = self.fresh(name) {
            return parameters;
        }
        match agent.tools(user).await {
            Ok(tools) => {
                for tool in tools {
                    self.learn(&tool.name, parameters::of_schema(&tool.input_schema).unwrap_or_default());
                }
                if self.fresh(name).is_none() {
                    self.learn(name, Vec::new());
                }
            }
            Err(error) => tracing::warn!(%error, "which arguments stand in headers is not known"),
        }
        self.fresh(name).unwrap_or_default()
    }

    fn fresh(&self, name: &str) -> Option<Arc<[Parameter]>> {
        let known = self.lock();
        known.get(name).filter(|known| known.at.elapsed() < FRESH).map(|known| Arc::clone(&known.parameters))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
