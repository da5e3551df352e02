//! The rounds of a request: what the agent asks goes to the client as requests of a server's, and the request comes again
//! with the client's answers.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Call, Stage, Stop, unless_stopped, unreadable};
use crate::legacy::downgrade::{Error, META};
use crate::legacy::input::InputRequired;
use crate::legacy::members::{Members, raw};
use crate::legacy::outgoing::Inputs;
use crate::legacy::questions::{Answered, Asked};

/// So often may the agent ask in one request, as in the official clients.
const MOST_ROUNDS: u32 = 10;
/// Pause before a request comes again of which the agent asked nothing but that, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Of a client's error so much is told.
const MOST_OF_ERROR: usize = 500;

/// How often it was asked.
pub(super) struct Rounds {
    number: u32,
    pause: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { number: 0, pause: FIRST_PAUSE }
    }
}

/// What the client is asked.
pub(super) struct Asking {
    asked: Asked,
    until: Instant,
    left: usize,
    answers: Vec<(String, Box<RawValue>)>,
    state: Option<Box<RawValue>>,
}

impl Call {
    /// Begins another round: asks the client, or, if nothing is asked, sends the request again.
    pub(super) async fn ask(&mut self, required: InputRequired) -> Result<(), Stop> {
        let InputRequired { questions, state } = required;
        self.rounds.number += 1;
        if self.rounds.number > MOST_ROUNDS {
            self.fail(&format!("the agent asked for input more than {MOST_ROUNDS} times"));
            return Ok(());
        }
        if questions.is_empty() {
            let pause = self.rounds.pause;
            self.rounds.pause = (pause * 2).min(LONGEST_PAUSE);
            unless_stopped(&self.stop, &self.asked.pass.cut(), sleep(pause)).await?;
            self.inputs = Inputs { responses: None, state };
            return self.send_again().await;
        }
        self.rounds.pause = FIRST_PAUSE;
        // A client without a session has no capabilities, so nothing is asked of it.
        let Some(nonce) = self.asked.session.nonce else { return Err(unreadable()) };
        let mut asked = self.app.legacy.questions.ask(nonce);
        let mut requests = Vec::new();
        for (key, question) in &questions {
            match asked.question(key) {
                Ok(id) => requests.push(question.request(&id, self.asked.session.revision)),
                Err(error) => {
                    self.fail(&error.to_string());
                    return Ok(());
                }
            }
        }
        self.outbox.extend(requests);
        let until = Instant::now() + self.app.input_timeout;
        self.stage =
            Stage::Asking(Asking { asked, until, left: questions.len(), answers: Vec::new(), state });
        Ok(())
    }

    /// Waits for the client's answers, and sends the request again with them.
    pub(super) async fn listen(&mut self) -> Result<(), Stop> {
        let Stage::Asking(asking) = &mut self.stage else { return Ok(()) };
        let cut = self.asked.pass.cut();
        while asking.left > 0 {
            let next = timeout_at(asking.until, asking.asked.answers.recv());
            let problem = match unless_stopped(&self.stop, &cut, next).await? {
                Ok(Some(Answered { key, outcome: Ok(result) })) => {
                    asking.answers.push((key, result));
                    asking.left -= 1;
                    continue;
                }
                Ok(Some(Answered { key, outcome: Err(error) })) => told(&key, &error),
                Ok(None) => "the client's answers can't be had".to_owned(),
                Err(_) => format!("the client did not answer within {:?}", self.app.input_timeout),
            };
            self.give_up(&problem);
            return Ok(());
        }
        let mut responses = Members::default();
        for (key, result) in std::mem::take(&mut asking.answers) {
            responses.push(key, without_meta(result));
        }
        self.inputs = Inputs { responses: Some(raw(&responses)), state: asking.state.take() };
        self.send_again().await
    }

    /// Fails, and tells the client which questions are void.
    fn give_up(&mut self, problem: &str) {
        if let Stage::Asking(asking) = &self.stage {
            let void = |id| {
                let params = json!({"requestId": id, "reason": problem});
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string()
            };
            self.outbox.extend(asking.asked.open().into_iter().map(void));
        }
        self.fail(problem);
    }
}

/// What a client's error says.
fn told(key: &str, error: &RawValue) -> String {
    let key: String = key.chars().take(80).collect();
    match serde_json::from_str::<Error>(error.get()) {
        Ok(Error { code, message, .. }) => {
            let message: String = message.chars().take(MOST_OF_ERROR).collect();
            format!("the client refused {key:?}: {message} ({code})")
        }
        Err(_) => format!("the client refused {key:?}"),
    }
}

/// A client's result as an input response, which has no metadata of a response's own.
fn without_meta(result: Box<RawValue>) -> Box<RawValue> {
    match Members::parse(&result) {
        Ok(mut members) if members.get(META).is_some() => {
            members.remove(&[META]);
            raw(&members)
        }
        _ => result,
    }
}
