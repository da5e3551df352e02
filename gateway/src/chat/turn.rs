//! One turn: context, model, tools, until the model answers; then the turn is saved, whoever still listens.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::cache::Memory;
use super::context;
use super::error::ChatError;
use super::event::Event;
use super::history::{self, Earlier, Known, Talk};
use super::llm::{Call, Message, Prompt};
use super::prepare::{self, Found, Read, Wanted};
use super::progress::Progress;
use super::record::{Beginning, Begun, Ending, Place, Record};
use super::summary::{self, Forgotten, Summary};
use super::tools::{Done, Tools};
use super::workspace::UserWorkspace;
use super::{Turning, model_of, tier_of};
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
    /// The turn's name was chosen by the client: it may have run before.
    pub(crate) keyed: bool,
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
pub(crate) async fn run(
    app: Arc<App>,
    question: Question,
    from: IpAddr,
    events: mpsc::Sender<Event>,
    turning: Turning,
) {
    let begun = Instant::now();
    let workspace = UserWorkspace { app: Arc::clone(&app), user: question.user.clone(), from };
    let asked = Message::User(question.text.clone());
    let place = Place {
        workspace: workspace.clone(),
        conversation: question.conversation.clone(),
        turn: question.turn.clone(),
        attempt: 0,
    };
    let mut turn = Turn {
        progress: Progress::new(&question.turn, asked, events.clone()),
        model: app.config.chat.model.clone(),
        limit: None,
        app: Arc::clone(&app),
        memory: None,
        workspace,
        question,
        place,
        awake: None,
        elsewhere: Duration::ZERO,
        beginning: None,
        talk: Talk::default(),
        context_told: false,
        repeated: false,
        forgotten: None,
        summary: None,
    };
    let outcome = tokio::select! {
        outcome = turn.answer() => Some(outcome),
        () = events.closed() => None,
        () = app.chat.abort.cancelled() => Some(Err(ChatError::ShuttingDown)),
    };
    turn.end(outcome, begun, turning).await;
}

struct Turn {
    app: Arc<App>,
    workspace: UserWorkspace,
    memory: Option<Arc<Memory>>,
    question: Question,
    place: Place,
    /// What the user said, on its way to the workspace.
    beginning: Option<Beginning>,
    /// The conversation before the turn, as far as it is known.
    talk: Talk,
    context_told: bool,
    /// The turn had come to its end before.
    repeated: bool,
    progress: Progress,
    model: ModelConfig,
    /// The limit that made the model answer without tools.
    limit: Option<&'static str>,
    /// When the workspace took connections.
    awake: Option<Instant>,
    /// How long the model and the tools took.
    elsewhere: Duration,
    /// What a new summary should cover, and the old one.
    forgotten: Option<(Forgotten, String)>,
    summary: Option<Summary>,
}

impl Turn {
    async fn answer(&mut self) -> Result<(), ChatError> {
        // What the client keeps itself is not read, but for a turn that may have run before.
        let client_keeps = self.question.earlier.is_some();
        let reads = !client_keeps || self.question.keyed;
        let mut remembered = !client_keeps;
        let limit = self.app.config.chat.timeout;
        loop {
            let Question { conversation, turn, .. } = &self.question;
            let wanted = reads.then_some(Wanted { conversation, turn, remembered });
            let found = prepare::find(&self.workspace, &self.progress, wanted, &mut self.awake).await?;
            let end = self.awake.unwrap_or_else(Instant::now) + limit;
            let answered = timeout_at(end, self.answer_awake(found)).await;
            if answered.unwrap_or(Err(ChatError::TooLong(limit.as_secs())))? {
                return Ok(());
            }
            // Not a word was told: the model is asked anew, with what is read.
            remembered = false;
            if let Some(memory) = &self.memory {
                memory.is_shared(&self.question.conversation);
            }
            self.progress.rounds = 0;
        }
    }

    /// False: what was remembered of the conversation is not what stands in the workspace.
    async fn answer_awake(&mut self, found: Found) -> Result<bool, ChatError> {
        let Some((prompt, tools)) = self.prompt(found).await? else { return Ok(true) };
        let remembered = self.progress.remembered;
        let unfit = unfit(self.beginning.clone(), remembered);
        tokio::select! {
            outcome = self.ask(prompt, tools) => outcome.map(|()| true),
            () = unfit => if remembered.is_some() { Ok(false) } else { Err(ChatError::TurnRunning) },
        }
    }

