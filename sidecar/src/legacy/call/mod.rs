//! A request of an old client that the agent works on, through as many rounds as the agent asks for. What comes of it are
//! the messages of the client's stream.

mod rounds;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::codes::HEADER_MISMATCH;
use super::downgrade::{self, Error, Kind};
use super::exchange::{Exchange, ExchangeError, Heard};
use super::input::InputRequired;
use super::level::Level;
use super::members::Members;
use super::message::{self, Message};
use super::outgoing::{Inputs, Outgoing};
use super::parameters::Parameter;
use super::session::Session;
use super::sessions::{Cancellable, Kept};
use crate::gate::Pass;
use crate::metrics::Outcome;
use crate::proxy::{Failed, Turn, forward};
use crate::refusal::Refusal;
use crate::relay::Record;
use crate::server::App;
use rounds::{Asking, Rounds};

/// What may ask for input (2026-07-28, basic/patterns/mrtr, Supported Requests).
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
const CALL_TOOL: &str = "tools/call";

/// A request that runs.
pub(super) struct Call {
    app: Arc<App>,
    asked: Request,
    kept: Option<Arc<Kept>>,
    /// Its client can cancel it while this is there.
    _cancellable: Option<Cancellable>,
    stop: CancellationToken,
    stage: Stage,
    outbox: VecDeque<String>,
    inputs: Inputs,
    rounds: Rounds,
    headers_renewed: bool,
}

/// What a client asks for, and what it holds while it runs.
pub(super) struct Request {
    pub(super) session: Session,
    pub(super) user: HeaderValue,
    /// The client's headers that go on.
    pub(super) headers: HeaderMap,
    pub(super) id: Value,
    pub(super) method: String,
    /// The client's message.
    pub(super) body: Bytes,
    pub(super) pass: Pass,
    pub(super) record: Record,
    pub(super) _places: [Option<OwnedSemaphorePermit>; 2],
}

/// Where a request stands.
enum Stage {
    /// The agent works.
    Hearing(Exchange),
    /// The client is to say something.
    Asking(Asking),
    /// There is an answer.
    Answered(String),
    Over,
}

/// The next message of a call.
pub(super) enum Step {
    /// Something follows.
    Message(String),
    /// The answer.
    Last(String),
}

/// Why a call ends without an answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client cancelled it, and expects none.
    Cancelled,
    Refused(Refusal),
    /// The same, and the agent never saw it.
    NotBegun(Refusal),
}

impl From<Failed> for Stop {
    fn from(Failed { refusal, unsent }: Failed) -> Self {
        if unsent.is_some() { Self::NotBegun(refusal) } else { Self::Refused(refusal) }
    }
}

impl From<ExchangeError> for Stop {
    fn from(error: ExchangeError) -> Self {
        tracing::warn!(%error, "a translated request got no answer");
        Self::Refused(Refusal::AgentUnavailable)
    }
}

/// Waits for a part of a request's work, unless the request ends before.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    cut: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Stop::Cancelled),
        () = cut.cancelled() => Err(Stop::Refused(Refusal::CutOff)),
        done = work => Ok(done),
    }
}

impl Call {
    pub(super) fn new(app: Arc<App>, asked: Request) -> Self {
        let kept = asked.session.nonce.map(|nonce| app.legacy.sessions.of(nonce));
        let cancellable = kept.as_ref().map(|kept| kept.begin(&asked.id));
        let stop = cancellable.as_ref().map(|running| running.stop.clone()).unwrap_or_default();
        Self {
            app,
            asked,
            kept,
            _cancellable: cancellable,
            stop,
            stage: Stage::Over,
            outbox: VecDeque::new(),
            inputs: Inputs::default(),
            rounds: Rounds::default(),
            headers_renewed: false,
        }
    }

    /// Sends the request, whose params were read already. Whether the agent answers with a stream.
    pub(super) async fn begin(&mut self, params: Members<'_>) -> Result<bool, Stop> {
        self.send(Turn::First, params).await?;
        Ok(matches!(&self.stage, Stage::Hearing(exchange) if exchange.is_stream()))
    }

    /// The next message.
    pub(super) async fn step(&mut self) -> Result<Step, Stop> {
        loop {
            if let Some(message) = self.outbox.pop_front() {
                self.asked.pass.touch();
                return Ok(Step::Message(message));
            }
            match &mut self.stage {
                Stage::Hearing(exchange) => {
                    let cut = self.asked.pass.cut();
                    let heard = unless_stopped(&self.stop, &cut, exchange.next()).await??;
                    self.asked.pass.touch();
                    match heard {
                        Heard::Notification(text) => self.outbox.extend(downgrade::notification(&text)),
                        Heard::Answer(text) => self.judge(&text).await?,
                    }
                }
                Stage::Asking(_) => self.listen().await?,
                Stage::Answered(_) => {
                    if let Stage::Answered(answer) = std::mem::replace(&mut self.stage, Stage::Over) {
                        self.asked.record.set(Outcome::Answered);
                        return Ok(Step::Last(answer));
                    }
                }
                // Nothing follows the answer.
                Stage::Over => return Err(Stop::Cancelled),
            }
        }
    }

    pub(super) const fn record(&mut self) -> &mut Record {
        &mut self.asked.record
    }

    /// The last message of a stream that no answer comes on. Half a stream must not look like a whole one.
    pub(super) fn broke_off(&mut self, refusal: Refusal) -> Option<String> {
        if matches!(self.stage, Stage::Over) {
            return None;
        }
        self.stage = Stage::Over;
        self.asked.record.set(if refusal == Refusal::CutOff {
            Outcome::CutOff
        } else {
            Outcome::AgentBrokeOff
        });
        Some(refusal.body(Some(self.asked.id.clone())).to_string())
    }

