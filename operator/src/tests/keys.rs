//! Signing keys that change: which pods are told.

use dexorder_crds::keys;
use serde_json::json;

use super::yard::Yard;
use crate::build::Settings;

#[tokio::test(start_paused = true)]
async fn an_operator_tells_its_own_pods_and_leaves_those_of_another_one_alone() {
    let mut yard = Yard::new(1);
    yard.fill().await;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    yard.fill().await;
    let beside = [
        ("pool-standard-0", "ws-w9", keys::WORKSPACE_LABEL, "w9"),
        ("pool-standard-1", "pool-standard-7", keys::OPERATOR_LABEL, "beside"),
    ];
    for (like, name, label, value) in beside {
        let mut pod = yard.world().object("pods", like);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["uid"] = json!(format!("uid-{name}"));
        pod["metadata"]["labels"][label] = json!(value);
        yard.world().put("pods", pod);
    }
    yard.context.settings.set(Settings { identity_keys: "keys-2".to_owned(), ..Settings::default() });
    yard.sync();
    yard.context.publish_keys().await;
    let world = yard.world();
    let keys_of =
        |name: &str| world.object("pods", name)["metadata"]["annotations"][keys::IDENTITY_KEYS].clone();
    let told: Vec<String> =
        world.names("pods").into_iter().filter(|name| keys_of(name) == "keys-2").collect();
    assert_eq!(told, ["pool-standard-0", "pool-standard-1"], "of {:?}", world.names("pods"));
}
