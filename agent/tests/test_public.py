"""What a visitor may: read and run, on whatever volume there is, and change nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import LEGACY, MODERN, Agent, wait_until
from test_tools import CHANGING, DOUBLE, READING

pytestmark = pytest.mark.anyio

AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


@pytest.fixture
def visited(new_agent: Agent) -> Agent:
    """An agent for a visitor, not started yet."""
    new_agent._environment["DEXORDER_ACCESS"] = "ReadOnly"
    return new_agent


def mount_read_only(agent: Agent) -> None:
    """Have the agent see the folder of its repository and packages read-only, and nobody else."""
    volume = agent.folder / "volume"
    volume.mkdir(exist_ok=True)
    agent._environment |= {"DEXORDER_REPOSITORY": str(volume / "repository"), "DEXORDER_ENVIRONMENT": str(volume / "environment")}
    script = f"mount --bind '{volume}' '{volume}' && mount -o remount,ro,bind '{volume}' && exec \"$@\""
    agent.under = ["unshare", *AS_ROOT, "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*agent.under, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine allows no mounts")


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_only_what_reads_is_shown(visited: Agent, mode: str) -> None:
    visited.start()
    async with visited.client(mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert len((await client.list_resources()).resources) == 6
    assert tools == READING


async def test_the_rest_is_refused_and_changes_nothing(visited: Agent) -> None:
    visited.start()
    wait_until(lambda: visited.status()["commit"])
    before = visited.git("rev-parse", "HEAD")
    for name in CHANGING:
        assert "this workspace is read-only" in await visited.fails(name, name="double", source=DOUBLE)
    assert (await visited.call("run_indicator", name="rsi", last=1))["bars"] == 3270
    assert (await visited.call("backtest_strategy", name="sma_cross", last=1))["trade_count"] > 10
    assert visited.git("rev-parse", "HEAD") == before


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


async def test_the_repository_of_a_read_only_volume_is_served_as_it_is(visited: Agent) -> None:
    mount_read_only(visited)
    made = Agent(visited.folder)
    made.start()
    saved = await made.call("save_indicator", name="double", source=DOUBLE)
    assert made.stop() == 0
    volume = visited.folder / "volume"
    shutil.move(made.repository, volume / "repository")
    # What a crash has left stays where it is.
    (volume / "repository/.git/index.lock").touch()
    (volume / "repository/notes.md").write_text("uncommitted\n")
    before = contents(volume)
    visited.start()
    assert visited.status()["commit"] == saved["commit"]
    assert (await visited.call("run_indicator", name="double", series={"close": [1, 2]}))["outputs"] == {"double": [2.0, 4.0]}
    assert (await visited.call("history_log", limit=1))["commits"][0]["commit"] == saved["commit"]
    assert (await visited.call("search_files", pattern="Twice the price"))["matches"]
    assert (await visited.call("list_packages"))["problem"] is None
    assert "read-only" in await visited.fails("write_file", path="a.md", content="a")
    code, _ = visited.request("POST", "/lifecycle/save")
    assert code == 200
    assert visited.stop() == 0
    assert contents(volume) == before
    told = (visited.folder / "log").read_text()
    assert "Traceback" not in told and "error" not in told


async def test_a_read_only_volume_without_a_repository_gets_one_that_is_thrown_away(visited: Agent, tmp_path: Path) -> None:
    mount_read_only(visited)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    visited._environment["TMPDIR"] = str(scratch)
    visited.start()
    assert (await visited.call("run_indicator", name="rsi", last=1))["bars"] == 3270
    assert "read-only" in await visited.fails("write_file", path="a.md", content="a")
    assert list(scratch.glob("*/repository/.git"))
    assert visited.stop() == 0
    assert not list(scratch.iterdir()) and not list((visited.folder / "volume").iterdir())


async def test_changes_are_in_the_name_of_the_user_who_asks(new_agent: Agent) -> None:
    """An agent that is started before anybody needs it doesn't know yet whose it will be."""
    new_agent._environment["DEXORDER_USER_ID"] = ""
    new_agent.start()
    wait_until(lambda: new_agent.status()["commit"])
    assert new_agent.git("log", "-1", "--format=%an").strip() == "workspace"
    arguments = {"name": "write_file", "arguments": {"path": "a.md", "content": "a"}}
    assert not new_agent.ask("tools/call", arguments, user="auth0|trader-7")["isError"]
    assert new_agent.git("log", "-1", "--format=%an <%ae>").strip() == "auth0|trader-7 <auth0-trader-7@workspace.invalid>"