    pub(super) const fn id(&self) -> &Value {
        &self.asked.id
    }

    /// Sends the request to the agent once more, with what the client has said so far.
    async fn send_again(&mut self) -> Result<(), Stop> {
        let body = self.asked.body.clone();
        match self.send(Turn::Later, params(&body)?).await {
            // What was carried out before is not undone by sending all of it again.
            Err(Stop::NotBegun(_)) => Err(Stop::Refused(Refusal::AgentUnavailable)),
            sent => sent,
        }
    }

    async fn send(&mut self, turn: Turn, params: Members<'_>) -> Result<(), Stop> {
        let parameters = self.parameters(&params, turn).await?;
        let outgoing = Outgoing {
            id: self.app.legacy.next_id(),
            method: &self.asked.method,
            params,
            level: Some(self.kept.as_ref().map_or(Level::USUAL, |kept| kept.level())),
            inputs: &self.inputs,
        };
        let request = outgoing
            .request(&self.asked.session, &self.asked.headers, &parameters)
            .map_err(Stop::NotBegun)?;
        let cut = self.asked.pass.cut();
        let sent = unless_stopped(&self.stop, &cut, forward(&self.app, &cut, request, turn)).await?;
        let (response, connection) = sent?;
        self.asked.pass.answered();
        let places = Arc::clone(&self.app.legacy.answer_places);
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(Stop::Refused(Refusal::TooLarge(self.asked.body.len().saturating_sub(1))));
        }
        self.stage = Stage::Hearing(Exchange::new(response, connection, places)?);
        Ok(())
    }

    /// The mirrored arguments of the tool that is called.
    async fn parameters(&self, params: &Members<'_>, turn: Turn) -> Result<Arc<[Parameter]>, Stop> {
        let Some(name) = params.text("name").filter(|_| self.asked.method == CALL_TOOL) else {
            return Ok(Arc::default());
        };
        let until = Instant::now() + self.app.hold_timeout;
        let known = self.app.legacy.tools.parameters(&name, &self.asked.user, &self.app.agent);
        let held = async {
            tokio::select! {
                biased;
                () = self.app.gate.closed(), if turn == Turn::First => Err(Stop::NotBegun(Refusal::Draining)),
                known = timeout_at(until, known) => known.map_err(|_| Stop::NotBegun(Refusal::AgentStarting)),
            }
        };
        unless_stopped(&self.stop, &self.asked.pass.cut(), held).await?
    }

    /// Finds out what an answer means: the client's answer, or another round.
    async fn judge(&mut self, text: &[u8]) -> Result<(), Stop> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            error: Option<Error>,
        }
        if let Stage::Hearing(exchange) = std::mem::replace(&mut self.stage, Stage::Over) {
            exchange.done();
        }
        match serde_json::from_slice(text).map_err(|_| unreadable())? {
            Answer { error: Some(error), .. } => self.judge_error(error).await,
            Answer { result: Some(result), .. } => {
                self.judge_result(Members::parse(result).map_err(|_| unreadable())?).await
            }
            Answer { result: None, error: None } => Err(unreadable()),
        }
    }

    async fn judge_result(&mut self, result: Members<'_>) -> Result<(), Stop> {
        match downgrade::kind(&result) {
            Kind::Complete => {
                let result = downgrade::result(&self.asked.method, result, &self.app.legacy.tools);
                self.stage = Stage::Answered(downgrade::response(&self.asked.id, Ok(&result)));
                Ok(())
            }
            Kind::InputRequired if ASKING.contains(&self.asked.method.as_str()) => {
                let asked = InputRequired::read(&result)
                    .and_then(|asked| asked.check(&self.asked.session.capabilities).map(|()| asked));
                match asked {
                    Ok(asked) => self.ask(asked).await,
                    Err(error) => {
                        self.fail(&error.to_string());
                        Ok(())
                    }
                }
            }
            Kind::InputRequired => {
                self.fail("the agent asks for input where it may not");
                Ok(())
            }
            Kind::Other(kind) => {
                self.fail(&format!("the agent's result is a {kind:?}, which this revision does not have"));
                Ok(())
            }
        }
    }

    async fn judge_error(&mut self, error: Error) -> Result<(), Stop> {
        let body = self.asked.body.clone();
        let params = params(&body)?;
        if error.code == HEADER_MISMATCH
            && self.asked.method == CALL_TOOL
            && !std::mem::replace(&mut self.headers_renewed, true)
            && let Some(name) = params.text("name")
        {
            // The tool has changed since its list was read. The agent has not begun: it refused the headers.
            self.app.legacy.tools.forget(&name);
            return self.send_again().await;
        }
        let uri = if self.asked.method == "resources/read" { params.text("uri") } else { None };
        let error = downgrade::error(error, uri.as_deref());
        self.stage = Stage::Answered(downgrade::response(&self.asked.id, Err(&error)));
        Ok(())
    }

    /// Fails for want of something that the server can't have.
    fn fail(&mut self, text: &str) {
        self.stage = Stage::Answered(downgrade::failure(&self.asked.method, &self.asked.id, text));
    }
}

/// The params of a client's request, which was read before.
fn params(body: &[u8]) -> Result<Members<'_>, Stop> {
    match message::read(body) {
        Ok(Message::Request { params, .. }) => Ok(params),
        Ok(_) => Err(unreadable()),
        Err(refusal) => Err(Stop::Refused(refusal)),
    }
}

fn unreadable() -> Stop {
    tracing::warn!("an answer of the agent's can't be read");
    Stop::Refused(Refusal::AgentUnavailable)
}
