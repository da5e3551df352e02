//! One turn: context, model, tools, until the model answers; then the turn is saved, whoever still listens.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::context::Context;
use super::error::ChatError;
use super::event::Event;
use super::history::{self, Earlier, Ending, Record};
use super::llm::{Call, Message, Prompt};
use super::progress::Progress;
use super::summary::{self, Forgotten, Summary};
use super::tools::{Done, Tools};
use super::workspace::UserWorkspace;
use super::{Turning, model_of};
use crate::app::App;
use crate::config::{ModelConfig, Provider};

/// How often the model may write calls that can't be read before it must answer without tools.
const REPAIRS: usize = 1;
const INTERRUPTED: &str = "the turn was interrupted before the result came";

/// What a client asks for.
pub(crate) struct Question {
    pub(crate) user: String,
    pub(crate) conversation: String,
    pub(crate) turn: String,
    /// What the user says now.
    pub(crate) text: String,
    /// The messages before, if the client keeps the conversation itself.
    pub(crate) earlier: Option<Vec<Message>>,
    /// What the client adds to the system prompt.
    pub(crate) instructions: Vec<String>,
    pub(crate) model: Option<String>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
}

/// Runs a turn to its end and saves it. A client that leaves (the receiver of the events is gone) interrupts it.
pub(crate) async fn run(app: Arc<App>, question: Question, events: mpsc::Sender<Event>, turning: Turning) {
    let begun = Instant::now();
    let workspace = UserWorkspace { app: Arc::clone(&app), user: question.user.clone() };
    let asked = Message::User(question.text.clone());
    let mut turn = Turn {
        progress: Progress::new(&question.turn, asked, events.clone()),
        model: app.config.chat.model.clone(),
        limit: None,
        app: Arc::clone(&app),
        workspace: workspace.clone(),
        question,
        connected: false,
        forgotten: None,
        summary: None,
    };
    let outcome = tokio::select! {
        outcome = turn.answer() => Some(outcome),
        () = events.closed() => None,
        () = app.chat.abort.cancelled() => Some(Err(ChatError::ShuttingDown)),
    };
    let Turn { mut progress, model, limit, question, connected, summary, .. } = turn;
    let ending = match &outcome {
        Some(Ok(())) => Ending::Complete,
        None | Some(Err(ChatError::ShuttingDown)) => Ending::Interrupted,
        Some(Err(error)) => Ending::Failed(error.to_string()),
    };
    progress.break_off(INTERRUPTED);
    app.chat.metrics.turn(&model.name, &ending, progress.usage, begun.elapsed());
    // A workspace that could not be reached can't keep the turn either.
    if connected {
        let record = Record {
            conversation: &question.conversation,
            turn: &question.turn,
            messages: &progress.messages,
            ending: &ending,
            model: &model.name,
            usage: progress.usage,
            rounds: progress.rounds,
            summary: summary.as_ref(),
        };
        let saved = record.save(&workspace).await;
        app.chat.metrics.saved(saved.is_ok());
        if let Err(error) = &saved {
            tracing::warn!(error, turn = question.turn, "a turn could not be saved");
        }
        progress.tell(Event::Saved(saved)).await;
    }
    drop(turning);
    let last = match outcome {
        Some(Ok(())) => Event::Finished { stop: progress.stop, usage: progress.usage, limit },
        Some(Err(error)) => Event::Failed(error),
        None => return,
    };
    progress.tell(last).await;
}

struct Turn {
    app: Arc<App>,
    workspace: UserWorkspace,
    question: Question,
    progress: Progress,
    model: ModelConfig,
    /// The limit that made the model answer without tools.
    limit: Option<&'static str>,
    connected: bool,
    /// What a new summary should cover, and the old one.
    forgotten: Option<(Forgotten, String)>,
    summary: Option<Summary>,
}

impl Turn {
    async fn answer(&mut self) -> Result<(), ChatError> {
        let progress = &self.progress;
        let within =
            self.workspace.connect(async |state| progress.tell(Event::Waking { state }).await).await?;
        self.connected = true;
        self.model = model_of(&self.app, &self.question.user).clone();
        let limit = self.app.config.chat.timeout;
        timeout(limit, self.answer_awake(within)).await.unwrap_or(Err(ChatError::TooLong(limit.as_secs())))
    }

    async fn answer_awake(&mut self, within: Duration) -> Result<(), ChatError> {
        let (mut prompt, tools) = self.prepare(within).await?;
        let app = Arc::clone(&self.app);
        let config = &app.config.chat;
        let (mut malformed, mut called) = (0, 0);
        loop {
            self.limit_calls(&mut prompt, malformed, called);
            self.progress.begin_answer();
            app.chat.llm.ask(&prompt, &mut self.progress).await?;
            let before = self.progress.messages.len();
            let calls = self.progress.end_answer().await;
            if calls.is_empty() {
                self.renew_summary().await;
                return Ok(());
            }
            if !prompt.may_call {
                // It was told not to and did: what it said besides is the answer.
                self.progress.break_off("no more tools can be called in this turn");
                return Ok(());
            }
            let left = config.max_tool_calls.saturating_sub(called);
            called += calls.len();
            malformed += self.run_calls(&tools, &calls, left).await;
            let new = self.progress.messages[before..].to_vec();
            prompt.messages.extend(new);
        }
    }

