//! Whether a manifest fits its tier, and the terms that follow. [no client]

use std::time::Duration;

use dexorder_crds::{
    Access, AuthMode, Egress, RetentionPolicy, UserWorkspace, WorkspaceTier, WorkspaceTierSpec,
    condition::accepted, keys,
};
use k8s_openapi::{apimachinery::pkg::api::resource::Quantity, jiff::Timestamp};

use super::{expiry::is_anonymous, schedule};

/// What a workspace gets under its tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Time without activity after which it is stopped: never more than the tier's most.
    pub idle_timeout: Duration,
    /// Image of the agent.
    pub image: String,
    /// Size of the volume.
    pub storage_size: Quantity,
    /// Storage class of the claim.
    pub storage_class: Option<String>,
    /// What becomes of the volume when the workspace is deleted.
    pub retention: RetentionPolicy,
    /// What its users may do.
    pub access: Access,
    /// What the pod may reach.
    pub egress: Egress,
}

impl Terms {
    /// What the tier gives whoever asks for nothing else. None if it names no image.
    pub fn of_tier(tier: &WorkspaceTierSpec, mode: AuthMode) -> Option<Self> {
        Some(Self {
            idle_timeout: tier.idle_timeout.default.min(tier.idle_timeout.most).as_std(),
            image: tier.image.clone()?,
            storage_size: tier.storage.size.clone(),
            storage_class: tier.storage.storage_class_name.clone(),
            retention: tier.storage.retention_policy,
            access: access(tier, mode),
            egress: tier.egress,
        })
    }
}

const fn access(tier: &WorkspaceTierSpec, mode: AuthMode) -> Access {
    match mode {
        AuthMode::Public => Access::ReadOnly,
        AuthMode::Gateway | AuthMode::Direct => tier.access,
    }
}

/// The verdict on a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether a pod may be started.
    pub accepted: bool,
    /// A constant of [`dexorder_crds::condition::accepted`].
    pub reason: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
    /// The terms, where they could be told. Idleness is judged by them also while a manifest is not accepted.
    pub terms: Option<Terms>,
    /// How long an anonymous visitor's workspace lives, if the tier says so.
    pub max_lifetime: Option<Duration>,
}

/// The time in the annotation `dexorder.io/keep-awake-until`, or the text if it is no time.
pub(super) fn keep_awake_until(workspace: &UserWorkspace) -> Option<Result<Timestamp, &str>> {
    let text = workspace.metadata.annotations.as_ref()?.get(keys::KEEP_AWAKE_UNTIL)?;
    Some(text.parse().map_err(|_| text.as_str()))
}

/// Judges a manifest by its tier.
pub(super) fn judge(workspace: &UserWorkspace, tier: Option<&WorkspaceTier>, now: Timestamp) -> Verdict {
    let max_lifetime = tier.and_then(|tier| tier.spec.max_lifetime).map(dexorder_crds::Duration::as_std);
    Verdict { max_lifetime, ..judge_fit(workspace, tier, now) }
}

fn judge_fit(workspace: &UserWorkspace, tier: Option<&WorkspaceTier>, now: Timestamp) -> Verdict {
    let spec = &workspace.spec;
    let Some(tier) = tier else {
        return refuse(
            accepted::TIER_NOT_FOUND,
            format!(
                "there is no WorkspaceTier \"{}\"; create it or choose one that `kubectl get workspacetiers` lists",
                spec.tier
            ),
            None,
        );
    };
    let terms = terms(workspace, &tier.spec);
    let most = tier.spec.idle_timeout.most;
    if let Some(asked) = spec.idle_timeout.filter(|asked| *asked > most) {
        return refuse(
            accepted::IDLE_TIMEOUT_TOO_LONG,
            format!(
                "idleTimeout {asked} is longer than tier \"{}\" allows; ask for at most {most}",
                spec.tier
            ),
            terms,
        );
    }
    let mode = spec.auth.mode;
    if !tier.spec.auth_modes.contains(&mode) {
        let allowed: Vec<_> = tier.spec.auth_modes.iter().map(|mode| mode.as_str()).collect();
        return refuse(
            accepted::AUTH_MODE_NOT_ALLOWED,
            format!(
                "tier \"{}\" does not allow auth mode {}; choose {}",
                spec.tier,
                mode.as_str(),
                allowed.join(" or ")
            ),
            terms,
        );
    }
    if let Some(fault) = schedule::fault(&spec.wake_schedules, now) {
        return refuse(accepted::INVALID_SCHEDULE, format!("spec.wakeSchedules: {fault}"), terms);
    }
    if terms.is_none() {
        return refuse(
            accepted::NO_IMAGE,
            format!(
                "tier \"{}\" names no image; set spec.image there or spec.template.image here",
                spec.tier
            ),
            None,
        );
    }
    let mut message = format!("the manifest fits tier \"{}\"", spec.tier);
    if let Some(Err(text)) = keep_awake_until(workspace) {
        message = format!(
            "{message}; annotation {} \"{text}\" is no time: write one like 2030-01-31T18:00:00Z",
            keys::KEEP_AWAKE_UNTIL
        );
    }
    Verdict { accepted: true, reason: accepted::ACCEPTED, message, terms, max_lifetime: None }
}

fn refuse(reason: &'static str, message: String, terms: Option<Terms>) -> Verdict {
    Verdict { accepted: false, reason, message, terms, max_lifetime: None }
}

fn terms(workspace: &UserWorkspace, tier: &WorkspaceTierSpec) -> Option<Terms> {
    let spec = &workspace.spec;
    let image =
        spec.template.as_ref().and_then(|template| template.image.clone()).or_else(|| tier.image.clone())?;
    let own = spec.storage.clone().unwrap_or_default();
    let idle = spec.idle_timeout.unwrap_or(tier.idle_timeout.default).min(tier.idle_timeout.most);
    Some(Terms {
        idle_timeout: idle.as_std(),
        image,
        storage_size: own.size.unwrap_or_else(|| tier.storage.size.clone()),
        storage_class: own.storage_class_name.or_else(|| tier.storage.storage_class_name.clone()),
        retention: own.retention_policy.unwrap_or(if is_anonymous(workspace) {
            // Nobody could come back to it.
            RetentionPolicy::Delete
        } else {
            tier.storage.retention_policy
        }),
        access: access(tier, spec.auth.mode),
        egress: tier.egress,
    })
}
