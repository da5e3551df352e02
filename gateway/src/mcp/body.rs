//! Reads bodies within limits of size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use dexorder_protocol::jsonrpc;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::limits::{Held, Limit};
use crate::refusal::Refusal;

/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The body of a request without a valid token is read up to this size, for its id.
const READ_FOR_ID: usize = 64 * 1024;
const READ_FOR_ID_TIMEOUT: Duration = Duration::from_secs(1);
/// Of a body that is over the limit, so much is read and dropped before the connection is closed.
const MOST_DROPPED: usize = 64 * 1024 * 1024;
/// When to come again if there is no room for a body.
const CROWDED_SECONDS: u16 = 5;

/// The id of a request that is refused whatever it says, if its body is small and comes at once.
pub(super) async fn read_id(headers: &HeaderMap, body: Body) -> Option<Value> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(1..=READ_FOR_ID) => {
            match timeout(READ_FOR_ID_TIMEOUT, Limited::new(body, READ_FOR_ID).collect()).await {
                Ok(Ok(body)) => jsonrpc::request_id(&body.to_bytes()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The whole body, up to the limit. What is over the limit is read too, and dropped: a client that is still sending
/// when the connection closes never sees the answer.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    read_held(headers, body, limit, &mut None).await
}

/// The same, where what is kept of it counts.
pub(super) async fn read_held(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    held: &mut Option<Held>,
) -> Result<Bytes, Refusal> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let keep = announced.is_none_or(|length| length <= limit as u64);
    timeout(BODY_TIMEOUT, collect(body, limit, keep, held))
        .await
        .unwrap_or(Err(Refusal::BodyTimeout(BODY_TIMEOUT.as_secs())))
}

async fn collect(
    mut body: Body,
    limit: usize,
    keep: bool,
    held: &mut Option<Held>,
) -> Result<Bytes, Refusal> {
    let (mut kept, mut dropped) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else {
            continue;
        };
        if keep && dropped == 0 && kept.len() + data.len() <= limit {
            if held.as_mut().is_some_and(|held| !held.grow(kept.len() + data.len())) {
                return Err(Refusal::TooMany { limit: Limit::Bodies, seconds: CROWDED_SECONDS });
            }
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
            dropped += data.len();
            if dropped > MOST_DROPPED {
                break;
            }
        }
    }
    if dropped > 0 { Err(Refusal::TooLarge(limit)) } else { Ok(kept.freeze()) }
}
