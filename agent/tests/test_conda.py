"""The image's way to an environment of conda packages: the same script and list, with a small channel."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import channel
import pytest
from support import Agent, wait_until
from test_packaging import AGENT, LISTED, NOT_FROM_PIP

pytestmark = pytest.mark.anyio


async def test_the_listed_packages_become_an_environment_that_the_agent_runs_in(tmp_path: Path) -> None:
    wheels = channel.of_wheels(package.name for package in LISTED if package.name not in NOT_FROM_PIP)
    beside = [channel.Made(name, "99.0", {f"share/{name}.txt": name}) for name in sorted(NOT_FROM_PIP - {"python"})]
    # The solver has a choice, and the list says what it must choose.
    other = channel.Made("numpy", "99.0", {"site-packages/numpy.py": "raise ImportError('not the listed one')\n"}, ["python"], "python")
    address = channel.make(tmp_path / "channel", [channel.of_this_python(), *beside, *wheels, other])
    made = await asyncio.to_thread(install, tmp_path, address)
    prefix = tmp_path / "prefix"
    assert made.returncode == 0, made.stderr
    assert "the environment is as listed" in made.stderr
    records = {record["name"]: record for record in map(_json, (prefix / "conda-meta").glob("*.json"))}
    assert {package.name for package in LISTED} <= set(records)
    for package in LISTED:
        if package.operator == "=" and package.name != "python":
            assert records[package.name]["version"] == package.version
    agent = Agent(tmp_path)
    agent.python = str(prefix / "bin/python")
    agent.start()
    wait_until(lambda: agent.status()["commit"])
    base = {package["name"]: package["version"] for package in (await agent.call("list_packages"))["base"]}
    assert {name: base[name] for name in records if name != "python"} == {
        name: record["version"] for name, record in records.items() if name != "python"
    }
    assert (await agent.call("run_indicator", name="rsi", last=1))["bars"] == 3270
    assert agent.stop() == 0


def test_a_channel_without_a_listed_package_is_told_by_name(tmp_path: Path) -> None:
    made = install(tmp_path, channel.make(tmp_path / "channel", [channel.of_this_python()]))
    assert made.returncode != 0
    assert any(package.name in made.stderr for package in LISTED if package.name != "python")


def install(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Run the image's script."""
    variables = {"HOME": str(folder), "PATH": os.environ["PATH"], "RATTLER_CACHE_DIR": str(folder / "cache"), "SOLVER": sys.executable}
    command = [AGENT / "packaging/install", "conda", address, folder / "prefix"]
    return subprocess.run(command, cwd=AGENT, env=variables, check=False, capture_output=True, text=True)


def _json(file: Path) -> dict[str, str]:
    return dict(json.loads(file.read_text()))