    /// Reads everything that the prompt is made of, at once.
    async fn prepare(&mut self, within: Duration) -> Result<(Prompt, Tools), ChatError> {
        let config = &self.app.config.chat;
        let earlier = async {
            match &self.question.earlier {
                Some(messages) => Ok(Earlier { messages: messages.clone(), ..Earlier::default() }),
                None => {
                    history::earlier(&self.workspace, &self.question.conversation, config.history_bytes).await
                }
            }
        };
        let (context, listed, earlier) = tokio::join!(
            Context::read(&self.workspace, within, config.context_bytes),
            self.workspace.tools(within),
            earlier,
        );
        let Earlier { mut messages, dropped, forgotten } = earlier?;
        self.forgotten = forgotten.zip(context.summary().map(str::to_owned));
        let tools = Tools::new(listed);
        self.progress.tell(Event::Context(context.report())).await;
        let mut notes = tools.notes.clone();
        if dropped > 0 {
            notes.push(format!(
                "The {dropped} oldest turns of this conversation are not shown; read_conversation reads them."
            ));
        }
        for text in &self.question.instructions {
            notes.push(format!("The user's client adds:\n{text}"));
        }
        messages.push(Message::User(self.question.text.clone()));
        let most = self.model.max_tokens;
        let prompt = Prompt {
            model: self.model.name.clone(),
            system: context.system_prompt(&notes),
            messages,
            tools: tools.specs.clone(),
            may_call: true,
            max_tokens: self.question.max_tokens.map_or(most, |asked| asked.min(most)),
            temperature: self.question.temperature,
            top_p: self.question.top_p,
        };
        Ok((prompt, tools))
    }

    /// Has the model renew the summary, if enough has left the prompt.
    async fn renew_summary(&mut self) {
        if let Some((forgotten, old)) = self.forgotten.take()
            && self.app.config.chat.provider != Provider::Offline
        {
            let renewed = summary::renew(&self.app.chat.llm, &self.model.name, &old, &forgotten).await;
            self.summary = renewed.0;
            self.progress.usage += renewed.1;
        }
    }

    /// Takes the tools away when a limit is reached, so that the turn ends with an answer.
    fn limit_calls(&mut self, prompt: &mut Prompt, malformed: usize, called: usize) {
        let config = &self.app.config.chat;
        let spent = self.model.turn_tokens.is_some_and(|most| self.progress.usage.total() >= most);
        let limit = if self.progress.rounds + 1 >= config.max_rounds {
            "rounds"
        } else if called >= config.max_tool_calls {
            "tool calls"
        } else if malformed > REPAIRS {
            "malformed calls"
        } else if spent {
            "tokens"
        } else {
            return;
        };
        // A limit of one round leaves no room for tools at all: that is no event.
        if self.progress.rounds > 0 {
            self.limit = Some(limit);
        }
        prompt.may_call = false;
    }

    /// Runs the calls of one answer at once. Returns 1 if one of them could not be read.
    async fn run_calls(&mut self, tools: &Tools, calls: &[Call], left: usize) -> usize {
        let config = &self.app.config.chat;
        let (within, most) = (config.tool_timeout, config.result_bytes);
        let workspace = &self.workspace;
        let metrics = &self.app.chat.metrics;
        let mut malformed = 0;
        let mut running = FuturesUnordered::new();
        for (place, call) in calls.iter().enumerate() {
            let routed = if place < left {
                tools.route(&call.name, &call.arguments)
            } else {
                Err("this turn has no more tool calls: answer with what there is".to_owned())
            };
            if routed.is_err() && place < left {
                malformed = 1;
            }
            running.push(async move {
                let done = match routed {
                    Ok((route, arguments)) => route.run(workspace, &arguments, within).await,
                    Err(content) => Done { content, failed: true },
                };
                metrics.called(done.failed);
                (place, cut(done, most))
            });
        }
        while let Some((place, done)) = running.next().await {
            self.progress.result(&calls[place].id, done.content, done.failed).await;
        }
        drop(running);
        self.progress.end_calls(calls);
        malformed
    }
}

/// Cuts a result that is too long, and says so.
fn cut(done: Done, most: usize) -> Done {
    let Done { mut content, failed } = done;
    if content.len() > most {
        let whole = content.len();
        content.truncate(content.floor_char_boundary(most));
        let _ = write!(content, "\n[cut: {most} of {whole} bytes are shown]");
    }
    Done { content, failed }
}

/// How long a shutdown leaves interrupted turns for being saved.
pub(crate) const SAVING: Duration = Duration::from_secs(5);
