//! What a turn has come to so far: its messages, whole and half, so that it can be saved at any moment.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event::Event;
use super::history::Answered;
use super::llm::{Call, Delta, Message, Sink, Stop, Usage};
use super::record::Beginning;

/// The state of a turn.
pub(crate) struct Progress {
    turn: String,
    events: mpsc::Sender<Event>,
    /// What the user said, on its way to the workspace. No word of the model is passed on before it is there.
    pub(crate) beginning: Option<Beginning>,
    /// The size of the conversation that the prompt was made of, if it was remembered.
    pub(crate) remembered: Option<u64>,
    /// The turn's messages, the user's first.
    pub(crate) messages: Vec<Message>,
    pub(crate) usage: Usage,
    /// How many answers the model has begun.
    pub(crate) rounds: usize,
    pub(crate) stop: Stop,
    /// How long the model's answers had to wait: for what the user said to be kept, and for the client.
    pub(crate) held: Duration,
    ids: HashSet<String>,
    answer: Answer,
    /// The bytes of the question, until the provider has told the tokens.
    untold: Option<usize>,
    /// Results that have come of the calls that run now.
    results: HashMap<String, Message>,
}

/// The answer that the model is giving.
#[derive(Default)]
struct Answer {
    text: String,
    text_open: bool,
    calls: Vec<(u64, Call)>,
}

impl Answer {
    const fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }
}

impl Progress {
    pub(crate) fn new(turn: &str, question: Message, events: mpsc::Sender<Event>) -> Self {
        Self {
            turn: turn.to_owned(),
            events,
            beginning: None,
            remembered: None,
            messages: vec![question],
            usage: Usage::default(),
            rounds: 0,
            stop: Stop::End,
            held: Duration::ZERO,
            ids: HashSet::new(),
            answer: Answer::default(),
            untold: None,
            results: HashMap::new(),
        }
    }

    /// Tells the client. One that has gone is noticed elsewhere.
    pub(crate) async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// The model is asked. `bytes`: the size of the question, if it takes tokens.
    pub(crate) fn begin_answer(&mut self, bytes: Option<usize>) {
        self.rounds += 1;
        self.untold = bytes;
        self.stop = Stop::End;
        self.answer = Answer::default();
    }

    /// The answer is whole. Returns its calls.
    pub(crate) async fn end_answer(&mut self) -> Vec<Call> {
        self.close_text().await;
        self.estimate();
        let Answer { text, calls, .. } = std::mem::take(&mut self.answer);
        let calls: Vec<Call> = calls.into_iter().map(|(_, call)| call).collect();
        for call in &calls {
            self.tell(Event::CallEnd { id: call.id.clone() }).await;
        }
        if !text.is_empty() || !calls.is_empty() {
            self.messages.push(Message::Assistant { text, calls: calls.clone() });
        }
        calls
    }

    /// A call has ended.
    pub(crate) async fn result(&mut self, id: &str, content: String, failed: bool) {
        let call = id.to_owned();
        let message = format!("{}-{id}", self.turn);
        let told = Event::CallResult { id: call.clone(), message, content: content.clone(), failed };
        self.results.insert(call.clone(), Message::Result { call, content, failed });
        self.tell(told).await;
    }

    /// All calls of an answer have ended: their results follow in the order of the calls.
    pub(crate) fn end_calls(&mut self, calls: &[Call]) {
        for call in calls {
            self.messages.extend(self.results.remove(&call.id));
        }
    }

