//! Turns as the workspace keeps them, read back: into the prompt, to a client, and in answer to a request that comes
//! again.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::ChatError;
use super::llm::{Call, Message, Stop, Usage};
use super::record::{END, ESTIMATED, OPEN, SUMMARISED, UNREADABLE};
use super::summary::Forgotten;
use super::workspace::UserWorkspace;

/// How many of the newest messages are read back.
pub(crate) const LAST: usize = 1000;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A conversation as the workspace keeps it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Talk {
    /// The newest messages, the last one last.
    pub(crate) lines: Vec<Value>,
    /// How many there are in all.
    pub(crate) total: u64,
    /// The size of all of them, by which it is known whether others were added. Nothing: the workspace does not tell.
    pub(crate) bytes: Option<u64>,
}

impl Talk {
    /// With what was written since. `bytes`: the size of it all.
    pub(crate) fn with(mut self, lines: Vec<Value>, bytes: u64) -> Self {
        self.total += lines.len() as u64;
        self.lines.extend(lines);
        self.lines.drain(..self.lines.len().saturating_sub(LAST));
        self.bytes = Some(bytes);
        self
    }
}

/// Reads a conversation. `starting`: how long a workspace that is starting may take.
pub(crate) async fn read(
    workspace: &UserWorkspace,
    conversation: &str,
    last: usize,
    starting: Duration,
) -> Result<Talk, ChatError> {
    let what = "read the conversation";
    let arguments = json!({"conversation": conversation, "last": last});
    let mut result = workspace
        .call("read_conversation", &arguments, READ_TIMEOUT.max(starting))
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    if result.failed {
        return Err(ChatError::Workspace { what, error: result.text });
    }
    let mut whole = result.structured.take();
    if whole.is_null() {
        whole = serde_json::from_str(&result.text).unwrap_or_default();
    }
    let (total, bytes) = (whole["total"].as_u64().unwrap_or_default(), whole["bytes"].as_u64());
    match whole["messages"].take() {
        Value::Array(lines) => Ok(Talk { lines, total, bytes }),
        _ => Err(ChatError::Workspace { what, error: "it gave no messages".to_owned() }),
    }
}

/// The lines of one turn.
struct Kept<'a> {
    turn: &'a str,
    /// What was written under the turn's own key: what the user said, or all of it.
    begin: Vec<&'a Value>,
    /// What came of each run of the turn.
    runs: Vec<(&'a str, Vec<&'a Value>)>,
}

/// The turns in the order in which they began. A line without a key is a turn of its own.
fn turns(lines: &[Value]) -> Vec<Kept<'_>> {
    let mut turns: Vec<Kept<'_>> = Vec::new();
    for line in lines {
        let key = line["key"].as_str().unwrap_or_default();
        let (turn, end) = match key.rsplit_once(END) {
            Some((turn, rest)) if rest.is_empty() || rest.starts_with('.') => (turn, Some(key)),
            _ => (key, None),
        };
        // Mostly it is the last one.
        let known = turns.iter().rposition(|kept| !turn.is_empty() && kept.turn == turn);
        let place = known.unwrap_or_else(|| {
            turns.push(Kept { turn, begin: Vec::new(), runs: Vec::new() });
            turns.len() - 1
        });
        let kept = &mut turns[place];
        match end {
            None => kept.begin.push(line),
            Some(end) => match kept.runs.iter_mut().find(|(key, _)| *key == end) {
                Some((_, lines)) => lines.push(line),
                None => kept.runs.push((end, vec![line])),
            },
        }
    }
    turns
}

fn completes(lines: &[&Value]) -> bool {
    lines.last().is_some_and(|last| last["turn"]["state"] == "complete")
}

impl<'a> Kept<'a> {
    /// How many lines the turn has.
    fn count(&self) -> u64 {
        (self.begin.len() + self.runs.iter().map(|(_, lines)| lines.len()).sum::<usize>()) as u64
    }

    /// The lines that count: those of the run that came to an end, else of the last one.
    fn lines(&self) -> Vec<&'a Value> {
        let Some(last) = self.runs.last() else { return self.begin.clone() };
        let best = self.runs.iter().find(|(_, lines)| completes(lines)).unwrap_or(last);
        let said = self.begin.iter().filter(|line| line["role"] == "user");
        said.chain(&best.1).copied().collect()
    }

    /// Nothing has come of it: it runs, or was interrupted by something that left nobody to say so.
    fn open(&self) -> bool {
        self.runs.is_empty() && self.begin.last().is_some_and(|line| line["data"]["status"] == OPEN)
    }

    fn messages(&self) -> Vec<Message> {
        let mut messages = messages(&self.lines());
        if self.open() {
            messages.push(Message::Assistant { text: "[interrupted]".to_owned(), calls: Vec::new() });
        }
        messages
    }
}

