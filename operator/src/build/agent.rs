//! The agent's container. [no client]

use dexorder_crds::{AuthMode, Repository, WorkspaceTier};
use k8s_openapi::api::core::v1::{Container, EnvVar, VolumeMount};

use super::{
    PodFor, Settings,
    parts::{env, folder, mount, read_only, restricted},
    pod::{AGENT_ID, RUN, SOCKET, access},
    volumes::{REPOSITORY, repository_secret},
};
use crate::plan::Terms;

/// The volume in the agent.
const WORKSPACE: &str = "/workspace";
/// The credential of the git remote in the agent.
const REPOSITORY_CREDENTIALS: &str = "/etc/dexorder/repository";

pub(super) fn agent(
    subject: PodFor<'_>,
    tier: Option<&WorkspaceTier>,
    terms: &Terms,
    settings: &Settings,
) -> Container {
    let workspace = subject.workspace();
    let template = workspace.and_then(|workspace| workspace.spec.template.clone()).unwrap_or_default();
    let mut all = vec![
        env("DEXORDER_AGENT_SOCKET", SOCKET),
        env("DEXORDER_REPOSITORY", &format!("{WORKSPACE}/repository")),
    ];
    // The agent of a member learns whose it is from the requests that the sidecar passes on.
    if let Some(workspace) = workspace {
        all.push(env("DEXORDER_USER_ID", &workspace.spec.user_id));
        all.push(env("DEXORDER_WORKSPACE", workspace.metadata.name.as_deref().unwrap_or_default()));
    }
    all.extend([
        env("DEXORDER_ACCESS", access(terms)),
        env("DEXORDER_EGRESS", terms.egress.as_str()),
        env("HOME", "/tmp"),
    ]);
    let repository = workspace.and_then(|workspace| workspace.spec.repository.as_ref());
    all.extend(repository.into_iter().flat_map(repository_env));
    all.extend(template.env.iter().map(|own| env(&own.name, &own.value)));
    Container {
        name: "agent".to_owned(),
        image: Some(terms.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        env: Some(all),
        resources: template.resources.or_else(|| tier.and_then(|tier| tier.spec.resources.clone())),
        security_context: Some(restricted(AGENT_ID)),
        volume_mounts: Some(mounts(subject)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn mounts(subject: PodFor<'_>) -> Vec<VolumeMount> {
    // Whoever comes to a public workspace is unknown: the volume itself refuses what the agent might let through.
    let public = subject.mode() == AuthMode::Public;
    let data = VolumeMount { read_only: public.then_some(true), ..folder("workspace", WORKSPACE) };
    let mut all = vec![data, mount("run", RUN), mount("tmp", "/tmp")];
    if subject.workspace().and_then(repository_secret).is_some() {
        all.push(read_only(REPOSITORY, REPOSITORY_CREDENTIALS));
    }
    all
}

/// Where the agent seeds its repository from and pushes to.
fn repository_env(repository: &Repository) -> Vec<EnvVar> {
    let mut all = vec![
        env("DEXORDER_REPOSITORY_URL", &repository.url),
        env("DEXORDER_REPOSITORY_BRANCH", &repository.branch),
    ];
    if repository.secret_ref.is_some() {
        all.push(env("DEXORDER_REPOSITORY_CREDENTIALS", REPOSITORY_CREDENTIALS));
    }
    all
}
