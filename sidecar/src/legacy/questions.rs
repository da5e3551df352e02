//! What clients were asked and have not answered, of all sessions. It is kept in memory as long as the request lives that
//! asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::session::{NoRandomness, Nonce};

/// So many wait for an answer at once.
const MOST: usize = 512;

/// All of them.
#[derive(Default)]
pub(super) struct Questions(Mutex<HashMap<String, Question>>);

struct Question {
    nonce: Nonce,
    key: String,
    answers: mpsc::UnboundedSender<Answered>,
}

/// A client's answer to what was asked under a key: a result, or an error.
pub(super) struct Answered {
    pub(super) key: String,
    pub(super) outcome: Result<Box<RawValue>, Box<RawValue>>,
}

/// Questions of one request. Those without an answer are forgotten when this is dropped.
pub(super) struct Asked {
    questions: Arc<Questions>,
    nonce: Nonce,
    ids: Vec<String>,
    sender: mpsc::UnboundedSender<Answered>,
    pub(super) answers: mpsc::UnboundedReceiver<Answered>,
}

/// Why a question can't be put.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("too much is asked of clients already")]
    TooMany,
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl Questions {
    /// Begins to ask a session's client.
    pub(super) fn ask(self: &Arc<Self>, nonce: Nonce) -> Asked {
        let (sender, answers) = mpsc::unbounded_channel();
        Asked { questions: Arc::clone(self), nonce, ids: Vec::new(), sender, answers }
    }

    /// Takes a client's answer. One that nobody waits for in this session is dropped, and false is returned.
    pub(super) fn answer(
        &self,
        nonce: Nonce,
        id: &Value,
        outcome: Result<Box<RawValue>, Box<RawValue>>,
    ) -> bool {
        let Some(id) = id.as_str() else { return false };
        let mut questions = self.lock();
        if questions.get(id).is_none_or(|question| question.nonce != nonce) {
            return false;
        }
        let Some(Question { key, answers, .. }) = questions.remove(id) else { return false };
        answers.send(Answered { key, outcome }).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Notes a question, and gives the id to put it under. It can't be guessed, so no other session's client answers it.
    pub(super) fn question(&mut self, key: &str) -> Result<String, AskError> {
        let mut random = [0_u8; 16];
        rand::fill(&mut random).map_err(|_| NoRandomness)?;
        let id = URL_SAFE_NO_PAD.encode(random);
        let mut questions = self.questions.lock();
        if questions.len() >= MOST {
            return Err(AskError::TooMany);
        }
        let question = Question { nonce: self.nonce, key: key.to_owned(), answers: self.sender.clone() };
        questions.insert(id.clone(), question);
        self.ids.push(id.clone());
        Ok(id)
    }

    /// The questions that were not answered.
    pub(super) fn open(&self) -> Vec<String> {
        let questions = self.questions.lock();
        self.ids.iter().filter(|id| questions.contains_key(*id)).cloned().collect()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut questions = self.questions.lock();
        for id in &self.ids {
            questions.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ONE: Nonce = [1; 16];
    const TWO: Nonce = [2; 16];

    fn text(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_the_client_that_was_asked_can_answer_and_only_once() {
        let questions = Arc::new(Questions::default());
        let mut asked = questions.ask(ONE);
        let id = json!(asked.question("name").unwrap());
        assert!(!questions.answer(TWO, &id, Ok(text("{}"))), "another session answered");
        assert!(!questions.answer(ONE, &json!("made up"), Ok(text("{}"))));
        assert!(!questions.answer(ONE, &json!(1), Ok(text("{}"))));
        assert!(questions.answer(ONE, &id, Ok(text(r#"{"a":1}"#))));
        assert!(!questions.answer(ONE, &id, Ok(text("{}"))), "it was answered twice");
        let answered = asked.answers.try_recv().unwrap();
        assert_eq!((answered.key.as_str(), answered.outcome.unwrap().get()), ("name", r#"{"a":1}"#));
    }

    #[test]
    fn questions_end_with_their_request_and_are_bounded() {
        let questions = Arc::new(Questions::default());
        let mut asked = questions.ask(ONE);
        let id = json!(asked.question("a").unwrap());
        drop(asked);
        assert!(!questions.answer(ONE, &id, Ok(text("{}"))));
        let mut many = questions.ask(ONE);
        for _ in 0..MOST {
            many.question("a").unwrap();
        }
        assert!(matches!(many.question("a"), Err(AskError::TooMany)));
        drop(many);
        assert!(questions.ask(TWO).question("a").is_ok());
    }
}
