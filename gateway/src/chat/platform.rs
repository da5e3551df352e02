//! The tools that run in the gateway itself. Each acts for the user of the turn: no argument names another.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::llm::ToolSpec;
use super::tools::Done;
use super::workspace::UserWorkspace;
use crate::clock;

const MINUTES: &str = "minutes";

/// A tool of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Time,
    WorkspaceStatus,
    KeepAwake,
}

impl Platform {
    pub(crate) const ALL: [Self; 3] = [Self::Time, Self::WorkspaceStatus, Self::KeepAwake];

    const fn name(self) -> &'static str {
        match self {
            Self::Time => "platform_time",
            Self::WorkspaceStatus => "platform_workspace_status",
            Self::KeepAwake => "platform_keep_awake",
        }
    }

    /// As the model sees it. `most`: how many minutes a workspace may be kept awake.
    pub(crate) fn spec(self, most: u64) -> ToolSpec {
        let (description, properties) = match self {
            Self::Time => ("The time now, in UTC.".to_owned(), json!({})),
            Self::WorkspaceStatus => (
                "What the platform knows of this user's workspace: its name, whether it runs, and why."
                    .to_owned(),
                json!({}),
            ),
            Self::KeepAwake => (
                format!(
                    "Keeps this user's workspace from being stopped for idleness for some minutes from now, {most} \
                     at most. A longer time that was asked for before stays."
                ),
                json!({MINUTES: {"type": "integer", "minimum": 1, "maximum": most}}),
            ),
        };
        let required: Vec<&String> = properties.as_object().into_iter().flat_map(|all| all.keys()).collect();
        let parameters = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        });
        ToolSpec { name: self.name().to_owned(), description, parameters }
    }

    pub(crate) async fn run(self, workspace: &UserWorkspace, arguments: &Value) -> Done {
        match self.answer(workspace, arguments).await {
            Ok(value) => Done { content: value.to_string(), failed: false },
            Err(content) => Done { content, failed: true },
        }
    }

    async fn answer(self, workspace: &UserWorkspace, arguments: &Value) -> Result<Value, String> {
        let takes: &[&str] = if self == Self::KeepAwake { &[MINUTES] } else { &[] };
        let given = arguments.as_object().into_iter().flat_map(|given| given.keys());
        if let Some(name) = given.into_iter().find(|name| !takes.contains(&name.as_str())) {
            let known = if takes.is_empty() { "it takes none".to_owned() } else { takes.join(", ") };
            return Err(format!("{} takes no argument {name:?}: {known}", self.name()));
        }
        match self {
            Self::Time => Ok(json!({"utc": clock::rfc3339()})),
            Self::WorkspaceStatus => Ok(status(workspace)),
            Self::KeepAwake => keep_awake(workspace, &arguments[MINUTES]).await,
        }
    }
}

fn status(workspace: &UserWorkspace) -> Value {
    let Some(known) = workspace.app.workspaces.of_user(&workspace.user) else {
        return json!({"state": "Missing"});
    };
    let ready = known.ready.as_ref();
    json!({
        "workspace": known.name,
        "tier": known.tier,
        "state": ready.map_or("Pending", |state| &state.reason),
        "ready": ready.is_some_and(|state| state.holds),
        "message": ready.map(|state| &state.message),
        "operatingMode": format!("{:?}", known.mode),
        "created": known.created.to_string(),
    })
}

async fn keep_awake(workspace: &UserWorkspace, minutes: &Value) -> Result<Value, String> {
    let app = &workspace.app;
    let most = app.config.chat.keep_awake_minutes();
    let minutes = minutes.as_u64().filter(|minutes| (1..=most).contains(minutes));
    let minutes = minutes.ok_or_else(|| format!("{MINUTES} must be a whole number from 1 to {most}"))?;
    let known = app.workspaces.of_user(&workspace.user).ok_or("there is no workspace yet")?;
    if known.is_anonymous() {
        return Err("the workspace of an anonymous visitor is not kept awake".to_owned());
    }
    let wanted = i64::try_from(minutes).map(SignedDuration::from_mins).unwrap_or_default();
    let until = Timestamp::now().checked_add(wanted).map_err(|_| "that is too far away".to_owned())?;
    let kept = app.workspaces.keep_awake(&known.name, until).await.map_err(|error| error.to_string())?;
    Ok(json!({"workspace": known.name, "awake_until": second(kept).to_string()}))
}

fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
