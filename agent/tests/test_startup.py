"""What is put off at the start stays usable, and stays put off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import Agent, slowness, wait_until

LOOK = """
import sys
from dexorder_agent import startup
startup.prepare()
import dexorder_agent.serve
startup.finish()
import gc
assert gc.isenabled()
for name in ("click", "mcp.client.client", "httpcore2", "numpy", "pandas", "opentelemetry.sdk", "jsonschema", "uvicorn.supervisors", "h11",
             "cryptography", "mcp.server.mcpserver.server", "mcp.server.auth.handlers", "mcp.shared.auth"):
    assert name not in sys.modules, name
from mcp_types import ListToolsResult
assert not ListToolsResult.__pydantic_complete__, "schemas are built before they are needed"
assert ListToolsResult(tools=[]).tools == []
from mcp_types import methods
old = methods.CLIENT_REQUESTS["tools/list", "2025-11-25"]
assert not old.loaded()
methods.validate_client_request("tools/list", "2025-11-25", None)
assert old.loaded() and old.model_json_schema()["title"] == "ListToolsRequest"
assert methods.serialize_server_result("tools/list", "2025-11-25", {"tools": []}) == {"tools": []}
import mcp, uvicorn
assert mcp.Client.__name__ == "Client"
assert uvicorn.run.__module__ == "uvicorn.main"
"""


def test_nothing_unneeded_is_imported() -> None:
    subprocess.run([sys.executable, "-c", LOOK], check=True)


FIRST = [("resources/read", {"uri": "context://user-profile"}), ("tools/list", {})]


@pytest.mark.parametrize(("method", "params"), FIRST)
def test_the_first_answer_takes_little_and_the_idle_agent_is_small(new_agent: Agent, method: str, params: dict[str, Any]) -> None:
    """Twice what it takes at most on a machine of its own; `measure_start.py` measures."""
    new_agent.start()
    wait_until(lambda: new_agent.status()["commit"])
    assert new_agent.stop() == 0
    new_agent.start()
    new_agent.ask(method, params)
    assert new_agent.processor_ms() < 1000 * slowness()
    wait_until(lambda: new_agent.memory_mib() < 70)


def test_no_git_runs_before_the_first_answer(new_agent: Agent, tmp_path: Path) -> None:
    new_agent.start()
    wait_until(lambda: new_agent.status()["commit"])
    assert new_agent.stop() == 0
    noted = tmp_path / "git-ran"
    wrapper = tmp_path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\ndate +%s.%N >> {noted}\nPATH=${{PATH#*:}} exec git "$@"\n')
    wrapper.chmod(0o755)
    new_agent._environment["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"
    for _ in range(10):
        noted.unlink(missing_ok=True)
        new_agent.start()
        shown = time.time()
        new_agent.ask("tools/list", {})
        answered = time.time()
        wait_until(lambda: noted.exists() and noted.read_text())
        assert new_agent.stop() == 0
        # An agent that nobody asks goes on after a second.
        if answered - shown < 0.9:
            assert float(noted.read_text().splitlines()[0]) > answered - 0.1
            return
    pytest.skip("this machine is too slow just now")
