//! The sidecar's container: the only way into the pod. [no client]

use dexorder_crds::{AuthMode, DirectAuth, OidcVerification, UserWorkspace};
use dexorder_protocol::{CONTROL_PORT, MCP_PORT};
use k8s_openapi::api::core::v1::{Container, EnvVar, Probe, ResourceRequirements, VolumeMount};

use super::{
    Settings,
    parts::{env, folder, mount, port, probe, quantities, read_only, restricted},
    pod::{RUN, SIDECAR_ID, SOCKET, access},
    volumes::{DIRECT_CREDENTIALS, direct_secret},
};
use crate::plan::Terms;

/// What the sidecar knows of its pod.
const POD_INFO: &str = "/etc/dexorder/pod";
/// The key of a workspace of auth mode Direct, on a part of the volume that only the sidecar has.
const KEY_FOLDER: &str = "/var/lib/dexorder/direct";
/// The hashes of a workspace of auth mode Direct.
const CREDENTIALS: &str = "/etc/dexorder/direct";

pub(super) fn sidecar(workspace: &UserWorkspace, terms: &Terms, settings: &Settings) -> Container {
    Container {
        name: "sidecar".to_owned(),
        image: Some(settings.sidecar_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(workspace, terms, settings)),
        ports: Some(vec![port("mcp", MCP_PORT), port("control", CONTROL_PORT)]),
        readiness_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(2),
            ..probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(3),
            ..probe("/livez")
        }),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&[("cpu", "5m"), ("memory", "16Mi")])),
            limits: Some(quantities(&[("memory", "64Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted(SIDECAR_ID)),
        volume_mounts: Some(mounts(workspace)),
        ..Container::default()
    }
}

fn environment(workspace: &UserWorkspace, terms: &Terms, settings: &Settings) -> Vec<EnvVar> {
    let metadata = &workspace.metadata;
    let mode = workspace.spec.auth.mode;
    let mut all = vec![
        env("DEXORDER_WORKSPACE_UID", metadata.uid.as_deref().unwrap_or_default()),
        env("DEXORDER_WORKSPACE", metadata.name.as_deref().unwrap_or_default()),
        env("DEXORDER_NAMESPACE", metadata.namespace.as_deref().unwrap_or_default()),
        env("DEXORDER_USER_ID", &workspace.spec.user_id),
        env("DEXORDER_AUTH_MODE", mode.as_str()),
        env("DEXORDER_ACCESS", access(terms)),
        env("DEXORDER_AGENT_SOCKET", SOCKET),
        env("DEXORDER_IDENTITY_KEYS_FILE", &format!("{POD_INFO}/identity-keys")),
        env("DEXORDER_MCP_ADDR", &format!("0.0.0.0:{MCP_PORT}")),
        env("DEXORDER_CONTROL_ADDR", &format!("0.0.0.0:{CONTROL_PORT}")),
        env("DEXORDER_DRAIN_TIMEOUT", "45s"),
        env("RUST_LOG", &settings.sidecar_log),
    ];
    if mode == AuthMode::Public {
        let lifetime = dexorder_crds::Duration::from_std(terms.idle_timeout);
        all.push(env("DEXORDER_SESSION_TTL", &lifetime.to_string()));
    }
    if let Some(direct) = &workspace.spec.auth.direct {
        all.push(env("DEXORDER_DIRECT_KEY_DIR", KEY_FOLDER));
        all.extend(direct_environment(direct));
    }
    all
}

/// How the sidecar checks its users by itself.
fn direct_environment(direct: &DirectAuth) -> Vec<EnvVar> {
    let DirectAuth { oidc, credentials_secret_ref } = direct;
    let mut all = Vec::new();
    if let Some(OidcVerification { issuer, audience, user_id_claim, jwks_uri, jwks }) = oidc {
        let given = [
            ("DEXORDER_DIRECT_ISSUER", Some(issuer)),
            ("DEXORDER_DIRECT_AUDIENCE", Some(audience)),
            ("DEXORDER_DIRECT_USER_CLAIM", user_id_claim.as_ref()),
            ("DEXORDER_DIRECT_JWKS_URI", jwks_uri.as_ref()),
            ("DEXORDER_DIRECT_JWKS", jwks.as_ref()),
        ];
        all.extend(given.into_iter().filter_map(|(name, value)| Some(env(name, value?))));
    }
    if credentials_secret_ref.is_some() {
        all.push(env("DEXORDER_DIRECT_CREDENTIALS_DIR", CREDENTIALS));
    }
    all
}

fn mounts(workspace: &UserWorkspace) -> Vec<VolumeMount> {
    let mut all = vec![mount("run", RUN), read_only("pod", POD_INFO)];
    if workspace.spec.auth.mode == AuthMode::Direct {
        all.push(folder("sidecar", KEY_FOLDER));
    }
    if direct_secret(workspace).is_some() {
        all.push(read_only(DIRECT_CREDENTIALS, CREDENTIALS));
    }
    all
}
