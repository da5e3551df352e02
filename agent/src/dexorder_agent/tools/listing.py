"""The tools as clients see them, from a file: to make all schemas takes longer than the rest of the start.

`python -m dexorder_agent.tools.listing` writes the file anew after a change of the tools.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcp_types import Tool

FILE = Path(__file__).with_suffix(".json")

RUN_CODE = ("run_indicator", "run_strategy", "backtest_strategy")
"""They reach as far as the user's code does."""


def listed(*, read_only: bool, connects: bool) -> list[Tool]:
    """The tools in their order, without those that change something if the user may only read.

    `connects` says whether the user's code may use the network.
    """
    found = []
    for described in json.loads(FILE.read_bytes()):
        annotations = described["annotations"]
        if read_only and not annotations["readOnlyHint"]:
            continue
        annotations["openWorldHint"] |= connects and described["name"] in RUN_CODE
        found.append(Tool.model_validate(described))
    return found


def made() -> list[dict[str, Any]]:
    """The tools, described from their functions."""
    from dexorder_agent.settings import Settings
    from dexorder_agent.tools.all import toolbox
    from dexorder_agent.workspace import Workspace

    workspace = Workspace.of(Settings.from_environment({}))
    return [tool.listed.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in toolbox(workspace)]


def text(tools: list[dict[str, Any]]) -> str:
    """As it is kept in the file: one tool a line, so that a change shows what it changes."""
    return "[\n" + ",\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(text(made()))
