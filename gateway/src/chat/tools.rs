//! The tools of a turn: those of the user's workspace and those of the platform, under names that clash with nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::llm::ToolSpec;
use super::workspace::{McpError, UserWorkspace};
use crate::clock;

/// What the gateway itself does in the workspace: a model that could do it too could forge the history.
const NOT_FOR_MODELS: [&str; 1] = ["append_conversation"];
const NAME_LENGTH: usize = 64;

/// Where a tool runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// In the workspace, under this name.
    Workspace(String),
    Platform(Platform),
}

/// A tool that runs in the gateway. It always acts for the user of the turn: no argument names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Time,
    WorkspaceStatus,
}

/// The tools of one turn.
pub(crate) struct Tools {
    pub(crate) specs: Vec<ToolSpec>,
    routes: HashMap<String, Route>,
    /// What the model should know about them.
    pub(crate) notes: Vec<String>,
}

/// What became of a call.
pub(crate) struct Done {
    pub(crate) content: String,
    pub(crate) failed: bool,
}

impl Tools {
    /// The platform's tools and those that the workspace listed. Without the list the turn goes on with the platform's.
    pub(crate) fn new(listed: Result<Vec<Value>, McpError>) -> Self {
        let mut tools = Self { specs: Vec::new(), routes: HashMap::new(), notes: Vec::new() };
        for platform in [Platform::Time, Platform::WorkspaceStatus] {
            let spec = platform.spec();
            tools.routes.insert(spec.name.clone(), Route::Platform(platform));
            tools.specs.push(spec);
        }
        match listed {
            Ok(listed) => {
                for tool in &listed {
                    tools.add(tool);
                }
            }
            Err(error) => {
                tools.notes.push(format!("The tools of the workspace can't be used in this turn: {error}."));
            }
        }
        tools
    }

    fn add(&mut self, tool: &Value) {
        let Some(own) = tool["name"].as_str().filter(|name| !NOT_FOR_MODELS.contains(name)) else {
            return;
        };
        let name = self.free_name(own);
        if name != own {
            self.notes.push(format!("The workspace's tool {own:?} is called {name} here."));
        }
        let description = tool["description"].as_str().or_else(|| tool["title"].as_str()).unwrap_or_default();
        let parameters = &tool["inputSchema"];
        let parameters = if parameters.is_object() { parameters.clone() } else { json!({"type": "object"}) };
        self.specs.push(ToolSpec { name: name.clone(), description: description.to_owned(), parameters });
        self.routes.insert(name, Route::Workspace(own.to_owned()));
    }

    /// A name that all providers take and no tool has yet.
    fn free_name(&self, own: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let plain: String = own.chars().map(|c| if fits(c) { c } else { '_' }).take(NAME_LENGTH).collect();
        let taken = |name: &str| name.is_empty() || self.routes.contains_key(name);
        if !taken(&plain) {
            return plain;
        }
        let prefixed: String = format!("workspace_{plain}").chars().take(NAME_LENGTH - 4).collect();
        let numbered = (2..).map(|number| format!("{prefixed}_{number}"));
        std::iter::once(prefixed.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(prefixed)
    }

    /// Where a call goes and its arguments, or what is wrong with how the model wrote it.
    pub(crate) fn route(&self, name: &str, arguments: &str) -> Result<(Route, Value), String> {
        let route = self.routes.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
            format!("there is no tool {name:?}: the tools are {}", names.join(", "))
        })?;
        let text = if arguments.trim().is_empty() { "{}" } else { arguments };
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok((route.clone(), value)),
            Ok(_) => Err(format!("the arguments of {name} must be a JSON object")),
            Err(error) => Err(format!("the arguments of {name} are no JSON: {error}")),
        }
    }
}

impl Route {
    pub(crate) async fn run(&self, workspace: &UserWorkspace, arguments: &Value, within: Duration) -> Done {
        match self {
            Self::Platform(platform) => platform.run(workspace, arguments),
            Self::Workspace(name) => match workspace.call(name, arguments, within).await {
                Ok(result) => Done { content: result.text, failed: result.failed },
                Err(McpError::Late) => {
                    Done { content: format!("no answer within {} s", within.as_secs()), failed: true }
                }
                Err(error) => Done { content: format!("the workspace: {error}"), failed: true },
            },
        }
    }
}

impl Platform {
    fn spec(self) -> ToolSpec {
        let (name, description) = match self {
            Self::Time => ("platform_time", "The time now, in UTC."),
            Self::WorkspaceStatus => (
                "platform_workspace_status",
                "What the platform knows of this user's workspace: its name, whether it runs, and why.",
            ),
        };
        ToolSpec {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: json!({"type": "object", "properties": {}, "additionalProperties": false}),
        }
    }

    fn run(self, workspace: &UserWorkspace, arguments: &Value) -> Done {
        if let Some(name) = arguments.as_object().and_then(|arguments| arguments.keys().next()) {
            let content = format!("{} takes no argument {name:?}: it takes none", self.spec().name);
            return Done { content, failed: true };
        }
        let value = match self {
            Self::Time => json!({"utc": clock::rfc3339()}),
            Self::WorkspaceStatus => status(workspace),
        };
        Done { content: value.to_string(), failed: false }
    }
}

fn status(workspace: &UserWorkspace) -> Value {
    let Some(known) = workspace.app.workspaces.current(&workspace.user) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Tools {
        Tools::new(Ok(names
            .iter()
            .map(|name| json!({"name": name, "inputSchema": {"type": "object"}}))
            .collect()))
    }

    #[test]
    fn clashing_and_unusable_names_are_changed_and_said() {
        let tools = tools(&["run", "platform_time", "a.b", "a_b", "append_conversation"]);
        let names: Vec<&str> = tools.specs.iter().map(|spec| spec.name.as_str()).collect();
        let expected = [
            "platform_time",
            "platform_workspace_status",
            "run",
            "workspace_platform_time",
            "a_b",
            "workspace_a_b",
        ];
        assert_eq!(names, expected);
        assert_eq!(tools.notes.len(), 3, "{:?}", tools.notes);
        let route = |name: &str| tools.route(name, "{}").unwrap().0;
        assert_eq!(route("platform_time"), Route::Platform(Platform::Time));
        assert_eq!(route("workspace_platform_time"), Route::Workspace("platform_time".to_owned()));
        assert_eq!(route("workspace_a_b"), Route::Workspace("a_b".to_owned()));
    }

    #[test]
    fn a_malformed_call_is_explained() {
        let tools = tools(&["run"]);
        assert!(tools.route("walk", "{}").unwrap_err().contains("the tools are platform_time"));
        assert!(tools.route("run", "{").unwrap_err().contains("no JSON"));
        assert!(tools.route("run", "[1]").unwrap_err().contains("JSON object"));
        assert_eq!(tools.route("run", "").unwrap().1, json!({}));
    }
}
