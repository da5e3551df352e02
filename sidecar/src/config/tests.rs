use super::*;

const GOOD: [(&str, &str); 6] = [
    ("DEXORDER_WORKSPACE_UID", "uid-1"),
    ("DEXORDER_WORKSPACE", "trader1"),
    ("DEXORDER_NAMESPACE", "dexorder"),
    ("DEXORDER_USER_ID", "trader1"),
    ("DEXORDER_AUTH_MODE", "Gateway"),
    ("DEXORDER_ACCESS", "Full"),
];
const DIRECT: [(&str, &str); 4] = [
    ("DEXORDER_AUTH_MODE", "Direct"),
    ("DEXORDER_DIRECT_KEY_DIR", "/var/lib/dexorder/direct"),
    ("DEXORDER_DIRECT_ISSUER", "https://id.example"),
    ("DEXORDER_DIRECT_AUDIENCE", "dexorder"),
];

fn read(over: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(|name| {
        over.iter().chain(&GOOD).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn workspace(config: Config) -> Assignment {
    match config.tenancy {
        Tenancy::Workspace(workspace) => workspace,
        Tenancy::Pool { .. } => panic!("it waits in a pool"),
    }
}

#[test]
fn what_the_operator_always_sets_is_enough() {
    let config = read(&[]).unwrap();
    assert_eq!(config.drain_timeout, Duration::from_secs(45));
    assert_eq!(config.hold_timeout, Duration::from_secs(30));
    assert_eq!(config.mcp_addr.port(), dexorder_protocol::MCP_PORT);
    assert_eq!(config.control_addr.port(), dexorder_protocol::CONTROL_PORT);
    assert!(config.direct.is_none());
    assert_eq!(workspace(config).auth_mode, AuthMode::Gateway);
}

#[test]
fn durations_are_written_as_in_the_resources() {
    assert_eq!(read(&[("DEXORDER_DRAIN_TIMEOUT", "1m30s")]).unwrap().drain_timeout, Duration::from_secs(90));
    let visitors = read(&[("DEXORDER_AUTH_MODE", "Public"), ("DEXORDER_SESSION_TTL", "26h")]).unwrap();
    assert_eq!(visitors.public.session_lifetime, Duration::from_hours(26));
}

#[test]
fn a_pod_of_a_pool_knows_itself_alone() {
    let pool = |name: &str| {
        [("DEXORDER_POOL", "true"), ("DEXORDER_POD_UID", "pod-1")]
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let Tenancy::Pool { pod_uid, assignment_file } = Config::read(pool).unwrap().tenancy else {
        panic!("it has a workspace");
    };
    assert_eq!(pod_uid, "pod-1");
    assert_eq!(assignment_file.to_str(), Some("/etc/dexorder/pod/assignment"));
    let message = Config::read(|name| (name == "DEXORDER_POOL").then(|| "true".to_owned())).unwrap_err();
    assert!(message.to_string().contains("DEXORDER_POD_UID is not set"), "{message}");
}

#[test]
fn mode_direct_needs_a_place_for_its_key_and_one_way_to_check() {
    let keys = [("DEXORDER_DIRECT_JWKS", "{}")];
    let oidc = read(&[&DIRECT[..], &keys].concat()).unwrap().direct.unwrap();
    assert!(
        matches!(oidc.credentials, CredentialsConfig::Oidc(OidcConfig { user_claim, .. }) if user_claim == "sub")
    );
    let hashes = [("DEXORDER_DIRECT_CREDENTIALS_DIR", "/etc/dexorder/direct")];
    let files = read(&[&DIRECT[..2], &hashes].concat()).unwrap().direct.unwrap();
    assert!(matches!(files.credentials, CredentialsConfig::Hashes(_)));
    for (given, problem) in [
        (DIRECT[..2].to_vec(), "one of DEXORDER_DIRECT_ISSUER and"),
        ([&DIRECT[..], &hashes].concat(), "one of DEXORDER_DIRECT_ISSUER and"),
        (DIRECT.to_vec(), "DEXORDER_DIRECT_JWKS_URI is not set"),
        ([&DIRECT[..1], &hashes].concat(), "DEXORDER_DIRECT_KEY_DIR is not set"),
        (
            [&DIRECT[..], &[("DEXORDER_DIRECT_JWKS_URI", "http://id.example/keys")]].concat(),
            "it must be an https URL",
        ),
    ] {
        let message = read(&given).unwrap_err().to_string();
        assert!(message.contains(problem), "{problem} in {message}");
    }
}

#[test]
fn every_bad_value_is_named_with_what_to_write_instead() {
    let bad = [
        ("DEXORDER_WORKSPACE_UID", ""),
        ("DEXORDER_USER_ID", "a\nb"),
        ("DEXORDER_AUTH_MODE", "gateway"),
        ("DEXORDER_ACCESS", "All"),
        ("DEXORDER_AGENT_SOCKET", "agent.sock"),
        ("DEXORDER_MCP_ADDR", "8080"),
        ("DEXORDER_DRAIN_TIMEOUT", "-5s"),
        ("DEXORDER_HOLD_TIMEOUT", "soon"),
        ("DEXORDER_SESSION_TTL", "0s"),
        ("DEXORDER_PUBLIC_SESSIONS", "0"),
        ("RUST_LOG", "dexorder_sidecar=loud"),
    ];
    let message = read(&bad).unwrap_err().to_string();
    for (name, value) in bad {
        assert!(message.contains(&format!("{name} is {value:?}: it must")), "{name} in {message}");
    }
}

#[test]
fn every_missing_value_is_named() {
    let message = Config::read(|_| None).unwrap_err().to_string();
    for (name, _) in GOOD {
        assert!(message.contains(&format!("{name} is not set")), "{name} in {message}");
    }
}
