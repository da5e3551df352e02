"""What was acknowledged survives a kill at any moment."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Agent, wait_until

pytestmark = pytest.mark.anyio


def write_until_killed(agent: Agent, writer: int, numbers: Iterator[int], acknowledged: dict[str, str], answered: list[str]) -> None:
    for number in numbers:
        path, content = f"notes/{writer}-{number % 3}.md", f"{writer}: {number}\n"
        try:
            result = agent.ask("tools/call", {"name": "write_file", "arguments": {"path": path, "content": content}})
        except (OSError, http.client.HTTPException):
            return
        if result["isError"]:
            return
        acknowledged[path] = content
        answered.append(result["structuredContent"]["commit"])


async def test_kills_in_the_middle_of_writes_lose_nothing(new_agent: Agent) -> None:
    """Hundreds of acknowledged writes by many writers at once, kills at random moments, also while it packs."""
    new_agent._environment["AGENT_PACK_AFTER"] = "2"
    acknowledged: dict[str, str] = {}
    answered: list[str] = []
    numbers = itertools.count(1)
    chance = random.Random(7)
    for _ in range(8):
        new_agent.start()
        writers = [
            asyncio.create_task(asyncio.to_thread(write_until_killed, new_agent, writer, numbers, acknowledged, answered))
            for writer in range(8)
        ]
        enough = len(answered) + chance.randint(5, 100)
        async with asyncio.timeout(20):
            while len(answered) < enough:
                await asyncio.sleep(chance.uniform(0.001, 0.01))
        await asyncio.sleep(chance.uniform(0, 0.1))
        new_agent.kill()
        await asyncio.wait(writers)
        check(new_agent, acknowledged, answered)
    new_agent.start()
    await new_agent.call("write_file", path="notes/last.md", content="last\n")
    check(new_agent, acknowledged, answered)
    assert new_agent.git("status", "--porcelain") == ""
    assert not list(new_agent.repository.rglob(".dexorder-tmp-*"))
    assert len(answered) >= 200


def check(agent: Agent, acknowledged: dict[str, str], answered: list[str]) -> None:
    """Every acknowledged commit is reachable, and every file holds what was acknowledged or something written after it."""
    agent.git("fsck", "--strict", "--no-dangling")
    assert set(answered) <= set(agent.git("rev-list", "HEAD").split())
    for path, content in acknowledged.items():
        assert int((agent.repository / path).read_text().split()[1]) >= int(content.split()[1])


LOCKS = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/main.lock", "objects/maintenance.lock")


async def test_what_a_crash_left_is_committed_as_recovered(new_agent: Agent) -> None:
    new_agent.start()
    await new_agent.call("write_file", path="notes/a.md", content="a\n")
    new_agent.kill()
    (new_agent.repository / "notes/b.md").write_text("b\n")
    (new_agent.repository / "notes/a.md").write_text("changed\n")
    (new_agent.repository / "notes/.dexorder-tmp-x").write_text("half")
    for lock in LOCKS:
        (new_agent.repository / ".git" / lock).touch()
    new_agent.start()
    wait_until(lambda: "recovered" in new_agent.git("log", "-1", "--format=%s"))
    assert new_agent.git("show", "HEAD:notes/b.md") == "b\n"
    assert new_agent.git("show", "HEAD:notes/a.md") == "changed\n"
    assert new_agent.git("status", "--porcelain") == ""
    assert not [lock for lock in LOCKS if (new_agent.repository / ".git" / lock).exists()]
    assert (await new_agent.call("write_file", path="notes/c.md", content="c\n"))["changed"]


@pytest.mark.parametrize("damage", [b"", b"DIRC garbage"])
async def test_a_damaged_index_is_made_anew(new_agent: Agent, damage: bytes) -> None:
    new_agent.start()
    saved = await new_agent.call("write_file", path="notes/a.md", content="a\n")
    new_agent.kill()
    (new_agent.repository / ".git/index").write_bytes(damage)
    new_agent.start()
    again = await new_agent.call("write_file", path="notes/b.md", content="b\n")
    assert new_agent.git("rev-parse", f"{again['commit']}~1").strip() == saved["commit"]
    assert new_agent.git("status", "--porcelain") == ""


async def test_a_new_repository_is_whole_whenever_the_process_is_killed(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        agent = Agent(folder).start()
        await asyncio.sleep(number * 0.06)
        agent.kill()
        if agent.repository.exists():
            agent.git("fsck", "--strict")
            assert agent.git("status", "--porcelain") == ""
        agent.start()
        assert "Trading workspace" in (await agent.call("read_file", path="README.md"))["content"]
        assert agent.git("rev-list", "--count", "HEAD").strip() == "1"
        assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".dexorder-tmp-")] == []
        agent.kill()


async def test_a_new_repository_has_working_files_and_says_where_its_data_is_from(agent: Agent) -> None:
    first = agent.git("rev-list", "--max-parents=0", "HEAD").strip()
    files = agent.git("ls-tree", "-r", "--name-only", first).split()
    assert {f"indicators/{name}.py" for name in ("sma", "ema", "rsi", "macd", "bollinger", "atr")} <= set(files)
    assert {"strategies/sma_cross.py", "strategies/rsi_reversion.py", "data/ibm-daily.csv", ".gitignore"} <= set(files)
    assert "public domain" in (await agent.call("read_file", path="data/ibm-daily.md"))["content"]


async def test_the_sidecars_questions(new_agent: Agent) -> None:
    new_agent.start()
    saved = await new_agent.call("write_file", path="notes/a.md", content="a\n")
    assert new_agent.status() == {"ready": True, "busy": [], "commit": saved["commit"]}
    (new_agent.repository / "notes/by-hand.md").write_text("by hand\n")
    code, body = new_agent.request("POST", "/lifecycle/save")
    assert code == 200
    answer = json.loads(body)
    assert answer["clean"] is True
    assert new_agent.git("show", f"{answer['commit']}:notes/by-hand.md") == "by hand\n"
    code, body = new_agent.request("POST", "/lifecycle/save")
    assert json.loads(body) == answer


async def test_a_save_that_fails_says_so(new_agent: Agent) -> None:
    new_agent.start()
    await new_agent.call("read_file", path="README.md")
    (new_agent.repository / "notes.md").write_text("x\n")
    (new_agent.repository / ".git/index.lock").touch()
    code, body = new_agent.request("POST", "/lifecycle/save")
    assert code == 500 and "can't be saved" in json.loads(body)["error"]
    assert "can't be committed" in await new_agent.fails("write_file", path="notes/a.md", content="a\n")
    (new_agent.repository / ".git/index.lock").unlink()
    again = await new_agent.call("write_file", path="notes/a.md", content="a\n")
    assert new_agent.git("show", f"{again['commit']}:notes/a.md") == "a\n"


async def test_an_orderly_end_finishes_the_call_saves_and_exits_0(new_agent: Agent) -> None:
    new_agent.start()
    source = "import time\ndef compute(close):\n    time.sleep(1)\n    return close\n"
    await new_agent.call("save_indicator", name="slow", source=source)
    async with new_agent.client() as client:
        # Otherwise the client asks for the tool's schema after the call.
        await client.list_tools()
        running = asyncio.create_task(client.call_tool("run_indicator", {"name": "slow", "last": 1}))
        while new_agent.status()["busy"] != ["run_indicator slow"]:
            await asyncio.sleep(0.005)
        (new_agent.repository / "by-hand.md").write_text("by hand\n")
        assert new_agent.process is not None
        new_agent.process.send_signal(signal.SIGTERM)
        result = await running
    assert result.structured_content is not None
    assert result.structured_content["outputs"]["slow"] == [202.91]
    assert await asyncio.to_thread(new_agent.process.wait, 20) == 0
    assert not new_agent.socket.exists()
    assert new_agent.git("show", "HEAD:by-hand.md") == "by hand\n"
