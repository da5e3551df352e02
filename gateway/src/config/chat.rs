//! The part of the configuration that is about the chat: which model answers, and what a turn may take.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::servers::{self, RawServer, ServerConfig};
use super::values::{Problems, byte_size, label};

/// Everything that the chat is told.
#[derive(Clone, Debug)]
pub struct ChatConfig {
    /// Who answers.
    pub provider: Provider,
    /// URL of the provider's API, without a slash at its end. Empty for [`Provider::Offline`].
    pub base_url: String,
    /// The model of users whose tier names none.
    pub model: ModelConfig,
    /// Models by tier.
    pub tiers: BTreeMap<String, ModelConfig>,
    /// File with the provider's key, reread at each call.
    pub api_key_file: Option<PathBuf>,
    /// PEM of certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Name of the parameter that bounds an answer, for [`Provider::OpenAi`].
    pub tokens_parameter: TokensParameter,
    /// How answers are asked for, for [`Provider::OpenAi`].
    pub answers: Answers,
    /// How often the model may be asked in one turn.
    pub max_rounds: usize,
    /// How many tool calls a turn may have.
    pub max_tool_calls: usize,
    /// How many turns of one user may run at once in one replica.
    pub max_turns: usize,
    /// How long a turn may take, waking not counted.
    pub timeout: Duration,
    /// How long one tool call may take.
    pub tool_timeout: Duration,
    /// How long the workspace's context is waited for.
    pub context_timeout: Duration,
    /// Most bytes of context in the prompt.
    pub context_bytes: usize,
    /// Most bytes of earlier turns in the prompt.
    pub history_bytes: usize,
    /// Most bytes of one tool result.
    pub result_bytes: usize,
    /// For how long the user may have the workspace kept awake.
    pub keep_awake_most: Duration,
    /// MCP servers of the platform.
    pub servers: Vec<ServerConfig>,
}

impl ChatConfig {
    /// For how many minutes the user may have the workspace kept awake.
    pub const fn keep_awake_minutes(&self) -> u64 {
        self.keep_awake_most.as_secs() / 60
    }
}

/// A model and its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The provider's name of it.
    pub name: String,
    /// Most tokens of one answer.
    pub max_tokens: u32,
    /// Most tokens, in and out, that one turn may use. Nothing: no bound but the others.
    pub turn_tokens: Option<u64>,
    /// Most tokens, in and out, that one user may use in a day at one replica. Nothing: no bound.
    pub day_tokens: Option<u64>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Nobody: a built-in mode that runs tools on plain commands.
    Offline,
    /// An API in the manner of OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages API.
    Anthropic,
}

/// How an API in the manner of OpenAI's is told the most tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensParameter {
    /// What most servers know.
    MaxTokens,
    /// What OpenAI's own newer models want.
    MaxCompletionTokens,
}

/// How an API in the manner of OpenAI's is asked to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Piece by piece.
    Streamed,
    /// At once: some servers can't stream calls of tools.
    Whole,
}

impl Answers {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Streamed => "streamed",
            Self::Whole => "whole",
        }
    }
}

