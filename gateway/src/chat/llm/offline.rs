//! The built-in mode without a model: it says what it is, and runs tools on plain commands such as
//! `/run_indicator name=rsi last=5`.

use serde_json::{Map, Value};
use std::fmt::Write;

use super::{Delta, Message, Prompt, Sink, Stop};

const GREETING: &str = "No language model is configured here, so this is the gateway's offline mode: it does not \
understand text, but it runs real tools in your workspace. Type a command, one a line:\n\n\
- `/tools` lists the tools\n\
- `/NAME argument=value ...` runs one, for example `/run_indicator name=rsi last=5`\n\
- `/NAME {\"argument\": \"value\"}` gives the arguments as JSON\n";

/// Answers as a model would: with text, or with tool calls.
pub(super) async fn answer(prompt: &Prompt, sink: &mut dyn Sink) {
    for delta in deltas(prompt) {
        sink.take(delta).await;
    }
}

fn deltas(prompt: &Prompt) -> Vec<Delta> {
    let begin = prompt.messages.iter().rposition(|message| matches!(message, Message::User(_)));
    let (question, after) = match begin {
        Some(begin) => (&prompt.messages[begin], &prompt.messages[begin + 1..]),
        None => return says(GREETING),
    };
    let results: Vec<String> = after
        .iter()
        .filter_map(|message| match message {
            Message::Result { call, content, failed } => {
                let name = name_of(after, call);
                let what = if *failed { " failed" } else { "" };
                Some(format!("`{name}`{what}:\n\n```\n{content}\n```\n"))
            }
            _ => None,
        })
        .collect();
    if !results.is_empty() {
        return says(&results.join("\n"));
    }
    let Message::User(text) = question else {
        return says(GREETING);
    };
    let commands: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with('/')).collect();
    if commands.is_empty() {
        return says(GREETING);
    }
    if commands.contains(&"/tools") {
        return says(&list(prompt));
    }
    let mut deltas = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let index = index as u64;
        let (name, rest) = command[1..].split_once(char::is_whitespace).unwrap_or((&command[1..], ""));
        let arguments = match arguments(rest.trim()) {
            Ok(arguments) => arguments,
            Err(problem) => return says(&format!("`{command}` can't be run: {problem}.\n")),
        };
        deltas.push(Delta::Call { index, id: format!("call_{index}"), name: name.to_owned() });
        deltas.push(Delta::Arguments { index, text: arguments.to_string() });
    }
    deltas.push(Delta::Stop(Stop::Calls));
    deltas
}

/// The text in pieces, as a model would send it.
fn says(text: &str) -> Vec<Delta> {
    let pieces = text.split_inclusive('\n').map(|piece| Delta::Text(piece.to_owned()));
    pieces.chain([Delta::Stop(Stop::End)]).collect()
}

fn name_of<'a>(messages: &'a [Message], id: &str) -> &'a str {
    let calls = messages.iter().filter_map(|message| match message {
        Message::Assistant { calls, .. } => Some(calls),
        _ => None,
    });
    calls.flatten().find(|call| call.id == id).map_or("tool", |call| &call.name)
}

fn list(prompt: &Prompt) -> String {
    let mut text = String::from("Tools:\n\n");
    for tool in &prompt.tools {
        let names = tool.parameters["properties"]
            .as_object()
            .map(|properties| properties.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
        let first = tool.description.split_inclusive(". ").next().unwrap_or_default().trim();
        let _ = writeln!(text, "- `/{}` ({}): {first}", tool.name, names.unwrap_or_default());
    }
    text
}

/// `name=rsi last=5`, `name="two words"` or a JSON object.
fn arguments(text: &str) -> Result<Value, String> {
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("its arguments are no JSON: {error}"));
    }
    let mut map = Map::new();
    for word in words(text)? {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("`{word}` is not of the form argument=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        map.insert(name.to_owned(), value);
    }
    Ok(Value::Object(map))
}

/// Splits at white space outside quotes and brackets. Quotes around a whole value are taken off; inside brackets they
/// stay, as they are part of JSON.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0_u32);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            '{' | '[' if !quoted => {
                depth += 1;
                word.push(c);
            }
            '}' | ']' if !quoted => {
                depth = depth.saturating_sub(1);
                word.push(c);
            }
            c if c.is_whitespace() && !quoted && depth == 0 => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_words_or_json() {
        for (text, expected) in [
            ("", json!({})),
            ("name=rsi last=5", json!({"name": "rsi", "last": 5})),
            (r#"text="two words" merge=true"#, json!({"text": "two words", "merge": true})),
            (r#"name=rsi parameters={"period": 7}"#, json!({"name": "rsi", "parameters": {"period": 7}})),
            (r#"{"name": "rsi"}"#, json!({"name": "rsi"})),
        ] {
            assert_eq!(arguments(text), Ok(expected), "{text}");
        }
        assert!(arguments("rsi").unwrap_err().contains("argument=value"));
        assert!(arguments("{").is_err());
        assert!(arguments("a=\"b").is_err());
    }
}
