//! What a configuration may hold, and what is said of one that can't be used.

use jsonwebtoken::Algorithm;

use super::*;

const GOOD: &str = r#"
listen: 0.0.0.0:8080
managementListen: 0.0.0.0:9090
publicUrl: http://10.210.0.2:30080/
workspaceNamespace: dexorder
signingKeyFile: /etc/dexorder/signing-key/key.pem
defaults: {tier: standard, authMode: Gateway}
auth:
  issuers:
    - issuer: https://login.example.com
wake: {timeout: 90s}
limits: {requestBody: 512KiB}
allowedOrigins: ["https://Chat.example.com"]
"#;

fn problems(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.public_url, "http://10.210.0.2:30080");
    assert_eq!(config.wake_timeout, Duration::from_secs(90));
    assert_eq!(config.body_limit, 512 * 1024);
    assert!(config.allowed_origins.contains("https://chat.example.com"));
    let issuer = &config.issuers[0];
    assert_eq!(issuer.audience, "http://10.210.0.2:30080/mcp");
    assert_eq!(issuer.user_id_claim, "sub");
    assert!(matches!(&issuer.keys, KeySource::Discovery(uri) if *uri == "https://login.example.com"));
    assert_eq!(issuer.algorithms, [Algorithm::EdDSA, Algorithm::RS256, Algorithm::ES256]);
}

#[test]
fn an_unknown_field_is_named() {
    let message = problems(&format!("{GOOD}\nlimit: 3\n"));
    assert!(message.contains("unknown field `limit`"), "{message}");
}

#[test]
fn every_bad_value_is_named_with_what_was_expected() {
    let text = GOOD
        .replace("0.0.0.0:8080", "everywhere")
        .replace("http://10.210.0.2:30080/", "ftp://x")
        .replace("Gateway}", "Direct}")
        .replace("https://login.example.com", "http://login.example.com")
        .replace("90s", "90")
        .replace("512KiB", "1GiB")
        .replace("https://Chat.example.com", "*");
    let message = problems(&text);
    for part in [
        "listen is \"everywhere\": expected an address",
        "publicUrl is \"ftp://x\"",
        "defaults.authMode is \"Direct\"",
        "auth.issuers[0].issuer is \"http://login.example.com\": expected an https URL",
        "wake.timeout is \"90\"",
        "limits.requestBody is \"1GiB\"",
        "allowedOrigins[0] is \"*\"",
    ] {
        assert!(message.contains(part), "{part} is missing in:\n{message}");
    }
}

#[test]
fn symmetric_algorithms_and_none_are_refused() {
    for name in ["HS256", "none"] {
        let text = GOOD.replace(
            "- issuer: https://login.example.com",
            &format!("- {{issuer: https://login.example.com, algorithms: [{name}]}}"),
        );
        assert!(problems(&text).contains(&format!("auth.issuers[0].algorithms is {name:?}")));
    }
}

#[test]
fn keys_are_named_once_and_must_be_keys() {
    let with = |keys: &str| {
        GOOD.replace(
            "- issuer: https://login.example.com",
            &format!("- {{issuer: https://login.example.com, {keys}}}"),
        )
    };
    assert!(problems(&with("jwksFile: a, jwksUri: https://b")).contains("names its keys twice"));
    assert!(problems(&with("jwks: '{}'")).contains("auth.issuers[0].jwks"));
    assert!(problems(&with("jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}'")).contains("no usable key"));
    assert!(problems(&with("jwksUri: http://keys.example.com")).contains("auth.issuers[0].jwksUri"));
    assert!(Config::parse(&with("jwksUri: 'http://127.0.0.1:1/keys'")).is_ok());
}

#[test]
fn two_issuers_need_prefixes_so_that_they_can_not_name_the_same_user() {
    let two = GOOD.replace(
        "- issuer: https://login.example.com",
        "- issuer: https://login.example.com\n    - issuer: https://other.example.com",
    );
    assert!(problems(&two).contains("auth.issuers[1].userIdPrefix is needed"));
    let prefixed =
        two.replace("other.example.com", "other.example.com\n      userIdPrefix: 'other:'").replace(
            "- issuer: https://login.example.com",
            "- issuer: https://login.example.com\n      userIdPrefix: ''",
        );
    assert_eq!(Config::parse(&prefixed).unwrap().issuers[1].user_id_prefix, "other:");
}

#[test]
fn the_chat_is_offline_unless_a_provider_is_named() {
    let chat = Config::parse(GOOD).unwrap().chat;
    assert_eq!((chat.provider, chat.model.name.as_str()), (Provider::Offline, "offline"));
    let text = format!(
        "{GOOD}\nchat: {{provider: anthropic, baseUrl: 'https://models.example.com/v1/', model: large, \
         turnTokens: 2000000, tiers: {{free: {{model: small, turnTokens: 10000, dayTokens: 7}}, standard: {{maxTokens: 9}}}}}}\n"
    );
    let chat = Config::parse(&text).unwrap().chat;
    assert_eq!(chat.base_url, "https://models.example.com/v1");
    let model = |name: &str, max_tokens, turn_tokens, day_tokens| ModelConfig {
        name: name.to_owned(),
        max_tokens,
        turn_tokens: Some(turn_tokens),
        day_tokens,
    };
    assert_eq!(chat.model, model("large", 4096, 2_000_000, None));
    assert_eq!(chat.tiers["free"], model("small", 4096, 10_000, Some(7)));
    assert_eq!(chat.tiers["standard"], model("large", 9, 2_000_000, None));
}

#[test]
fn every_bad_value_of_the_chat_is_named() {
    let message = problems(&format!(
        "{GOOD}\nchat: {{provider: openai, baseUrl: 'ftp://x', maxRounds: 0, tokensParameter: n, answers: none, toolTimeout: 2, contextSize: 1MiB, keepAwakeMost: 2d, \
         servers: [{{name: Market, url: 'ftp://x', tools: [], timeout: 2}}, {{name: Market, url: 'https://x.example/mcp', tools: [a]}}]}}\n"
    ));
    for part in [
        "chat.baseUrl is \"ftp://x\"",
        "chat.model is empty",
        "chat.tokensParameter is \"n\"",
        "chat.answers is \"none\"",
        "chat.maxRounds is 0: expected a number from 1 to 30",
        "chat.toolTimeout is \"2\"",
        "chat.contextSize is \"1MiB\": expected a size from 1KiB to 448KiB",
        "chat.keepAwakeMost is \"2d\": expected a duration from 1m to 24h",
        "chat.servers[0].name is \"Market\"",
        "chat.servers[0].url is \"ftp://x\"",
        "chat.servers[0].tools is empty",
        "chat.servers[0].timeout is \"2\"",
        "chat.servers[1].name stands twice",
    ] {
        assert!(message.contains(part), "{part} is missing in:\n{message}");
    }
    assert!(problems(&format!("{GOOD}\nchat: {{provider: other}}\n")).contains("chat.provider is \"other\""));
}

#[test]
fn keys_may_stand_in_the_file_itself() {
    let jwks =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let inline = |jwks: &str| {
        GOOD.replace(
            "https://login.example.com",
            &format!("https://local.dexorder.test\n      jwks: '{jwks}'"),
        )
    };
    assert!(Config::parse(&inline(jwks)).is_ok());
    let message = problems(&inline(r#"{"keys":[]}"#));
    assert!(message.contains("auth.issuers[0].jwks has no usable key"), "{message}");
}
