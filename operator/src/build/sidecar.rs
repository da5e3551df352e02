//! The sidecar's container: the only way into the pod. [no client]

use dexorder_crds::{AuthMode, DirectAuth, OidcVerification, UserWorkspace};
use dexorder_protocol::{CONTROL_PORT, MCP_PORT};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, Probe, ResourceRequirements, VolumeMount,
};

use super::{
    PodFor, Settings,
    parts::{env, folder, mount, port, probe, quantities, read_only, restricted},
    pod::{RUN, SIDECAR_ID, SOCKET, access},
    volumes::{ASSIGNMENT_FILE, DIRECT_CREDENTIALS, direct_secret},
};
use crate::plan::Terms;

/// What the sidecar knows of its pod.
const POD_INFO: &str = "/etc/dexorder/pod";
/// The key of a workspace of auth mode Direct, on a part of the volume that only the sidecar has.
const KEY_FOLDER: &str = "/var/lib/dexorder/direct";
/// The hashes of a workspace of auth mode Direct.
const CREDENTIALS: &str = "/etc/dexorder/direct";

pub(super) fn sidecar(subject: PodFor<'_>, terms: &Terms, settings: &Settings) -> Container {
    Container {
        name: "sidecar".to_owned(),
        image: Some(settings.sidecar_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(subject, terms, settings)),
        ports: Some(vec![port("mcp", MCP_PORT), port("control", CONTROL_PORT)]),
        readiness_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(2),
            ..probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(3),
            // One that does not answer any more has nothing to drain.
            termination_grace_period_seconds: Some(5),
            ..probe("/livez")
        }),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&[("cpu", "5m"), ("memory", "16Mi")])),
            limits: Some(quantities(&[("memory", "64Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted(SIDECAR_ID)),
        volume_mounts: Some(mounts(subject)),
        ..Container::default()
    }
}

fn environment(subject: PodFor<'_>, terms: &Terms, settings: &Settings) -> Vec<EnvVar> {
    let mut all = match subject.workspace() {
        Some(workspace) => whose(workspace, terms),
        None => nobodys(),
    };
    all.extend([
        env("DEXORDER_AGENT_SOCKET", SOCKET),
        env("DEXORDER_IDENTITY_KEYS_FILE", &format!("{POD_INFO}/identity-keys")),
        env("DEXORDER_MCP_ADDR", &format!("0.0.0.0:{MCP_PORT}")),
        env("DEXORDER_CONTROL_ADDR", &format!("0.0.0.0:{CONTROL_PORT}")),
        env("DEXORDER_DRAIN_TIMEOUT", "45s"),
        env("RUST_LOG", &settings.sidecar_log),
    ]);
    if subject.mode() == AuthMode::Public {
        let lifetime = dexorder_crds::Duration::from_std(terms.idle_timeout);
        all.push(env("DEXORDER_SESSION_TTL", &lifetime.to_string()));
    }
    if let Some(direct) = subject.workspace().and_then(|workspace| workspace.spec.auth.direct.as_ref()) {
        all.push(env("DEXORDER_DIRECT_KEY_DIR", KEY_FOLDER));
        all.extend(direct_environment(direct));
    }
    all
}

/// The workspace that the sidecar serves.
fn whose(workspace: &UserWorkspace, terms: &Terms) -> Vec<EnvVar> {
    let metadata = &workspace.metadata;
    vec![
        env("DEXORDER_WORKSPACE_UID", metadata.uid.as_deref().unwrap_or_default()),
        env("DEXORDER_WORKSPACE", metadata.name.as_deref().unwrap_or_default()),
        env("DEXORDER_NAMESPACE", metadata.namespace.as_deref().unwrap_or_default()),
        env("DEXORDER_USER_ID", &workspace.spec.user_id),
        env("DEXORDER_AUTH_MODE", workspace.spec.auth.mode.as_str()),
        env("DEXORDER_ACCESS", access(terms)),
    ]
}

/// The pod waits in a pool for its workspace.
fn nobodys() -> Vec<EnvVar> {
    let uid = ObjectFieldSelector { api_version: None, field_path: "metadata.uid".to_owned() };
    let source = EnvVarSource { field_ref: Some(uid), ..EnvVarSource::default() };
    vec![
        env("DEXORDER_POOL", "true"),
        EnvVar { name: "DEXORDER_POD_UID".to_owned(), value: None, value_from: Some(source) },
        env("DEXORDER_ASSIGNMENT_FILE", &format!("{POD_INFO}/{ASSIGNMENT_FILE}")),
    ]
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

fn mounts(subject: PodFor<'_>) -> Vec<VolumeMount> {
    let mut all = vec![mount("run", RUN), read_only("pod", POD_INFO)];
    if subject.mode() == AuthMode::Direct {
        all.push(folder("sidecar", KEY_FOLDER));
    }
    if subject.workspace().and_then(direct_secret).is_some() {
        all.push(read_only(DIRECT_CREDENTIALS, CREDENTIALS));
    }
    all
}
