"""What is put off at the start stays usable, and stays put off."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import sys
from dexorder_agent import startup
startup.prepare()
import dexorder_agent.serve
startup.finish()
import gc
assert gc.isenabled()
for name in ("click", "mcp.client.client", "httpcore2", "numpy", "pandas", "opentelemetry.sdk", "jsonschema", "uvicorn.supervisors"):
    assert name not in sys.modules, name
from mcp_types import ListToolsResult
assert not ListToolsResult.__pydantic_complete__, "schemas are built before they are needed"
assert ListToolsResult(tools=[]).tools == []
import mcp, uvicorn
assert mcp.Client.__name__ == "Client"
assert uvicorn.run.__module__ == "uvicorn.main"
"""


def test_nothing_unneeded_is_imported() -> None:
    subprocess.run([sys.executable, "-c", LOOK], check=True)
