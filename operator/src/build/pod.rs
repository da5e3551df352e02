//! The pod of a workspace: the agent, and the sidecar as the only way in. [no client]

use std::collections::BTreeMap;

use dexorder_crds::{Scheduling, UserWorkspace, WorkspaceTier, keys};
use dexorder_protocol::{CONTROL_PORT, MCP_PORT, hex};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
        EmptyDirVolumeSource, EnvVar, HTTPGetAction, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
        Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
        SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use sha2::{Digest, Sha256};

use super::{Settings, metadata, owner};
use crate::plan::Terms;

/// Where agent and sidecar meet.
const RUN: &str = "/run/dexorder";
/// The agent's socket.
const SOCKET: &str = "/run/dexorder/agent.sock";
/// What the sidecar knows of its pod.
const POD_INFO: &str = "/etc/dexorder/pod";
/// The volume in the agent.
const WORKSPACE: &str = "/workspace";
/// The credential of the git remote in the agent.
const REPOSITORY_CREDENTIALS: &str = "/etc/dexorder/repository";
/// User of the agent, and group of both.
const AGENT_ID: i64 = 1000;
/// User of the sidecar: not the agent's, so that user code can't look into it.
const SIDECAR_ID: i64 = 1001;
/// How long a pod may take to end: the drain and the agent's save.
const GRACE_SECONDS: i64 = 60;

/// Builds the pod.
pub fn pod(
    workspace: &UserWorkspace,
    tier: Option<&WorkspaceTier>,
    terms: &Terms,
    settings: &Settings,
) -> Pod {
    let spec = spec(workspace, tier, terms, settings);
    Pod {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([
                (keys::IDENTITY_KEYS.to_owned(), settings.identity_keys.clone()),
                (keys::TEMPLATE_HASH.to_owned(), hash(&spec)),
                ("kubectl.kubernetes.io/default-container".to_owned(), "agent".to_owned()),
            ])),
            owner_references: owner(workspace).map(|owner| vec![owner]),
            ..metadata(workspace)
        },
        spec: Some(spec),
        status: None,
    }
}

