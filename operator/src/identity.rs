//! The signing keys of gateway and operator: made once, kept in Secrets of the operator's own namespace. [client]

use std::{collections::BTreeMap, sync::Arc};

use dexorder_crds::keys;
use dexorder_protocol::{Issuer, KeyError, KeySet, SigningKey};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

/// Secret with the gateway's private key; the gateway mounts it.
pub const GATEWAY_SECRET: &str = "dexorder-gateway-signing-key";
/// Secret with the operator's private key.
pub const OPERATOR_SECRET: &str = "dexorder-operator-signing-key";
/// Key of the PEM in both.
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
    #[error("Secret {name} has no usable {PEM}: delete it and restart the operator to have another made")]
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

/// Reads both keys, making what is missing.
pub async fn ensure(client: &Client, namespace: &str) -> Result<IdentityKeys, IdentityKeysError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let gateway = ensure_one(&secrets, namespace, GATEWAY_SECRET).await?;
    let operator = ensure_one(&secrets, namespace, OPERATOR_SECRET).await?;
    let trusted =
        KeySet::default().with(Issuer::Gateway, &gateway).with(Issuer::Operator, &operator).to_json()?;
    Ok(IdentityKeys { operator: Arc::new(operator), trusted })
}

async fn ensure_one(
    secrets: &Api<Secret>,
    namespace: &str,
    name: &'static str,
) -> Result<SigningKey, IdentityKeysError> {
    let failed =
        |source| IdentityKeysError::Api { name, namespace: namespace.to_owned(), source: Box::new(source) };
    if let Some(secret) = secrets.get_opt(name).await.map_err(failed)? {
        return read(name, &secret);
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
        Ok(made) => read(name, &made),
        // Another replica was faster: its key counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            read(name, &secrets.get(name).await.map_err(failed)?)
        }
        Err(error) => Err(failed(error)),
    }
}

fn read(name: &'static str, secret: &Secret) -> Result<SigningKey, IdentityKeysError> {
    let pem = secret
        .data
        .as_ref()
        .and_then(|data| std::str::from_utf8(&data.get(PEM)?.0).ok())
        .ok_or(IdentityKeysError::Content { name, source: None })?;
    SigningKey::from_pem(pem).map_err(|source| IdentityKeysError::Content { name, source: Some(source) })
}
