//! What anybody may cost: requests, new workspaces, and starts without a credential.

use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Answer, World, call, name_of, status, until, world};

/// A call from an address, behind a proxy that is trusted.
async fn from(world: &World, address: &str, path: &str, token: Option<&str>) -> Answer {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        ("x-forwarded-for", address),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    world.client.send(Method::POST, path, &headers, call(7).to_string()).await
}

const PROXY: &str = "trustedProxies: ['127.0.0.0/8']";

#[tokio::test]
async fn an_address_that_sends_too_much_is_told_to_wait_and_others_are_not() {
    let world = world(&format!("limits: {{{PROXY}, requestsPerMinute: {{perAddress: 3}}}}")).await;
    let _sidecar = world.running("trader1").await;
    let token = world.token("trader1");
    for _ in 0..3 {
        assert_eq!(from(&world, "192.0.2.1", "/mcp", Some(&token)).await.status, 200);
    }
    let limited = from(&world, "192.0.2.1", "/mcp", Some(&token)).await;
    assert_eq!((limited.status, limited.reason().as_str()), (429, "TooManyRequests"));
    assert!((1..=20).contains(&limited.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(limited.json()["jsonrpc"], "2.0");
    // Everything that costs is counted together; what the client says of itself in front does not help.
    assert_eq!(from(&world, "10.9.8.7, 192.0.2.1", "/v1/models", Some(&token)).await.status, 429);
    assert_eq!(from(&world, "192.0.2.1", "/workspaces/x/mcp", None).await.status, 429);
    assert_eq!(from(&world, "192.0.2.2", "/mcp", Some(&token)).await.status, 200);
    assert_eq!(world.metric("dexorder_gateway_limited_total{limit=\"address\"}").await, "3");
    let metadata = world.client.get("/.well-known/oauth-protected-resource").await;
    assert_eq!(metadata.status, 200);
}

#[tokio::test]
async fn without_a_trusted_proxy_nobody_chooses_an_address() {
    let world = world("limits: {requestsPerMinute: {perAddress: 2}}").await;
    let statuses = [
        from(&world, "192.0.2.1", "/mcp", None).await.status,
        from(&world, "192.0.2.2", "/mcp", None).await.status,
        from(&world, "192.0.2.3", "/mcp", None).await.status,
    ];
    assert_eq!(statuses, [401, 401, 429]);
}

#[tokio::test]
async fn a_user_is_limited_wherever_the_requests_come_from() {
    let world = world(&format!("limits: {{{PROXY}, requestsPerMinute: {{perUser: 2}}}}")).await;
    let (_first, _second) = (world.running("user1").await, world.running("user2").await);
    let (token, other) = (world.token("user1"), world.token("user2"));
    assert_eq!(from(&world, "192.0.2.1", "/mcp", Some(&token)).await.status, 200);
    assert_eq!(from(&world, "192.0.2.2", "/workspaces/of-user1/mcp", Some(&token)).await.status, 200);
    let limited = from(&world, "192.0.2.3", "/mcp", Some(&token)).await;
    assert_eq!((limited.status, limited.reason().as_str()), (429, "TooManyRequests"));
    let chat = from(&world, "192.0.2.3", "/v1/chat/completions", Some(&token)).await;
    assert_eq!(chat.status, 429);
    assert!(!chat.header("retry-after").is_empty());
    assert_eq!(from(&world, "192.0.2.3", "/mcp", Some(&other)).await.status, 200);
}

#[tokio::test]
async fn new_workspaces_are_limited_and_known_ones_are_not() {
    let limits = format!("{PROXY}, newWorkspacesPerMinute: {{perAddress: 1, inAll: 2}}");
    let world = world(&format!("limits: {{{limits}}}\nwake: {{timeout: 1s}}")).await;
    let _sidecar = world.running("trader1").await;
    let creates = |user: &'static str, address: &'static str| {
        let (world, token) = (&world, world.token(user));
        async move { from(world, address, "/mcp", Some(&token)).await.reason() }
    };
    assert_eq!(creates("new1", "192.0.2.1").await, "WorkspaceStarting");
    assert_eq!(creates("new2", "192.0.2.1").await, "TooManyRequests");
    assert_eq!(creates("new2", "192.0.2.2").await, "WorkspaceStarting");
    assert_eq!(creates("new3", "192.0.2.3").await, "TooManyRequests");
    assert_eq!(world.cluster.creates(), 2);
    let token = world.token("trader1");
    assert_eq!(from(&world, "192.0.2.1", "/mcp", Some(&token)).await.status, 200);
}

#[tokio::test]
async fn starts_without_a_credential_are_limited_and_those_of_users_are_not() {
    let limits = format!("{PROXY}, anonymousWakesPerMinute: {{perAddress: 2, perWorkspace: 1}}");
    let world = world(&format!("limits: {{{limits}}}\nwake: {{timeout: 1s}}")).await;
    for user in ["a", "b", "c"] {
        world.cluster.apply_in_mode(&name_of(user), user, "Public");
        world.cluster.set_status(&name_of(user), status("Suspended"));
    }
    world.cluster.apply("own", "user");
    world.cluster.set_status("own", status("Suspended"));
    world.until_seen().await;
    let wakes = async |user: &str, address: &str| {
        from(&world, address, &format!("/workspaces/{}/mcp", name_of(user)), None).await.reason()
    };
    assert_eq!(wakes("a", "192.0.2.1").await, "WorkspaceStarting");
    assert_eq!(wakes("b", "192.0.2.1").await, "WorkspaceStarting");
    assert_eq!(wakes("c", "192.0.2.1").await, "TooManyRequests", "the address has had its share");
    // The operator has stopped the first again.
    let touched = world.cluster.touched_at(&name_of("a"));
    world.cluster.change(&name_of("a"), |object| object["status"]["observedTouch"] = touched.into());
    world.until_seen().await;
    assert_eq!(wakes("a", "192.0.2.2").await, "TooManyRequests", "the workspace has had its share");
    assert_eq!(wakes("c", "192.0.2.2").await, "WorkspaceStarting");
    assert_eq!(world.cluster.touches(&name_of("a")), 1);
    let own = from(&world, "192.0.2.1", "/mcp", Some(&world.token("user"))).await;
    assert_eq!(own.reason(), "WorkspaceStarting");
}

#[tokio::test]
async fn logins_of_one_address_at_a_workspace_leave_room_for_those_of_others() {
    let limits = format!("{PROXY}, directLoginsPerMinute: {{perAddress: 2}}");
    let world = world(&format!("limits: {{{limits}}}")).await;
    let (first, second) =
        (world.running_in_mode("fund1", "Direct").await, world.running_in_mode("fund2", "Direct").await);
    let logs_in = async |user: &str, address: &str| {
        from(&world, address, &format!("/workspaces/{}/direct/session", name_of(user)), None).await.status
    };
    assert_eq!(logs_in("fund1", "192.0.2.1").await, 200);
    assert_eq!(logs_in("fund1", "192.0.2.1").await, 200);
    assert_eq!(logs_in("fund1", "192.0.2.1").await, 429);
    assert_eq!(logs_in("fund1", "192.0.2.2").await, 200);
    assert_eq!(logs_in("fund2", "192.0.2.1").await, 200);
    assert_eq!((first.seen().len(), second.seen().len()), (3, 1));
    assert_eq!(world.metric("dexorder_gateway_limited_total{limit=\"logins_of_address\"}").await, "1");
}

#[tokio::test]
async fn of_somebody_unknown_no_more_is_kept_than_the_workspace_takes() {
    let world = world("limits: {requestBody: 4MiB}").await;
    let (shared, own) = (world.running_in_mode("shared", "Public").await, world.running("trader1").await);
    let large = format!("{}{}", call(7), " ".repeat(300 * 1024));
    let token = format!("Bearer {}", world.token("trader1"));
    for (user, status) in [("shared", 413), ("trader1", 200)] {
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let path = format!("/workspaces/{}/mcp", name_of(user));
        assert_eq!(
            world.client.send(Method::POST, &path, &headers, large.clone()).await.status,
            status,
            "{user}"
        );
    }
    assert_eq!((shared.seen().len(), own.seen().len()), (0, 1));
}

#[tokio::test]
async fn who_sends_slowly_and_without_a_login_fills_no_more_than_a_part_of_the_memory() {
    let world = world(&format!("limits: {{{PROXY}, requestBody: 4MiB}}")).await;
    let (fund, own) = (world.running_in_mode("fund", "Direct").await, world.running("trader1").await);
    let path = format!("/workspaces/{}/mcp", name_of("fund"));
    // Nineteen would be 72 MiB: each sends all but the end.
    let mut open = Vec::new();
    for _ in 0..18 {
        let mut stream = TcpStream::connect(world.gateway.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gw.example\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: 4194304\r\n\r\n"
        );
        // The last ones are answered and left while they send.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&vec![b' '; 4_194_303]).await;
        open.push(stream);
    }
    until("no more is kept", async || {
        world.metric("dexorder_gateway_limited_total{limit=\"bodies\"}").await != "0"
    })
    .await;
    let direct = from(&world, "192.0.2.1", &path, None).await;
    assert_eq!((direct.status, direct.header("retry-after")), (429, "5"));
    // Users with a login, and public workspaces, have their own.
    assert_eq!(from(&world, "192.0.2.1", "/mcp", Some(&world.token("trader1"))).await.status, 200);
    drop(open);
    until("there is room again", async || from(&world, "192.0.2.1", &path, None).await.status == 200).await;
    assert_eq!((fund.seen().len(), own.seen().len()), (1, 1));
}