    /// Asks the model until it answers without calling a tool.
    async fn ask(&mut self, mut prompt: Prompt, tools: Tools) -> Result<(), ChatError> {
        let app = Arc::clone(&self.app);
        let config = &app.config.chat;
        let (mut malformed, mut called) = (0, 0);
        loop {
            self.limit_calls(&mut prompt, malformed, called);
            let takes_tokens = config.provider != Provider::Offline;
            self.progress.begin_answer(takes_tokens.then(|| prompt.bytes()));
            let (asked, held) = (Instant::now(), self.progress.held);
            let answered = app.chat.llm.ask(&prompt, &mut self.progress).await;
            self.elsewhere += asked.elapsed().saturating_sub(self.progress.held.saturating_sub(held));
            answered?;
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

    /// Makes the prompt of what was found, and begins to keep the turn. Nothing is left to do if it has come to its end
    /// before.
    async fn prompt(&mut self, found: Found) -> Result<Option<(Prompt, Tools)>, ChatError> {
        let Found { read: Read { memory, context, tools: listed, talk, remembered }, offers } = found;
        let app = Arc::clone(&self.app);
        let config = &app.config.chat;
        self.memory = Some(memory);
        self.model = model_of(&app, &self.question.user).clone();
        self.progress.remembered = talk.bytes.filter(|_| remembered);
        if self.repeat(&talk.lines).await? {
            return Ok(None);
        }
        let first = talk.total.saturating_sub(talk.lines.len() as u64);
        let Earlier { mut messages, dropped, forgotten } = match self.question.earlier.take() {
            Some(messages) => Earlier { messages, ..Earlier::default() },
            None => history::earlier(&talk.lines, first, config.history_bytes, &self.question.turn),
        };
        self.talk = talk;
        self.forgotten = forgotten.zip(context.summary().map(str::to_owned));
        let tools = Tools::new(listed, offers, config.keep_awake_minutes());
        if !std::mem::replace(&mut self.context_told, true) {
            self.progress.tell(Event::Context(context.report())).await;
        }
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
        Ok(Some((prompt, tools)))
    }

    /// Begins to keep what the user said, unless the turn ran before: one that came to its end is told again, which is
    /// all there is to do then, and one that didn't is run again.
    async fn repeat(&mut self, lines: &[Value]) -> Result<bool, ChatError> {
        let beginning = match history::find(lines, &self.question.turn) {
            None => self.place.begin(&self.question.text),
            Some((said, _)) if said != self.question.text => return Err(ChatError::KeyReused),
            Some((_, Known::Complete(answered))) => {
                self.repeated = true;
                self.model.name.clone_from(&answered.model);
                self.progress.repeat(*answered).await;
                return Ok(true);
            }
            Some((_, Known::Unfinished { runs })) => {
                self.place.attempt = runs;
                std::future::ready(Begun::Kept(None)).boxed().shared()
            }
        };
        self.progress.beginning = Some(beginning.clone());
        self.beginning = Some(beginning);
        Ok(false)
    }

    /// Keeps what came of the turn, whoever still listens, and tells its end.
    async fn end(self, outcome: Option<Result<(), ChatError>>, begun: Instant, turning: Turning) {
        let Self { mut progress, model, place, memory, summary, awake, elsewhere, talk, question, .. } = self;
        let ending = match &outcome {
            Some(Ok(())) => Ending::Complete,
            None | Some(Err(ChatError::ShuttingDown)) => Ending::Interrupted,
            Some(Err(error)) => Ending::Failed(error.to_string()),
        };
        let other = matches!(outcome, Some(Err(ChatError::TurnRunning | ChatError::KeyReused)));
        if self.repeated {
            progress.tell(Event::Saved(Ok(()))).await;
        } else if !other {
            progress.break_off(INTERRUPTED);
            self.app.chat.metrics.turn(&model.name, &ending, progress.usage, begun.elapsed());
            let user = &place.workspace.user;
            self.app.chat.budgets.spend(&tier_of(&self.app, user), user, progress.usage);
            // A workspace that could not be reached can't keep the turn either.
            if let Some(awake) = awake {
                let record = Record {
                    messages: &progress.messages,
                    ending: &ending,
                    model: &model.name,
                    usage: progress.usage,
                    stop: progress.stop,
                    rounds: progress.rounds,
                    summary: summary.as_ref(),
                };
                let begun = match self.beginning {
                    Some(beginning) => Some(beginning.await),
                    None => None,
                };
                let saved = place.end(&record, begun.clone()).await;
                if let Some(memory) = memory {
                    let bytes = saved.as_ref().ok().copied().flatten();
                    let lines = || place.lines(&question.text, &record);
                    memory.remember(&place.conversation, grown(talk, begun, bytes, lines));
                    if summary.is_some() {
                        memory.changed(context::SUMMARY);
                    }
                }
                let saved = saved.map(|_| ());
                self.app.chat.metrics.saved(saved.is_ok());
                if saved.is_ok() && ending == Ending::Complete {
                    self.app.chat.metrics.overhead(awake.elapsed().saturating_sub(elsewhere));
                }
                if let Err(error) = &saved {
                    tracing::warn!(error, turn = place.turn, "a turn could not be saved");
                }
                progress.tell(Event::Saved(saved)).await;
            }
        }
        drop(turning);
        let last = match outcome {
            Some(Ok(())) => Event::Finished { stop: progress.stop, usage: progress.usage, limit: self.limit },
            Some(Err(error)) => Event::Failed(error),
            None => return,
        };
        progress.tell(last).await;
    }

    /// Has the model renew the summary, if enough has left the prompt.
    async fn renew_summary(&mut self) {
        if let Some((forgotten, old)) = self.forgotten.take()
            && self.app.config.chat.provider != Provider::Offline
        {
            let asked = Instant::now();
            let renewed = summary::renew(&self.app.chat.llm, &self.model.name, &old, &forgotten).await;
            self.elsewhere += asked.elapsed();
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
        let begun = Instant::now();
        let (mut malformed, mut changes) = (0, false);
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
            changes |= routed.as_ref().is_ok_and(|(route, _)| route.changes());
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
        self.elsewhere += begun.elapsed();
        if changes && let Some(memory) = &self.memory {
            memory.clear();
        }
        self.progress.end_calls(calls);
        malformed
    }
}

/// The conversation with a turn that was kept, if nothing else was written to it since it was read. `bytes`: its size then.
fn grown(
    talk: Talk,
    begun: Option<Begun>,
    bytes: Option<u64>,
    lines: impl FnOnce() -> Vec<Value>,
) -> Option<Talk> {
    let (before, bytes) = (talk.bytes?, bytes?);
    begun?.fits(Some(before)).then(|| talk.with(lines(), bytes))
}

/// Comes to its end if someone else keeps the turn, or the prompt was made of what is not so.
async fn unfit(beginning: Option<Beginning>, remembered: Option<u64>) {
    if let Some(beginning) = beginning
        && !beginning.await.fits(remembered)
    {
        return;
    }
    std::future::pending::<()>().await;
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