    /// Takes half an answer and calls without results into the messages, when the turn ends in the middle.
    pub(crate) fn break_off(&mut self, why: &str) {
        if !self.answer.is_empty() {
            self.estimate();
        }
        let Answer { text, calls, .. } = std::mem::take(&mut self.answer);
        if !text.is_empty() || !calls.is_empty() {
            let calls = calls.into_iter().map(|(_, call)| call).collect();
            self.messages.push(Message::Assistant { text, calls });
        }
        let answered: HashSet<&String> = self
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Result { call, .. } => Some(call),
                _ => None,
            })
            .collect();
        let open: Vec<String> = self
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Assistant { calls, .. } => Some(calls),
                _ => None,
            })
            .flatten()
            .filter(|call| !answered.contains(&call.id))
            .map(|call| call.id.clone())
            .collect();
        for call in open {
            let missing = || Message::Result { call: call.clone(), content: why.to_owned(), failed: true };
            let result = self.results.remove(&call).unwrap_or_else(missing);
            self.messages.push(result);
        }
    }

    /// Counts the tokens of the question and what there is of its answer, if the provider has not told them.
    fn estimate(&mut self) {
        if let Some(asked) = self.untold.take() {
            let calls = self.answer.calls.iter().map(|(_, call)| call.name.len() + call.arguments.len());
            self.usage += Usage::estimate(asked, self.answer.text.len() + calls.sum::<usize>());
        }
    }

    fn message_id(&self) -> String {
        format!("{}-{}", self.turn, self.rounds)
    }

    /// An id that no other call of the turn has: some servers count from 0 in each answer, some send none.
    fn unique(&mut self, id: String) -> String {
        let own = if id.is_empty() { format!("call_{}", self.ids.len()) } else { id };
        let mut id = own.clone();
        while !self.ids.insert(id.clone()) {
            id = format!("{own}_{}", self.ids.len());
        }
        id
    }

    async fn close_text(&mut self) {
        if std::mem::take(&mut self.answer.text_open) {
            self.tell(Event::TextEnd { message: self.message_id() }).await;
        }
    }

    /// Tells again what came of the turn when it ran before.
    pub(crate) async fn repeat(&mut self, answered: Answered) {
        for message in answered.messages {
            match message {
                Message::User(_) => {}
                Message::Assistant { text, calls } => {
                    self.begin_answer(None);
                    self.note(Delta::Text(text)).await;
                    for (index, Call { id, name, arguments }) in (0..).zip(calls) {
                        self.note(Delta::Call { index, id, name }).await;
                        self.note(Delta::Arguments { index, text: arguments }).await;
                    }
                    self.end_answer().await;
                }
                Message::Result { call, content, failed } => self.result(&call, content, failed).await,
            }
        }
        self.usage = answered.usage;
        self.stop = answered.stop;
    }

    async fn note(&mut self, delta: Delta) {
        if let Some(beginning) = &self.beginning {
            // Who keeps the turn in our place says what comes of it, or the model is asked anew.
            if !beginning.clone().await.fits(self.remembered) {
                std::future::pending::<()>().await;
            }
            self.beginning = None;
        }
        match delta {
            Delta::Text(text) if text.is_empty() => {}
            Delta::Text(text) => {
                let message = self.message_id();
                if !self.answer.text_open {
                    self.answer.text_open = true;
                    self.tell(Event::TextStart { message: message.clone() }).await;
                }
                self.answer.text.push_str(&text);
                self.tell(Event::Text { message, text }).await;
            }
            Delta::Call { index, id, name } => {
                self.close_text().await;
                let id = self.unique(id);
                let call = Call { id: id.clone(), name: name.clone(), arguments: String::new() };
                self.answer.calls.push((index, call));
                self.tell(Event::CallStart { id, name, message: self.message_id() }).await;
            }
            Delta::Arguments { index, text } => {
                let call = self.answer.calls.iter_mut().rev().find(|(number, _)| *number == index);
                if let Some((_, call)) = call {
                    call.arguments.push_str(&text);
                    let id = call.id.clone();
                    self.tell(Event::CallArguments { id, text }).await;
                }
            }
            Delta::Usage(usage) => {
                if usage.total() > 0 {
                    self.untold = None;
                }
                self.usage += usage;
            }
            Delta::Stop(stop) => self.stop = stop,
            Delta::End => {}
        }
    }
}

impl Sink for Progress {
    fn take(&mut self, delta: Delta) -> BoxFuture<'_, ()> {
        async {
            let come = Instant::now();
            self.note(delta).await;
            self.held += come.elapsed();
        }
        .boxed()
    }
}
