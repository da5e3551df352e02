//! Streams of both wire formats, cut into pieces and broken off at every byte.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::Frame;
use http_body_util::StreamBody;

use super::anthropic::Anthropic;
use super::client::read;
use super::openai::OpenAi;
use super::{Delta, Dialect, LlmError, Sink, Stop, Usage};
use crate::config::{Answers, TokensParameter};

const OPENAI: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße €\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"run\",",
    "\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\": \"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"time\",",
    "\"arguments\":\"{}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    ": a comment\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n",
    "data: [DONE]\n\n",
);

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",",
    "\"text\":\"Grüße €\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",",
    "\"id\":\"a\",\"name\":\"run\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",",
    "\"partial_json\":\"{\\\"x\\\": \"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",",
    "\"partial_json\":\"1}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",",
    "\"id\":\"b\",\"name\":\"time\",\"input\":{}}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":3}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

fn both() -> [(&'static str, Box<dyn Dialect>); 2] {
    [
        (OPENAI, Box::new(OpenAi { tokens: TokensParameter::MaxTokens, answers: Answers::Streamed })),
        (ANTHROPIC, Box::new(Anthropic)),
    ]
}

#[derive(Default)]
struct Heard(Vec<Delta>);

impl Sink for Heard {
    fn take(&mut self, delta: Delta) -> BoxFuture<'_, ()> {
        self.0.push(delta);
        std::future::ready(()).boxed()
    }
}

impl Heard {
    fn text(&self) -> String {
        let text = |delta: &Delta| match delta {
            Delta::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.0.iter().filter_map(text).collect()
    }

    fn arguments(&self, number: u64) -> String {
        let text = |delta: &Delta| match delta {
            Delta::Arguments { index, text } if *index == number => Some(text.clone()),
            _ => None,
        };
        self.0.iter().filter_map(text).collect()
    }
}

/// What is heard of a stream that comes in these pieces and then ends.
async fn hear(dialect: &dyn Dialect, pieces: &[&[u8]]) -> (Result<(), LlmError>, Heard) {
    let frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let mut heard = Heard::default();
    let body = StreamBody::new(futures::stream::iter(frames));
    let outcome = read(body, dialect.reader(), &mut heard, &mut false).await;
    (outcome, heard)
}

#[tokio::test]
async fn a_stream_that_is_cut_in_two_at_any_byte_is_the_same_answer() {
    for (wire, dialect) in both() {
        let first = u64::from(wire == ANTHROPIC);
        let (_, whole) = hear(&*dialect, &[wire.as_bytes()]).await;
        assert_eq!(whole.text(), "Grüße €");
        assert_eq!((whole.arguments(first), whole.arguments(first + 1)), ("{\"x\": 1}".into(), "{}".into()));
        assert!(whole.0.contains(&Delta::Stop(Stop::Calls)));
        assert!(whole.0.contains(&Delta::Usage(Usage { input: 7, output: 3, ..Usage::default() })));
        for place in 0..=wire.len() {
            let (before, after) = wire.as_bytes().split_at(place);
            let (outcome, heard) = hear(&*dialect, &[before, after]).await;
            assert_eq!((outcome, heard.0), (Ok(()), whole.0.clone()), "cut at {place}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_last_event_is_never_taken_for_whole() {
    for (wire, dialect) in both() {
        let (_, whole) = hear(&*dialect, &[wire.as_bytes()]).await;
        for place in 0..wire.len() {
            let (outcome, heard) = hear(&*dialect, &[&wire.as_bytes()[..place]]).await;
            assert_eq!(outcome, Err(LlmError::BrokeOff), "broken off at {place}");
            assert!(whole.0.starts_with(&heard.0), "broken off at {place}: {:?}", heard.0);
        }
    }
}
