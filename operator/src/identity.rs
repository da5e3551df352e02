//! The signing keys of gateway and operator: kept in Secrets of the operator's own namespace, made where they are
//! missing. [client]
//!
//! `key.pem` signs. Every other `*.pem` of the Secret is trusted and does not sign: the next key before it is used, the
//! one before while something that it signed is still good.

use std::{collections::BTreeMap, sync::Arc};

use dexorder_crds::keys;
use dexorder_protocol::{Issuer, KeyError, KeySet, SigningKey};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

/// Secret with the gateway's private keys; the gateway mounts it.
pub const GATEWAY_SECRET: &str = "dexorder-gateway-signing-key";
/// Secret with the operator's private keys.
pub const OPERATOR_SECRET: &str = "dexorder-operator-signing-key";
/// The PEM in both that signs.
const PEM: &str = "key.pem";

/// Why the signing keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityKeysError {
    /// The API server refused.
    #[error(
        "failed to read or make Secret {name} in namespace {namespace}: the operator needs get and create on it"
    )]
    Api {
        /// The Secret.
        name: &'static str,
        /// Its namespace.
        namespace: String,
        /// What failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret has no usable key.
    #[error("Secret {name} has no usable {PEM}: delete it, and another is made")]
    Content {
        /// The Secret.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: Option<KeyError>,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The operator's own key, and the public keys for the sidecars.
#[derive(Debug, Clone)]
pub struct IdentityKeys {
    /// Signs the calls to the control API.
    pub operator: Arc<SigningKey>,
    /// The public keys as JSON for the pods' annotation.
    pub trusted: String,
}

impl IdentityKeys {
    /// The keys of the two Secrets. The text does not depend on which of the same keys signs.
    fn of(gateway: &Secret, operator: &Secret) -> Result<Self, IdentityKeysError> {
        let gateway = Pems::read(GATEWAY_SECRET, gateway)?;
        let operator = Pems::read(OPERATOR_SECRET, operator)?;
        let mut set = KeySet::default();
        for (issuer, pems) in [(Issuer::Gateway, &gateway), (Issuer::Operator, &operator)] {
            let sorted: BTreeMap<String, &SigningKey> =
                pems.others.iter().chain([&pems.signs]).map(|key| (key.kid(), key)).collect();
            set = sorted.into_values().fold(set, |set, key| set.with(issuer, key));
        }
        Ok(Self { operator: Arc::new(operator.signs), trusted: set.to_json()? })
    }
}

/// Reads the keys of both, making what is missing.
pub async fn ensure(client: &Client, namespace: &str) -> Result<IdentityKeys, IdentityKeysError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let gateway = ensure_one(&secrets, namespace, GATEWAY_SECRET).await?;
    let operator = ensure_one(&secrets, namespace, OPERATOR_SECRET).await?;
    IdentityKeys::of(&gateway, &operator)
}

async fn ensure_one(
    secrets: &Api<Secret>,
    namespace: &str,
    name: &'static str,
) -> Result<Secret, IdentityKeysError> {
    let failed =
        |source| IdentityKeysError::Api { name, namespace: namespace.to_owned(), source: Box::new(source) };
    if let Some(secret) = secrets.get_opt(name).await.map_err(failed)? {
        return Ok(secret);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/managed-by".to_owned(),
                keys::MANAGED_BY.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(PEM.to_owned(), ByteString(SigningKey::generate_pem()?.into_bytes()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(made) => Ok(made),
        // Another replica was faster: its key counts.
        Err(kube::Error::Api(status)) if status.code == 409 => secrets.get(name).await.map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// The private keys of one Secret.
struct Pems {
    signs: SigningKey,
    others: Vec<SigningKey>,
}

impl Pems {
    /// A key that does not sign and can't be read is left out: it must not stop those that can.
    fn read(name: &'static str, secret: &Secret) -> Result<Self, IdentityKeysError> {
        let mut signs = None;
        let mut others = Vec::new();
        let is_pem = |file: &str| file.rsplit_once('.').is_some_and(|(_, extension)| extension == "pem");
        for (file, content) in secret.data.iter().flatten().filter(|(file, _)| is_pem(file)) {
            let key =
                std::str::from_utf8(&content.0).map_err(|_| KeyError::Pem).and_then(SigningKey::from_pem);
            match key {
                Ok(key) if file == PEM => signs = Some(key),
                Ok(key) => others.push(key),
                Err(source) if file == PEM => {
                    return Err(IdentityKeysError::Content { name, source: Some(source) });
                }
                Err(error) => tracing::warn!(secret = name, file, %error, "a key is left out"),
            }
        }
        let signs = signs.ok_or(IdentityKeysError::Content { name, source: None })?;
        Ok(Self { signs, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pems: &[(&str, &str)]) -> Secret {
        let data = pems.iter().map(|(file, pem)| ((*file).to_owned(), ByteString(pem.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    fn kids(keys: &IdentityKeys, issuer: &str) -> Vec<String> {
        let json: serde_json::Value = serde_json::from_str(&keys.trusted).unwrap();
        let all = json[issuer].as_array().unwrap().iter();
        all.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_pem_is_trusted_and_a_swap_changes_nothing_of_what_is_published() {
        let [a, b, c] = [(); 3].map(|()| SigningKey::generate_pem().unwrap());
        let kid = |pem: &str| SigningKey::from_pem(pem).unwrap().kid();
        let gateway = secret(&[("key.pem", &c)]);
        let before = IdentityKeys::of(
            &gateway,
            &secret(&[("key.pem", &a), ("next.pem", &b), ("note.txt", "x"), ("broken.pem", "x")]),
        )
        .unwrap();
        let after = IdentityKeys::of(&gateway, &secret(&[("key.pem", &b), ("previous.pem", &a)])).unwrap();
        assert_eq!(before.operator.kid(), kid(&a));
        assert_eq!(after.operator.kid(), kid(&b));
        assert_eq!(before.trusted, after.trusted, "no pod is written to for the swap");
        let mut expected = vec![kid(&a), kid(&b)];
        expected.sort();
        assert_eq!(kids(&after, "operator"), expected);
        assert_eq!(kids(&after, "gateway"), [kid(&c)]);
    }

    #[test]
    fn a_secret_without_a_key_that_signs_is_refused() {
        let pem = SigningKey::generate_pem().unwrap();
        let whole = secret(&[("key.pem", &pem)]);
        for broken in [secret(&[]), secret(&[("next.pem", &pem)]), secret(&[("key.pem", "x")])] {
            assert!(IdentityKeys::of(&whole, &broken).is_err());
            assert!(IdentityKeys::of(&broken, &whole).is_err());
        }
    }
}
