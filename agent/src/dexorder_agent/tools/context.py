"""Tools that set what the assistant knows: the user's profile, the system prompt, the state of the workspace."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo.group import Edits, Read
from dexorder_agent.tools.shapes import SavedShape
from dexorder_agent.tools.toolbox import REPLACES, tool
from dexorder_agent.workspace import Workspace

PROFILE = "context/user-profile.md"
PROMPT = "context/system-prompt.md"
STATE = "context/workspace-state.json"
MAX_STATE_BYTES = 512 * 1024

Text = Annotated[str, Field(description="The whole new text, as Markdown", max_length=200_000)]


class ContextTools:
    """Each tool replaces one file of the context folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._repository = workspace.repository

    @tool("Set the user profile", REPLACES)
    async def set_user_profile(self, text: Text) -> SavedShape:
        """Replace the user's profile (preferences, trading style, limits), which is the resource context://user-profile."""
        return await self._set(PROFILE, text.encode(), "Set the user profile")

    @tool("Set the system prompt", REPLACES)
    async def set_system_prompt(self, text: Text) -> SavedShape:
        """Replace the assistant's system prompt of this workspace, which is the resource context://system-prompt."""
        return await self._set(PROMPT, text.encode(), "Set the system prompt")

    @tool("Set the workspace state", REPLACES)
    async def set_workspace_state(
        self,
        state: Annotated[dict[str, Any], Field(description="Chart, indicators, analysis: any JSON object")],
        merge: Annotated[bool, Field(description="Change only the named members, as a JSON merge patch (null removes)")] = False,
    ) -> SavedShape:
        """Replace the state of the workspace (chart, indicators, analysis), which is the resource context://workspace-state, or merge
        changes into it."""

        def edit(read: Read) -> Edits:
            value: Any = state
            if merge:
                try:
                    before = json.loads(read(STATE) or b"{}")
                except ValueError:
                    before = {}
                value = merge_patch(before, state)
            content = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            if len(content.encode()) > MAX_STATE_BYTES:
                raise WorkspaceError(f"the state is larger than {MAX_STATE_BYTES} bytes: keep only what the chart needs")
            return {STATE: content.encode()}

        change = await self._repository.update("Set the workspace state", edit)
        return SavedShape(path=STATE, commit=change.commit, changed=change.changed)

    async def _set(self, path: str, content: bytes, message: str) -> SavedShape:
        change = await self._repository.change(message, {path: content})
        return SavedShape(path=path, commit=change.commit, changed=change.changed)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
