//! What the gateway adds to a call of a workspace that runs: the same calls with and without it, one after another and
//! many at once. Prints percentiles in milliseconds.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a measurement fails by panicking")]
#![allow(dead_code, unused_imports, reason = "it uses a part of what the tests share")]

#[path = "../tests/gateway/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use support::{Client, World, call, world};

const CALLS: usize = 5_000;
const CLIENTS: usize = 32;

/// One way to the sidecar.
#[derive(Clone)]
struct Way {
    client: Client,
    header: (&'static str, String),
}

impl Way {
    async fn call(&self) -> Duration {
        let headers = [
            (self.header.0, self.header.1.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let begun = Instant::now();
        let answer = self.client.send(Method::POST, "/mcp", &headers, call(1).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        begun.elapsed()
    }
}

#[tokio::main]
async fn main() {
    let world = world("limits: {requestsPerMinute: {perAddress: 0, perUser: 0}}").await;
    let sidecar = world.running("trader1").await;
    let through = through(&world);
    through.call().await;
    // The identity that the gateway made, sent to the sidecar directly.
    let identity = sidecar.seen()[0].headers["dexorder-identity"].to_str().unwrap().to_owned();
    let direct = Way { client: Client::new(sidecar.address), header: ("dexorder-identity", identity) };
    for (name, clients) in [("one after another", 1), ("32 at once", CLIENTS)] {
        for (way_name, way) in [("direct", &direct), ("through the gateway", &through)] {
            measure(way, clients, 500).await;
            let mut times = measure(way, clients, CALLS).await;
            times.sort_unstable();
            let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1000.0;
            println!(
                "{name}, {way_name}: p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms",
                at(500),
                at(950),
                at(990)
            );
        }
    }
}

fn through(world: &World) -> Way {
    let header = ("authorization", format!("Bearer {}", world.token("trader1")));
    Way { client: world.client.clone(), header }
}

async fn measure(way: &Way, clients: usize, calls: usize) -> Vec<Duration> {
    let way = Arc::new(way.clone());
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let way = Arc::clone(&way);
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..calls / clients {
                    times.push(way.call().await);
                }
                times
            })
        })
        .collect();
    futures::future::join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect()
}
