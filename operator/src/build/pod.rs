//! The pod of a workspace: the agent, and the sidecar as the only way in. [no client]

use std::collections::BTreeMap;

use dexorder_crds::{Access, Scheduling, WorkspaceTier, keys};
use dexorder_protocol::hex;
use k8s_openapi::{
    api::core::v1::{Pod, PodSecurityContext, PodSpec, SeccompProfile},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use sha2::{Digest, Sha256};

use super::{PodFor, Settings, agent::agent, owner, sidecar::sidecar, volumes::volumes};
use crate::plan::Terms;

/// Where agent and sidecar meet.
pub(super) const RUN: &str = "/run/dexorder";
/// The agent's socket.
pub(super) const SOCKET: &str = "/run/dexorder/agent.sock";
/// User of the agent, and group of both.
pub(super) const AGENT_ID: i64 = 1000;
/// User of the sidecar: not the agent's, so that user code can't look into it.
pub(super) const SIDECAR_ID: i64 = 1001;
/// How long a pod may take to end: the drain and the agent's save.
const GRACE_SECONDS: i64 = 60;

/// Builds the pod.
pub fn pod(subject: PodFor<'_>, tier: Option<&WorkspaceTier>, terms: &Terms, settings: &Settings) -> Pod {
    let spec = spec(subject, tier, terms, settings);
    let own = labels(subject, terms);
    let annotations = BTreeMap::from([
        (keys::IDENTITY_KEYS.to_owned(), settings.identity_keys.clone()),
        (keys::TEMPLATE_HASH.to_owned(), hash(&(&spec, &own))),
        ("kubectl.kubernetes.io/default-container".to_owned(), "agent".to_owned()),
    ]);
    let ObjectMeta { name, namespace, labels, .. } = subject.metadata();
    Pod {
        metadata: ObjectMeta {
            name,
            namespace,
            labels: Some(labels.into_iter().flatten().chain(own).collect()),
            annotations: Some(annotations),
            owner_references: subject.workspace().and_then(owner).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// What NetworkPolicies select a pod by.
fn labels(subject: PodFor<'_>, terms: &Terms) -> BTreeMap<String, String> {
    BTreeMap::from([
        (keys::TIER_LABEL.to_owned(), subject.tier().to_owned()),
        (keys::EGRESS_LABEL.to_owned(), terms.egress.as_str().to_owned()),
    ])
}

fn spec(subject: PodFor<'_>, tier: Option<&WorkspaceTier>, terms: &Terms, settings: &Settings) -> PodSpec {
    let scheduling = tier.and_then(|tier| tier.spec.scheduling.clone()).unwrap_or_default();
    let Scheduling { node_selector, tolerations, priority_class_name } = scheduling;
    PodSpec {
        init_containers: Some(vec![sidecar(subject, terms, settings)]),
        containers: vec![agent(subject, tier, terms, settings)],
        volumes: Some(volumes(subject)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: Some(node_selector).filter(|labels| !labels.is_empty()),
        tolerations: Some(tolerations).filter(|list| !list.is_empty()),
        priority_class_name,
        runtime_class_name: tier.and_then(|tier| tier.spec.runtime_class_name.clone()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(AGENT_ID),
            run_as_group: Some(AGENT_ID),
            fs_group: Some(AGENT_ID),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    }
}

/// Tells one pod's making from another's.
pub(super) fn hash(made_of: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(made_of).unwrap_or_default();
    hex(&Sha256::digest(json)[..8])
}

pub(super) fn access(terms: &Terms) -> &'static str {
    match terms.access {
        Access::Full => "Full",
        Access::ReadOnly => "ReadOnly",
    }
}

#[cfg(test)]
mod tests {
    use dexorder_crds::{
        Auth, AuthMode, DirectAuth, Egress, LocalSecretRef, OidcVerification, OperatingMode, Repository,
        RetentionPolicy, UserWorkspace, UserWorkspaceSpec,
    };
    use k8s_openapi::{
        api::core::v1::{Container, VolumeMount},
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    fn built(repository: Option<Repository>) -> PodSpec {
        let pod = made(&workspace(repository, Auth { mode: AuthMode::Gateway, direct: None }), &terms());
        pod.spec.unwrap()
    }

    fn made(workspace: &UserWorkspace, terms: &Terms) -> Pod {
        pod(PodFor::Workspace(workspace, "ws-w1"), None, terms, &Settings::default())
    }

    fn workspace(repository: Option<Repository>, auth: Auth) -> UserWorkspace {
        let spec = UserWorkspaceSpec {
            user_id: "trader1".to_owned(),
            tier: "standard".to_owned(),
            auth,
            idle_timeout: None,
            operating_mode: OperatingMode::Auto,
            wake_schedules: Vec::new(),
            storage: None,
            repository,
            template: None,
        };
        UserWorkspace::new("w1", spec)
    }

    fn terms() -> Terms {
        Terms {
            idle_timeout: std::time::Duration::from_mins(15),
            image: "agent".to_owned(),
            storage_size: Quantity("1Gi".to_owned()),
            storage_class: None,
            retention: RetentionPolicy::Retain,
            access: Access::Full,
            egress: Egress::Web,
        }
    }

    #[test]
    fn no_container_has_more_rights_than_the_restricted_standard_allows() {
        let spec = built(None);
        assert_eq!(spec.automount_service_account_token, Some(false));
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let context = container.security_context.clone().unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false), "{}", container.name);
            assert_eq!(context.read_only_root_filesystem, Some(true), "{}", container.name);
            assert_eq!(context.capabilities.unwrap().drop.unwrap(), ["ALL"], "{}", container.name);
            assert!(context.run_as_user.unwrap() > 0, "{}", container.name);
        }
        let user = |container: &Container| container.security_context.clone().unwrap().run_as_user;
        let sidecar = &spec.init_containers.as_ref().unwrap()[0];
        assert_ne!(user(&spec.containers[0]), user(sidecar), "user code must not look into the sidecar");
    }

    #[test]
    fn the_agent_has_the_credential_of_its_remote_and_the_sidecar_has_not() {
        let spec = built(Some(Repository {
            url: "https://git.example.com/u.git".to_owned(),
            branch: "main".to_owned(),
            secret_ref: Some(LocalSecretRef { name: "git".to_owned() }),
        }));
        let mounts = |container: &Container| -> Vec<String> {
            container.volume_mounts.iter().flatten().map(|mount| mount.name.clone()).collect()
        };
        assert!(mounts(&spec.containers[0]).contains(&"repository".to_owned()));
        assert!(!mounts(&spec.init_containers.unwrap()[0]).contains(&"repository".to_owned()));
        assert!(spec.volumes.unwrap().iter().any(|volume| volume.secret.is_some()));
        let plain = built(None);
        assert!(!mounts(&plain.containers[0]).contains(&"repository".to_owned()));
    }

    fn mounted<'a>(container: &'a Container, path: &str) -> Option<&'a VolumeMount> {
        container.volume_mounts.iter().flatten().find(|mount| mount.mount_path == path)
    }

    fn variable(container: &Container, name: &str) -> Option<String> {
        container.env.iter().flatten().find(|variable| variable.name == name)?.value.clone()
    }

    #[test]
    fn a_public_workspace_has_its_data_read_only_and_sessions_that_end() {
        let public = workspace(None, Auth { mode: AuthMode::Public, direct: None });
        let spec = made(&public, &Terms { access: Access::ReadOnly, ..terms() }).spec.unwrap();
        assert_eq!(mounted(&spec.containers[0], "/workspace").unwrap().read_only, Some(true));
        assert_eq!(variable(&spec.containers[0], "DEXORDER_ACCESS").as_deref(), Some("ReadOnly"));
        let sidecar = &spec.init_containers.unwrap()[0];
        assert_eq!(variable(sidecar, "DEXORDER_SESSION_TTL").as_deref(), Some("15m"));
        assert_eq!(mounted(&built(None).containers[0], "/workspace").unwrap().read_only, None);
    }

    #[test]
    fn the_key_and_the_hashes_of_direct_mode_are_the_sidecars_alone() {
        let secret = Some(LocalSecretRef { name: "hashes".to_owned() });
        let direct = Some(DirectAuth { oidc: None, credentials_secret_ref: secret });
        let spec = made(&workspace(None, Auth { mode: AuthMode::Direct, direct }), &terms()).spec.unwrap();
        let sidecar = &spec.init_containers.as_ref().unwrap()[0];
        let key = mounted(sidecar, "/var/lib/dexorder/direct").unwrap();
        assert_eq!(key.sub_path.as_deref(), Some("sidecar"));
        assert!(mounted(sidecar, "/etc/dexorder/direct").unwrap().read_only.unwrap());
        let agent = &spec.containers[0];
        let folders: Vec<_> =
            agent.volume_mounts.iter().flatten().map(|mount| mount.sub_path.clone()).collect();
        assert_eq!(folders, [Some("workspace".to_owned()), None, None]);
    }

    #[test]
    fn an_issuer_of_direct_mode_is_told_to_the_sidecar() {
        let oidc = Some(OidcVerification {
            issuer: "https://login.example.com".to_owned(),
            audience: "fund1".to_owned(),
            user_id_claim: None,
            jwks_uri: Some("https://login.example.com/keys".to_owned()),
            jwks: None,
        });
        let direct = Some(DirectAuth { oidc, credentials_secret_ref: None });
        let spec = made(&workspace(None, Auth { mode: AuthMode::Direct, direct }), &terms()).spec.unwrap();
        let sidecar = &spec.init_containers.unwrap()[0];
        assert_eq!(variable(sidecar, "DEXORDER_DIRECT_ISSUER").as_deref(), Some("https://login.example.com"));
        assert_eq!(variable(sidecar, "DEXORDER_DIRECT_JWKS"), None);
        assert_eq!(variable(sidecar, "DEXORDER_DIRECT_CREDENTIALS_DIR"), None);
    }

    #[test]
    fn the_pod_says_its_tier_and_what_it_may_reach() {
        let gateway = workspace(None, Auth { mode: AuthMode::Gateway, direct: None });
        let pod = made(&gateway, &terms());
        let labels = pod.metadata.labels.unwrap();
        assert_eq!(
            (labels[keys::TIER_LABEL].as_str(), labels[keys::EGRESS_LABEL].as_str()),
            ("standard", "Web")
        );
        let other = made(&gateway, &Terms { egress: Egress::Any, ..terms() });
        let hash =
            |annotations: Option<BTreeMap<String, String>>| annotations.unwrap()[keys::TEMPLATE_HASH].clone();
        assert_ne!(hash(pod.metadata.annotations), hash(other.metadata.annotations));
    }
}