fn spec(
    workspace: &UserWorkspace,
    tier: Option<&WorkspaceTier>,
    terms: &Terms,
    settings: &Settings,
) -> PodSpec {
    let scheduling = tier.and_then(|tier| tier.spec.scheduling.clone()).unwrap_or_default();
    let Scheduling { node_selector, tolerations, priority_class_name } = scheduling;
    PodSpec {
        init_containers: Some(vec![sidecar(workspace, tier, settings)]),
        containers: vec![agent(workspace, tier, terms, settings)],
        volumes: Some(volumes(workspace)),
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
fn hash(spec: &PodSpec) -> String {
    let json = serde_json::to_vec(spec).unwrap_or_default();
    hex(&Sha256::digest(json)[..8])
}

fn agent(
    workspace: &UserWorkspace,
    tier: Option<&WorkspaceTier>,
    terms: &Terms,
    settings: &Settings,
) -> Container {
    let template = workspace.spec.template.clone().unwrap_or_default();
    let mut env = vec![
        env("DEXORDER_AGENT_SOCKET", SOCKET),
        env("DEXORDER_REPOSITORY", &format!("{WORKSPACE}/repository")),
        env("DEXORDER_USER_ID", &workspace.spec.user_id),
        env("DEXORDER_WORKSPACE", workspace.metadata.name.as_deref().unwrap_or_default()),
        env("DEXORDER_ACCESS", access(tier)),
        env("HOME", "/tmp"),
    ];
    env.extend(repository_env(workspace));
    env.extend(template.env.iter().map(|own| self::env(&own.name, &own.value)));
    Container {
        name: "agent".to_owned(),
        image: Some(terms.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        env: Some(env),
        resources: template.resources.or_else(|| tier.and_then(|tier| tier.spec.resources.clone())),
        security_context: Some(restricted(AGENT_ID)),
        volume_mounts: Some(agent_mounts(workspace)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn agent_mounts(workspace: &UserWorkspace) -> Vec<VolumeMount> {
    let mut mounts = vec![
        VolumeMount {
            name: "workspace".to_owned(),
            mount_path: WORKSPACE.to_owned(),
            sub_path: Some("workspace".to_owned()),
            ..VolumeMount::default()
        },
        mount("run", RUN),
        mount("tmp", "/tmp"),
    ];
    if repository_secret(workspace).is_some() {
        mounts.push(VolumeMount { read_only: Some(true), ..mount("repository", REPOSITORY_CREDENTIALS) });
    }
    mounts
}

/// Where the agent seeds its repository from and pushes to.
fn repository_env(workspace: &UserWorkspace) -> Vec<EnvVar> {
    let Some(repository) = &workspace.spec.repository else {
        return Vec::new();
    };
    let mut all = vec![
        env("DEXORDER_REPOSITORY_URL", &repository.url),
        env("DEXORDER_REPOSITORY_BRANCH", &repository.branch),
    ];
    if repository.secret_ref.is_some() {
        all.push(env("DEXORDER_REPOSITORY_CREDENTIALS", REPOSITORY_CREDENTIALS));
    }
    all
}

fn repository_secret(workspace: &UserWorkspace) -> Option<&str> {
    Some(workspace.spec.repository.as_ref()?.secret_ref.as_ref()?.name.as_str())
}

fn sidecar(workspace: &UserWorkspace, tier: Option<&WorkspaceTier>, settings: &Settings) -> Container {
    let metadata = &workspace.metadata;
    Container {
        name: "sidecar".to_owned(),
        image: Some(settings.sidecar_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(vec![
            env("DEXORDER_WORKSPACE_UID", metadata.uid.as_deref().unwrap_or_default()),
            env("DEXORDER_WORKSPACE", metadata.name.as_deref().unwrap_or_default()),
            env("DEXORDER_NAMESPACE", metadata.namespace.as_deref().unwrap_or_default()),
            env("DEXORDER_USER_ID", &workspace.spec.user_id),
            env("DEXORDER_AUTH_MODE", workspace.spec.auth.mode.as_str()),
            env("DEXORDER_ACCESS", access(tier)),
            env("DEXORDER_AGENT_SOCKET", SOCKET),
            env("DEXORDER_IDENTITY_KEYS_FILE", &format!("{POD_INFO}/identity-keys")),
            env("DEXORDER_MCP_ADDR", &format!("0.0.0.0:{MCP_PORT}")),
            env("DEXORDER_CONTROL_ADDR", &format!("0.0.0.0:{CONTROL_PORT}")),
            env("DEXORDER_DRAIN_TIMEOUT", "45s"),
            env("RUST_LOG", &settings.sidecar_log),
        ]),
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
        volume_mounts: Some(vec![
            mount("run", RUN),
            VolumeMount { read_only: Some(true), ..mount("pod", POD_INFO) },
        ]),
        ..Container::default()
    }
}

fn volumes(workspace: &UserWorkspace) -> Vec<Volume> {
    let claim = keys::child_name(workspace.metadata.name.as_deref().unwrap_or_default());
    let credentials = repository_secret(workspace).map(|secret| Volume {
        name: "repository".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let always = [
        Volume {
            name: "workspace".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "run".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("1Mi".to_owned())),
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: Some(Quantity("1Gi".to_owned())),
            }),
            ..Volume::default()
        },
        Volume {
            name: "pod".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "identity-keys".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: format!("metadata.annotations['{}']", keys::IDENTITY_KEYS),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
                default_mode: None,
            }),
            ..Volume::default()
        },
    ];
    always.into_iter().chain(credentials).collect()
}

fn access(tier: Option<&WorkspaceTier>) -> &'static str {
    match tier.map(|tier| tier.spec.access) {
        Some(dexorder_crds::Access::Full) => "Full",
        Some(dexorder_crds::Access::ReadOnly) | None => "ReadOnly",
    }
}

fn restricted(user: i64) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(user),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        ..ContainerPort::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(CONTROL_PORT)),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use dexorder_crds::{
        Auth, AuthMode, LocalSecretRef, OperatingMode, Repository, RetentionPolicy, UserWorkspaceSpec,
    };

    use super::*;

    fn built(repository: Option<Repository>) -> PodSpec {
        let spec = UserWorkspaceSpec {
            user_id: "trader1".to_owned(),
            tier: "standard".to_owned(),
            auth: Auth { mode: AuthMode::Gateway, direct: None },
            idle_timeout: None,
            operating_mode: OperatingMode::Auto,
            wake_schedules: Vec::new(),
            storage: None,
            repository,
            template: None,
        };
        let terms = Terms {
            idle_timeout: std::time::Duration::from_mins(15),
            image: "agent".to_owned(),
            storage_size: Quantity("1Gi".to_owned()),
            storage_class: None,
            retention: RetentionPolicy::Retain,
        };
        pod(&UserWorkspace::new("w1", spec), None, &terms, &Settings::default()).spec.unwrap()
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
}