impl TokensParameter {
    /// The parameter's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

impl Provider {
    /// The text in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct RawChat {
    provider: String,
    base_url: String,
    model: String,
    max_tokens: u32,
    turn_tokens: Option<u64>,
    day_tokens: Option<u64>,
    tiers: BTreeMap<String, RawModel>,
    api_key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    tokens_parameter: String,
    answers: String,
    max_rounds: usize,
    max_tool_calls: usize,
    max_turns: usize,
    timeout: String,
    tool_timeout: String,
    context_timeout: String,
    context_size: String,
    history_size: String,
    result_size: String,
    keep_awake_most: String,
    servers: Vec<RawServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawModel {
    model: Option<String>,
    max_tokens: Option<u32>,
    turn_tokens: Option<u64>,
    day_tokens: Option<u64>,
}

impl Default for RawChat {
    fn default() -> Self {
        Self {
            provider: "offline".to_owned(),
            base_url: String::new(),
            model: String::new(),
            max_tokens: 4096,
            turn_tokens: None,
            day_tokens: None,
            tiers: BTreeMap::new(),
            api_key_file: None,
            ca_file: None,
            tokens_parameter: "max_tokens".to_owned(),
            answers: "streamed".to_owned(),
            max_rounds: 12,
            max_tool_calls: 64,
            max_turns: 4,
            timeout: "10m".to_owned(),
            tool_timeout: "2m".to_owned(),
            context_timeout: "3s".to_owned(),
            context_size: "64KiB".to_owned(),
            history_size: "128KiB".to_owned(),
            result_size: "64KiB".to_owned(),
            keep_awake_most: "4h".to_owned(),
            servers: Vec::new(),
        }
    }
}

impl RawChat {
    pub(super) fn check(self, problems: &mut Problems) -> Option<ChatConfig> {
        let provider = problems.take(
            "chat.provider",
            &self.provider,
            "offline, openai or anthropic",
            match self.provider.as_str() {
                "offline" => Some(Provider::Offline),
                "openai" => Some(Provider::OpenAi),
                "anthropic" => Some(Provider::Anthropic),
                _ => None,
            },
        );
        let offline = provider == Some(Provider::Offline);
        let base_url = if offline {
            Some(String::new())
        } else {
            problems.take(
                "chat.baseUrl",
                &self.base_url,
                "the http or https URL of the provider's API, like https://api.openai.com/v1 or \
                 https://api.anthropic.com/v1",
                api_url(&self.base_url),
            )
        };
        if !offline && self.model.is_empty() {
            problems.add("chat.model", "is empty: expected the provider's name of a model");
        }
        let name = if offline { "offline".to_owned() } else { self.model };
        let model = ModelConfig {
            name,
            max_tokens: self.max_tokens,
            turn_tokens: self.turn_tokens,
            day_tokens: self.day_tokens,
        };
        positive(problems, "chat.maxTokens", model.max_tokens as usize, 1_000_000);
        let mut tiers = BTreeMap::new();
        for (tier, raw) in self.tiers {
            problems.take("chat.tiers", &tier, "the name of a WorkspaceTier", label(&tier));
            let own = ModelConfig {
                name: raw.model.filter(|_| !offline).unwrap_or_else(|| model.name.clone()),
                max_tokens: raw.max_tokens.unwrap_or(model.max_tokens),
                turn_tokens: raw.turn_tokens.or(model.turn_tokens),
                day_tokens: raw.day_tokens.or(model.day_tokens),
            };
            positive(problems, &format!("chat.tiers.{tier}.maxTokens"), own.max_tokens as usize, 1_000_000);
            tiers.insert(tier, own);
        }
        let tokens_parameter = problems.take(
            "chat.tokensParameter",
            &self.tokens_parameter,
            "max_tokens or max_completion_tokens",
            [TokensParameter::MaxTokens, TokensParameter::MaxCompletionTokens]
                .into_iter()
                .find(|parameter| parameter.as_str() == self.tokens_parameter),
        );
        let answers = problems.take(
            "chat.answers",
            &self.answers,
            "streamed, or with the provider openai whole",
            [Answers::Streamed, Answers::Whole].into_iter().find(|answers| {
                let known = *answers == Answers::Streamed || provider == Some(Provider::OpenAi);
                known && answers.as_str() == self.answers
            }),
        );
        positive(problems, "chat.maxRounds", self.max_rounds, 30);
        positive(problems, "chat.maxToolCalls", self.max_tool_calls, 120);
        positive(problems, "chat.maxTurns", self.max_turns, 1000);
        let timeout = time(problems, "chat.timeout", &self.timeout);
        let tool_timeout = time(problems, "chat.toolTimeout", &self.tool_timeout);
        let context_timeout = time(problems, "chat.contextTimeout", &self.context_timeout);
        let context_bytes = size(problems, "chat.contextSize", &self.context_size);
        let history_bytes = size(problems, "chat.historySize", &self.history_size);
        let result_bytes = size(problems, "chat.resultSize", &self.result_size);
        let day = Duration::from_mins(1)..=Duration::from_hours(24);
        let expected = "a duration from 1m to 24h, like 4h";
        let keep_awake_most = within(problems, "chat.keepAwakeMost", &self.keep_awake_most, &day, expected);
        let servers = servers::check(self.servers, problems);
        Some(ChatConfig {
            provider: provider?,
            base_url: base_url?,
            model,
            tiers,
            api_key_file: self.api_key_file,
            ca_file: self.ca_file,
            tokens_parameter: tokens_parameter?,
            answers: answers?,
            max_rounds: self.max_rounds,
            max_tool_calls: self.max_tool_calls,
            max_turns: self.max_turns,
            timeout: timeout?,
            tool_timeout: tool_timeout?,
            context_timeout: context_timeout?,
            context_bytes: context_bytes?,
            history_bytes: history_bytes?,
            result_bytes: result_bytes?,
            keep_awake_most: keep_awake_most?,
            servers,
        })
    }
}

fn positive(problems: &mut Problems, place: &str, value: usize, most: usize) {
    if !(1..=most).contains(&value) {
        problems.add(place, &format!("is {value}: expected a number from 1 to {most}"));
    }
}

pub(super) fn time(problems: &mut Problems, place: &str, text: &str) -> Option<Duration> {
    let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
    within(problems, place, text, &bounds, "a duration from 1s to 1h, like 2m")
}

fn within(
    problems: &mut Problems,
    place: &str,
    text: &str,
    bounds: &RangeInclusive<Duration>,
    expected: &str,
) -> Option<Duration> {
    let value = text.parse::<dexorder_crds::Duration>().ok().map(dexorder_crds::Duration::as_std);
    problems.take(place, text, expected, value.filter(|value| bounds.contains(value)))
}

fn size(problems: &mut Problems, place: &str, text: &str) -> Option<usize> {
    // The agent keeps messages of up to 500 000 characters.
    let bounds = 1024..=448 * 1024;
    problems.take(
        place,
        text,
        "a size from 1KiB to 448KiB, like 64KiB",
        byte_size(text).filter(|value| bounds.contains(value)),
    )
}

/// An http or https URL without query, fragment or credentials; the result has no slash at its end.
pub(super) fn api_url(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.query().is_none() && !uri.authority()?.as_str().contains('@') && !text.contains('#');
    (web && plain).then(|| text.trim_end_matches('/').to_owned())
}