/// A turn that is known already.
#[derive(Debug, PartialEq)]
pub(crate) enum Known {
    /// It came to its end, with this.
    Complete(Box<Answered>),
    /// It was run so often, to no end.
    Unfinished { runs: usize },
}

/// What came of a turn that is kept.
#[derive(Debug, PartialEq)]
pub(crate) struct Answered {
    pub(crate) messages: Vec<Message>,
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) stop: Stop,
}

/// Whether there is a turn of this name.
pub(crate) fn has(lines: &[Value], turn: &str) -> bool {
    turns(lines).iter().any(|kept| kept.turn == turn)
}

/// A turn of this name, with what the user said in it.
pub(crate) fn find(lines: &[Value], turn: &str) -> Option<(String, Known)> {
    let turns = turns(lines);
    let kept = turns.iter().find(|kept| kept.turn == turn)?;
    let lines = kept.lines();
    let said = lines.iter().find(|line| line["role"] == "user");
    let said = said.and_then(|line| line["content"].as_str()).unwrap_or_default().to_owned();
    if !completes(&lines) {
        return Some((said, Known::Unfinished { runs: kept.runs.len() }));
    }
    let last = lines.last().copied().unwrap_or(&Value::Null);
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let spent = &last["turn"]["usage"];
    let answered = Answered {
        messages: kept.messages(),
        model: spent["model"].as_str().unwrap_or_default().to_owned(),
        usage: Usage {
            input: number(&spent["input_tokens"]),
            output: number(&spent["output_tokens"]),
            cached: number(&last["data"]["cached_tokens"]),
            estimated: last["data"][ESTIMATED] == true,
        },
        stop: Stop::named(last["data"]["stop"].as_str().unwrap_or_default()),
    };
    Some((said, Known::Complete(Box::new(answered))))
}

/// The lines as a client sees them: each turn once, under one key. `runs` tells whether a turn runs now; one that
/// doesn't and has no end is shown as interrupted.
pub(crate) fn shown(lines: &[Value], runs: impl Fn(&str) -> bool) -> Vec<Value> {
    let mut shown = Vec::new();
    for kept in turns(lines) {
        let first = shown.len();
        shown.extend(kept.lines().into_iter().cloned());
        for line in &mut shown[first..] {
            if !kept.turn.is_empty() {
                line["key"] = Value::from(kept.turn);
            }
            if line["data"]["status"] == OPEN
                && let Some(line) = line.as_object_mut()
            {
                line.remove("data");
                line.remove("turn");
            }
        }
        if kept.open() && !runs(kept.turn) {
            let time = shown.last().map(|line| line["time"].clone());
            shown.push(json!({
                "time": time, "key": kept.turn, "role": "assistant", "content": "",
                "turn": {"state": "interrupted"}, "data": {"status": "interrupted"},
            }));
        }
    }
    shown
}

/// What the prompt gets of the earlier turns.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) messages: Vec<Message>,
    /// How many turns are not shown.
    pub(crate) dropped: usize,
    /// What of them no summary covers, if it is worth a new one.
    pub(crate) forgotten: Option<Forgotten>,
}

/// The earlier turns of a conversation but one, as many of the newest as the budget holds. `first`: the number of the
/// first line in the conversation.
pub(crate) fn earlier(lines: &[Value], first: u64, budget: usize, but: &str) -> Earlier {
    let turns: Vec<Kept<'_>> = turns(lines).into_iter().filter(|kept| kept.turn != but).collect();
    let (mut left, mut kept) = (budget, Vec::new());
    for turn in turns.iter().rev() {
        let messages = turn.messages();
        let size: usize = messages.iter().map(Message::bytes).sum();
        if size > left {
            break;
        }
        left -= size;
        kept.push(messages);
    }
    let dropped = turns.len() - kept.len();
    let known = lines.iter().filter_map(|line| line["data"][SUMMARISED].as_u64()).max().unwrap_or_default();
    let mut forgotten = Forgotten { messages: Vec::new(), covers: first };
    for turn in &turns[..dropped] {
        forgotten.covers += turn.count();
        if forgotten.covers > known {
            forgotten.messages.extend(turn.messages());
        }
    }
    // A summary for each turn that leaves the prompt would cost more than it tells.
    let worth = forgotten.messages.iter().map(Message::bytes).sum::<usize>() > budget / 4;
    Earlier {
        messages: kept.into_iter().rev().flatten().collect(),
        dropped,
        forgotten: worth.then_some(forgotten),
    }
}

