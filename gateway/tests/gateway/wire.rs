//! What is no HTTP that two programs would read alike, and heads that are too large: refused as they come off the wire.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{World, call, world};

/// Sends bytes, and returns what comes back until the gateway closes the connection.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.gateway.address).await.unwrap();
    // The gateway may have answered and closed before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A tool call with these lines in its head besides.
fn request(world: &World, lines: &str, body: &str) -> Vec<u8> {
    let token = world.token("trader1");
    format!(
        "POST /mcp HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nConnection: close\r\n{lines}\r\n{body}"
    )
    .into_bytes()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_request_whose_length_or_lines_are_ambiguous_reaches_nobody() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let body = call(1).to_string();
    let length = body.len();
    let good = raw(&world, &request(&world, &format!("Content-Length: {length}\r\n"), &body)).await;
    assert_eq!(status(&good), "200", "{good}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    for lines in [
        format!("Content-Length: {length}\r\nContent-Length: {}\r\n", length - 1),
        format!("Content-Length: {length}, {}\r\n", length - 1),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        format!("Content-Length: 0x{length:x}\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("X: y\r\n folded\r\nContent-Length: {length}\r\n"),
        format!("X: a\0b\r\nContent-Length: {length}\r\n"),
        format!("{chunked}Transfer-Encoding: identity\r\n"),
        "Transfer-Encoding: chunked, gzip\r\n".to_owned(),
    ] {
        let answer = raw(&world, &request(&world, &lines, &body)).await;
        assert_eq!(status(&answer), "400", "{lines:?}: {answer}");
    }
    // A chunk whose length is none breaks the body off.
    for chunks in [format!("-1\r\n{body}\r\n0\r\n\r\n"), format!("{length:x}z\r\n{body}\r\n0\r\n\r\n")] {
        let answer = raw(&world, &request(&world, chunked, &chunks)).await;
        assert_eq!(status(&answer), "400", "{chunks:?}: {answer}");
    }
    assert_eq!(sidecar.seen().len(), 1);
}

#[tokio::test]
async fn a_head_over_128_kib_is_refused_while_it_comes() {
    let world = world("").await;
    let _sidecar = world.running("trader1").await;
    let body = call(1).to_string();
    let with_filling = |bytes: usize| {
        let lines = format!("Content-Length: {}\r\nX-Filling: {}\r\n", body.len(), "x".repeat(bytes));
        request(&world, &lines, &body)
    };
    assert_eq!(status(&raw(&world, &with_filling(32 * 1024)).await), "200");
    // One that is never whole is not kept either. A client that is still sending may see the end before the answer.
    let endless = [b"POST /mcp HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 200 * 1024]].concat();
    for large in [with_filling(200 * 1024), endless] {
        let answer = tokio::time::timeout(Duration::from_secs(10), raw(&world, &large)).await;
        let answer = answer.expect("the connection stays open");
        assert!(["431", ""].contains(&status(&answer)), "{answer}");
    }
    assert_eq!(world.client.get("/healthz").await.status, 200);
}
