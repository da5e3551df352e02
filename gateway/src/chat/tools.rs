//! The tools of a turn: those of the user's workspace and those of the platform, under names that clash with nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::llm::ToolSpec;
use super::platform::Platform;
use super::servers::Offer;
use super::wire::McpError;
use super::workspace::UserWorkspace;

/// What the gateway itself does in the workspace: a model that could do it too could forge the history.
const NOT_FOR_MODELS: [&str; 1] = ["append_conversation"];
const NAME_LENGTH: usize = 64;

/// Where a tool runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// In the workspace, under this name.
    Workspace {
        name: String,
        /// It says that it changes nothing.
        reads: bool,
    },
    Platform(Platform),
    /// In a server of the platform.
    Server {
        server: usize,
        name: String,
    },
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
    /// The platform's tools, those of its servers, and those that the workspace listed. Without a list the turn goes on
    /// with the others. `most`: how many minutes a workspace may be kept awake.
    pub(crate) fn new(listed: Result<Vec<Value>, McpError>, offers: Vec<Offer>, most: u64) -> Self {
        let mut tools = Self { specs: Vec::new(), routes: HashMap::new(), notes: Vec::new() };
        for platform in Platform::ALL {
            let spec = platform.spec(most);
            tools.routes.insert(spec.name.clone(), Route::Platform(platform));
            tools.specs.push(spec);
        }
        for Offer { server, name, tools: offered } in offers {
            match offered {
                Ok(offered) => {
                    for tool in offered.iter() {
                        tools.add_of_server(server, &name, tool);
                    }
                }
                Err(error) => {
                    tools.notes.push(format!("The tools of {name} can't be used in this turn: {error}."));
                }
            }
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

    fn add_of_server(&mut self, server: usize, server_name: &str, tool: &Value) {
        let Some(own) = tool["name"].as_str() else { return };
        let wanted = format!("{server_name}_{own}");
        let name = self.free_name(&wanted, "server");
        if name != wanted {
            self.notes.push(format!("The tool {own:?} of {server_name} is called {name} here."));
        }
        self.specs.push(spec(name.clone(), tool));
        self.routes.insert(name, Route::Server { server, name: own.to_owned() });
    }

    fn add(&mut self, tool: &Value) {
        let Some(own) = tool["name"].as_str().filter(|name| !NOT_FOR_MODELS.contains(name)) else {
            return;
        };
        let name = self.free_name(own, "workspace");
        if name != own {
            self.notes.push(format!("The workspace's tool {own:?} is called {name} here."));
        }
        self.specs.push(spec(name.clone(), tool));
        let reads = tool["annotations"]["readOnlyHint"] == true;
        self.routes.insert(name, Route::Workspace { name: own.to_owned(), reads });
    }

    /// A name that all providers take and no tool has yet.
    fn free_name(&self, own: &str, prefix: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let plain: String = own.chars().map(|c| if fits(c) { c } else { '_' }).take(NAME_LENGTH).collect();
        let taken = |name: &str| name.is_empty() || self.routes.contains_key(name);
        if !taken(&plain) {
            return plain;
        }
        let prefixed: String = format!("{prefix}_{plain}").chars().take(NAME_LENGTH - 4).collect();
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
    /// Whether the workspace may be another afterwards.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Self::Workspace { reads: false, .. })
    }

    pub(crate) async fn run(&self, workspace: &UserWorkspace, arguments: &Value, within: Duration) -> Done {
        match self {
            Self::Platform(platform) => platform.run(workspace, arguments).await,
            Self::Server { server, name } => {
                let app = &workspace.app;
                let call = app.chat.servers.call(&app.signer, *server, &workspace.user, name, arguments);
                match tokio::time::timeout(within, call).await.unwrap_or(Err(McpError::Late)) {
                    Ok(result) => Done { content: result.text, failed: result.failed },
                    Err(error) => Done { content: format!("the tool's server: {error}"), failed: true },
                }
            }
            Self::Workspace { name, .. } => match workspace.call(name, arguments, within).await {
                Ok(result) => Done { content: result.text, failed: result.failed },
                Err(McpError::Late) => {
                    Done { content: format!("no answer within {} s", within.as_secs()), failed: true }
                }
                Err(error) => Done { content: format!("the workspace: {error}"), failed: true },
            },
        }
    }
}

/// A tool that was listed, as the model sees it.
fn spec(name: String, tool: &Value) -> ToolSpec {
    let description = tool["description"].as_str().or_else(|| tool["title"].as_str()).unwrap_or_default();
    let parameters = &tool["inputSchema"];
    let parameters = if parameters.is_object() { parameters.clone() } else { json!({"type": "object"}) };
    ToolSpec { name, description: description.to_owned(), parameters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Tools {
        let listed = names.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
        Tools::new(Ok(listed.collect()), Vec::new(), 60)
    }

    #[test]
    fn clashing_and_unusable_names_are_changed_and_said() {
        let tools = tools(&["run", "platform_time", "a.b", "a_b", "append_conversation"]);
        let names: Vec<&str> = tools.specs.iter().map(|spec| spec.name.as_str()).collect();
        let expected = [
            "platform_time",
            "platform_workspace_status",
            "platform_keep_awake",
            "run",
            "workspace_platform_time",
            "a_b",
            "workspace_a_b",
        ];
        assert_eq!(names, expected);
        assert_eq!(tools.notes.len(), 3, "{:?}", tools.notes);
        let route = |name: &str| tools.route(name, "{}").unwrap().0;
        assert_eq!(route("platform_time"), Route::Platform(Platform::Time));
        let of_workspace = |name: &str| Route::Workspace { name: name.to_owned(), reads: false };
        assert_eq!(route("workspace_platform_time"), of_workspace("platform_time"));
        assert_eq!(route("workspace_a_b"), of_workspace("a_b"));
    }

    #[test]
    fn tools_of_the_platforms_servers_come_before_those_of_the_workspace() {
        let offer = |server, name: &str, tools| Offer { server, name: name.to_owned(), tools };
        let quote = || Ok(std::sync::Arc::new(vec![json!({"name": "quote"})]));
        let offers = vec![
            offer(0, "market", quote()),
            offer(1, "platform", Ok(std::sync::Arc::new(vec![json!({"name": "time"})]))),
            offer(2, "news", Err("it gave no answer in time".to_owned())),
        ];
        let listed = Ok(vec![json!({"name": "market_quote"})]);
        let tools = Tools::new(listed, offers, 60);
        let route = |name: &str| tools.route(name, "{}").unwrap().0;
        assert_eq!(route("market_quote"), Route::Server { server: 0, name: "quote".to_owned() });
        assert_eq!(route("platform_time"), Route::Platform(Platform::Time));
        assert_eq!(route("server_platform_time"), Route::Server { server: 1, name: "time".to_owned() });
        assert!(matches!(route("workspace_market_quote"), Route::Workspace { .. }));
        assert_eq!(tools.notes.len(), 3, "{:?}", tools.notes);
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