/// The messages of one turn. The file is the user's own and may have been edited: each call gets one result.
fn messages(turn: &[&Value]) -> Vec<Message> {
    let mut messages = Vec::new();
    for line in turn {
        let content = line["content"].as_str().unwrap_or_default().to_owned();
        match line["role"].as_str() {
            Some("user") => messages.push(Message::User(content)),
            Some("assistant") => {
                let kept = line["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                let calls: Vec<Call> = kept.iter().enumerate().map(known_call).collect();
                let content = match line["data"]["status"].as_str() {
                    Some(status @ ("interrupted" | "failed")) => {
                        format!("{content}\n[{status}]").trim_start().to_owned()
                    }
                    _ => content,
                };
                if content.is_empty() && calls.is_empty() {
                    continue;
                }
                let results: Vec<Message> =
                    calls.iter().zip(kept).map(|(call, kept)| known_result(call, kept)).collect();
                messages.push(Message::Assistant { text: content, calls });
                messages.extend(results);
            }
            _ => {}
        }
    }
    messages
}

fn known_call((place, kept): (usize, &Value)) -> Call {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arguments = match kept["arguments"][UNREADABLE].as_str() {
        Some(text) => text.to_owned(),
        None if kept["arguments"].is_object() => kept["arguments"].to_string(),
        None => "{}".to_owned(),
    };
    let id = kept["id"].as_str().map_or_else(|| format!("call_{place}"), str::to_owned);
    Call { id, name: text(&kept["name"]), arguments }
}

fn known_result(call: &Call, kept: &Value) -> Message {
    let (content, failed) = match &kept["result"] {
        Value::Null => ("no result was kept".to_owned(), true),
        Value::String(text) => (text.clone(), kept["is_error"] == true),
        other => (other.to_string(), kept["is_error"] == true),
    };
    Message::Result { call: call.id.clone(), content, failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::record::{Ending, Record};

    /// The lines of a turn as the agent keeps them after both steps.
    fn turn(key: &str, ending: &Ending, messages: &[Message]) -> Vec<Value> {
        let usage = Usage { input: 5, output: 6, cached: 1, estimated: true };
        let (stop, rounds, summary) = (Stop::Length, 2, None);
        let record = Record { messages, ending, model: "m", usage, stop, rounds, summary };
        let mut lines = record.lines();
        for (place, line) in lines.iter_mut().enumerate() {
            let end = if place == 0 { "" } else { END };
            line["key"] = Value::from(format!("{key}{end}"));
        }
        lines[0]["data"] = json!({"status": OPEN});
        lines[0]["turn"] = json!({"state": "interrupted"});
        let state = if *ending == Ending::Complete { "complete" } else { "interrupted" };
        let spent = json!({"model": "m", "input_tokens": 5, "output_tokens": 6});
        lines.last_mut().unwrap()["turn"] = json!({"state": state, "usage": spent});
        lines
    }

    fn called() -> Vec<Message> {
        let call = |id: &str| Call { id: id.into(), name: "run".into(), arguments: "{}".into() };
        let result =
            |id: &str| Message::Result { call: id.into(), content: format!("of {id}"), failed: false };
        vec![
            Message::User("hello".into()),
            Message::Assistant { text: String::new(), calls: vec![call("a"), call("b")] },
            result("a"),
            result("b"),
            Message::Assistant { text: "done".into(), calls: vec![] },
        ]
    }

    fn all(lines: &[Value]) -> Vec<Message> {
        earlier(lines, 0, 10_000, "").messages
    }

    #[test]
    fn a_turn_is_read_back_as_it_was() {
        let lines = turn("t", &Ending::Complete, &called());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["data"]["status"], "complete");
        assert_eq!(lines[1]["tool_calls"][1]["result"], "of b");
        assert_eq!(all(&lines), called());
    }

    #[test]
    fn an_interrupted_turn_says_so_and_a_call_without_result_gets_one() {
        let lines = turn("t", &Ending::Interrupted, &called()[..3]);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["data"]["status"], "interrupted");
        let read = all(&lines);
        assert_eq!(read.len(), 5);
        assert!(matches!(&read[3], Message::Result { failed: true, .. }));
        assert_eq!(read[4], Message::Assistant { text: "[interrupted]".into(), calls: vec![] });
    }

    #[test]
    fn a_turn_that_nothing_came_of_is_shown_as_interrupted_once_unless_it_runs() {
        let mut lines = turn("t1", &Ending::Complete, &called());
        lines.truncate(1);
        lines.extend(turn("t2", &Ending::Complete, &called()));
        let seen = shown(&lines, |_| false);
        let states: Vec<&Value> = seen.iter().map(|line| &line["data"]["status"]).collect();
        assert_eq!(
            states,
            [&Value::Null, &json!("interrupted"), &Value::Null, &Value::Null, &json!("complete")]
        );
        assert!(seen[..2].iter().all(|line| line["key"] == "t1"));
        assert!(seen[2..].iter().all(|line| line["key"] == "t2"));
        assert_eq!(shown(&lines, |turn| turn == "t1").len(), 4);
        assert_eq!(all(&lines)[1], Message::Assistant { text: "[interrupted]".into(), calls: vec![] });
    }

    #[test]
    fn a_turn_that_was_run_again_counts_once_with_the_run_that_came_to_its_end() {
        let mut lines = turn("t", &Ending::Interrupted, &called()[..1]);
        assert_eq!(find(&lines, "t").unwrap().1, Known::Unfinished { runs: 1 });
        assert_eq!(find(&lines, "other"), None);
        // Another turn began meanwhile: the order is that of what the user said.
        lines.extend(turn("u", &Ending::Complete, &called()));
        let mut again = turn("t", &Ending::Complete, &called());
        for line in &mut again[1..] {
            line["key"] = json!("t.end.1");
        }
        lines.extend_from_slice(&again[1..]);
        assert_eq!(all(&lines), [called(), called()].concat());
        assert_eq!(shown(&lines, |_| false).len(), 6);
        let (said, known) = find(&lines, "t").unwrap();
        let Known::Complete(answered) = known else { panic!("{known:?}") };
        assert_eq!((said.as_str(), answered.messages.as_slice()), ("hello", called().as_slice()));
        assert_eq!((answered.usage.total(), answered.stop), (11, Stop::Length));
        assert_eq!(earlier(&lines, 0, 10_000, "t").messages, called());
    }

    #[test]
    fn arguments_that_were_no_json_are_kept_as_they_were() {
        let call = Call { id: "a".into(), name: "run".into(), arguments: "{\"x".into() };
        let asked = [
            Message::User("go".into()),
            Message::Assistant { text: String::new(), calls: vec![call.clone()] },
        ];
        let lines = turn("t", &Ending::Complete, &asked);
        assert!(lines[1]["tool_calls"][0]["arguments"].is_object());
        assert!(matches!(&all(&lines)[1], Message::Assistant { calls, .. } if calls[0] == call));
    }

    #[test]
    fn the_newest_turns_that_fit_are_kept_whole() {
        let line = |key: &str, role: &str, size: usize| json!({"key": key, "role": role, "content": "x".repeat(size)});
        let lines = [
            line("1", "user", 10),
            line("1", "assistant", 10),
            line("2", "user", 10),
            line("2.end", "assistant", 10),
            line("3", "user", 10),
            line("3.end", "assistant", 10),
        ];
        let count = |budget| {
            let earlier = earlier(&lines, 0, budget, "");
            (earlier.messages.len(), earlier.dropped)
        };
        assert_eq!(count(60), (6, 0));
        assert_eq!(count(59), (4, 1));
        assert_eq!(count(39), (2, 2));
        assert_eq!(count(5), (0, 3));
    }

    #[test]
    fn what_is_not_shown_any_more_is_summarised_once() {
        let line = |key: &str| json!({"key": key, "role": "user", "content": "x".repeat(10)});
        let mut lines = vec![line("1"), line("2"), line("3"), line("4")];
        let forgotten = |lines: &[Value], first| earlier(lines, first, 20, "").forgotten;
        let first = forgotten(&lines, 100).unwrap();
        assert_eq!((first.messages.len(), first.covers), (2, 102));
        lines[3]["data"] = json!({SUMMARISED: 102});
        assert_eq!(forgotten(&lines, 100), None, "the summary has them");
        lines.push(line("5"));
        let next = forgotten(&lines, 100).unwrap();
        assert_eq!((next.messages.len(), next.covers), (1, 103));
    }
}
