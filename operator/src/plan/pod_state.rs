//! What a pod's status says, in the words of the plan. [no client]

use dexorder_crds::{UserWorkspace, condition::ready, keys};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};

use super::phases;
use crate::pool;

/// Why a pod does not get on, as a reason of `Ready` and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A constant of [`dexorder_crds::condition::ready`].
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
}

/// Where a pod is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// There is none of that name.
    Absent,
    /// It is being deleted; why that takes long, if the node is lost.
    Terminating(Option<Problem>),
    /// It has ended and will not come back by itself.
    Ended(Problem),
    /// It is on its way, or up: `ready` tells.
    Alive(AlivePod),
    /// It is what a deleted workspace of the same name has left; its UID.
    Former(String),
    /// It is a free member of the warm pool on the claim that the workspace has taken over.
    Promised(AlivePod),
    /// Something else bears its name.
    Foreign,
}

/// A pod that starts or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each can be so by itself")]
pub struct AlivePod {
    /// Its UID.
    pub uid: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Whether the kubelet finds it ready.
    pub ready: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it has a node.
    pub scheduled: bool,
    /// Whether its containers run.
    pub running: bool,
    /// Whether it is of the warm pool, and must be told whom it serves.
    pub taken: bool,
    /// Its resource version.
    pub version: Option<String>,
    /// Why it does not get on, if something is wrong.
    pub problem: Option<Problem>,
}

impl PodState {
    /// Reads the state of the pod of this workspace.
    pub fn of(pod: Option<&Pod>, workspace: &UserWorkspace) -> Self {
        let Some(pod) = pod else {
            return Self::Absent;
        };
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            return Self::Terminating(node_lost(pod).then(|| node_lost_problem(pod)));
        }
        if pool::free(pod) && ended(pod).is_none() {
            return Self::Promised(alive(pod));
        }
        if !owners.iter().any(|owner| Some(&owner.uid) == workspace.metadata.uid.as_ref()) {
            let former = owners.iter().any(|owner| is_namesake(owner, workspace));
            return pod.metadata.uid.clone().filter(|_| former).map_or(Self::Foreign, Self::Former);
        }
        if let Some(problem) = ended(pod) {
            return Self::Ended(problem);
        }
        if node_lost(pod) {
            return Self::Alive(AlivePod {
                problem: Some(node_lost_problem(pod)),
                ready: false,
                ..alive(pod)
            });
        }
        Self::Alive(alive(pod))
    }
}

/// Whether the owner was a workspace of the same name. This one bears the name now, so that one is gone.
fn is_namesake(owner: &OwnerReference, workspace: &UserWorkspace) -> bool {
    owner.kind == UserWorkspace::kind(&())
        && owner.api_version == UserWorkspace::api_version(&())
        && Some(&owner.name) == workspace.metadata.name.as_ref()
}

fn alive(pod: &Pod) -> AlivePod {
    let ready = condition(pod, "Ready").is_some_and(|(status, _, _)| status == "True");
    AlivePod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
        ready,
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        scheduled: phases::is_scheduled(pod),
        running: phases::is_running(pod),
        taken: pod.annotations().contains_key(keys::ASSIGNMENT),
        version: pod.metadata.resource_version.clone(),
        problem: if ready { None } else { problem(pod) },
    }
}

fn ended(pod: &Pod) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().unwrap_or_default();
    let told = status.message.as_deref().unwrap_or("its node does not say why");
    let named = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    match status.phase.as_deref() {
        Some("Failed") if reason == "Evicted" => {
            Some(Problem { reason: ready::EVICTED, message: format!("the node evicted the pod: {told}") })
        }
        Some("Failed" | "Succeeded") => Some(match out_of_memory(pod) {
            Some(problem) => problem,
            None => Problem {
                reason: ready::POD_FAILED,
                message: format!("the pod ended{named}: {told}; it is made again on the same volume"),
            },
        }),
        _ => None,
    }
}

fn problem(pod: &Pod) -> Option<Problem> {
    out_of_memory(pod).or_else(|| waiting(pod)).or_else(|| unschedulable(pod))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(main)
}

fn out_of_memory(pod: &Pod) -> Option<Problem> {
    containers(pod).find_map(|container| {
        let terminated = [&container.state, &container.last_state]
            .into_iter()
            .filter_map(|state| state.as_ref()?.terminated.as_ref())
            .find(|terminated| terminated.reason.as_deref() == Some("OOMKilled"))?;
        Some(Problem {
            reason: ready::OUT_OF_MEMORY,
            message: format!(
                "container {} was killed for using too much memory (exit code {}); raise resources.limits.memory in spec.template or in the tier",
                container.name, terminated.exit_code
            ),
        })
    })
}

fn waiting(pod: &Pod) -> Option<Problem> {
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let told = waiting.message.as_deref().unwrap_or("no message");
        let name = &container.name;
        let (reason, message) = match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => (
                ready::IMAGE_PULL_FAILED,
                format!(
                    "image {} of container {name} can't be had: {told}; correct the image in spec.template or in the tier, or make it available",
                    container.image
                ),
            ),
            "CrashLoopBackOff" => (
                ready::CRASH_LOOP,
                format!("container {name} ends again and again: {told}; see `kubectl logs -p -c {name}`"),
            ),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                (ready::POD_FAILED, format!("container {name} can't be started: {told}"))
            }
            _ => return None,
        };
        Some(Problem { reason, message })
    })
}

fn unschedulable(pod: &Pod) -> Option<Problem> {
    let (status, reason, message) = condition(pod, "PodScheduled")?;
    if status != "False" || reason != "Unschedulable" {
        return None;
    }
    let has = |told: &str| message.contains(told);
    // The scheduler keeps a second pod from a volume that only one may have.
    let (reason, message) = if has("ReadWriteOncePod") {
        (
            ready::VOLUME_NOT_MOUNTED,
            format!("another pod uses the volume: {message}; the start goes on when that pod is gone"),
        )
    } else if has("storageclass") || has("unbound immediate PersistentVolumeClaims") {
        (ready::STORAGE_NOT_READY, format!("the claim gets no volume: {message}"))
    } else {
        (ready::UNSCHEDULABLE, format!("no node takes the pod: {message}"))
    };
    Some(Problem { reason, message })
}

/// Kubernetes takes readiness from the pods of a node that does not answer and gives no reason, while the kubelet's last
/// word on the containers stays (`MarkPodsNotReady` of its node lifecycle controller). A kubelet always gives one.
fn node_lost(pod: &Pod) -> bool {
    let is = |type_, wanted: &str| condition(pod, type_).is_some_and(|(status, ..)| status == wanted);
    let unexplained =
        condition(pod, "Ready").is_some_and(|(status, reason, _)| status == "False" && reason.is_empty());
    pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("NodeLost")
        || (unexplained && is("ContainersReady", "True"))
}

fn node_lost_problem(pod: &Pod) -> Problem {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown");
    Problem {
        reason: ready::NODE_LOST,
        message: format!(
            "node {node} does not answer and the pod may still run there; the next one starts when the node is back, or when it is surely off and its Node object was deleted"
        ),
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((
        &found.status,
        found.reason.as_deref().unwrap_or_default(),
        found.message.as_deref().unwrap_or_default(),
    ))
}
