"""Packages of the user's own: solved against the base, installed for the user's code, and never half changed."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import numpy
import pytest
from channel import Made, make
from support import Agent, wait_until

pytestmark = pytest.mark.anyio

USING = "import tinystats\ndef compute(close):\n    print(tinystats.VERSION, tinystats.__file__)\n    return tinystats.double(close)\n"


def tinystats(version: str, needs: str) -> Made:
    """A package with one module."""
    source = f"import tinyhelp\nVERSION = {version!r}\n\n\ndef double(values):\n    return tinyhelp.times(values, 2)\n"
    depends = ["python >=3.9", "numpy >=2", f"tinyhelp {needs}"]
    return Made("tinystats", version, {"site-packages/tinystats.py": source}, depends, "python")


PACKAGES = [
    Made("python", platform.python_version(), {"share/python.txt": "python"}, ["only-for-python"]),
    Made("only-for-python", "1.0", {"share/only.txt": "x"}),
    Made("numpy", numpy.__version__, {"site-packages/numpy.py": "raise ImportError('not the numpy of the base')\n"}, ["python"], "python"),
    tinystats("1.0", ">=1"),
    tinystats("2.0", ">=1"),
    Made("tinyhelp", "1.5", {"site-packages/tinyhelp.py": "def times(values, n):\n    return values * n\n"}, ["python"], "python"),
    Made("antique", "1.0", {"site-packages/antique.py": ""}, ["python", "numpy <2"], "python"),
    Made("rival", "1.0", {"site-packages/rival.py": ""}, ["python", "tinyhelp <1"], "python"),
]


def with_a_channel(folder: Path) -> Iterator[Agent]:
    agent = Agent(folder, AGENT_CHANNEL=make(folder / "channel", PACKAGES)).start()
    yield agent
    assert agent.process is not None
    if agent.process.poll() is None:
        agent.kill()


@pytest.fixture
def packaged(tmp_path: Path) -> Iterator[Agent]:
    """An agent with a channel."""
    yield from with_a_channel(tmp_path)


@pytest.fixture(scope="module")
async def furnished(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Agent]:
    """An agent with a channel and a package, for changes that leave everything as it is."""
    for agent in with_a_channel(tmp_path_factory.mktemp("furnished")):
        await agent.call("add_package", package="tinystats")
        await agent.call("save_indicator", name="mine", source=USING)
        yield agent


async def names(agent: Agent) -> dict[str, str]:
    return {package["name"]: package["version"] for package in (await agent.call("list_packages"))["installed"]}


async def test_a_package_is_added_used_and_removed(packaged: Agent) -> None:
    await packaged.call("save_indicator", name="mine", source=USING)
    assert "ModuleNotFoundError" in await packaged.fails("run_indicator", name="mine")
    told: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(str(message))

    async with packaged.client() as client:
        result = await client.call_tool("add_package", {"package": "tinystats"}, progress_callback=hear)
    assert not result.is_error, result.content
    assert any("looking for versions" in message for message in told) and any("tinystats" in message for message in told)
    assert await names(packaged) == {"tinystats": "2.0", "tinyhelp": "1.5"}
    run = await packaged.call("run_indicator", name="mine", series={"close": [1, 2]})
    assert run["outputs"] == {"mine": [2.0, 4.0]}
    assert run["printed"].startswith("2.0 ")
    assert packaged.git("show", "HEAD:environment.yml").endswith("  - tinystats\n")
    # Another version of the same package takes its place.
    await packaged.call("add_package", package="tinystats<2")
    assert (await names(packaged))["tinystats"] == "1.0"
    assert (await packaged.call("list_packages"))["wanted"] == ["tinystats<2"]
    assert (await packaged.call("run_indicator", name="mine", last=1))["printed"].startswith("1.0 ")
    await packaged.call("remove_package", name="tinystats")
    assert await names(packaged) == {}
    assert "ModuleNotFoundError" in await packaged.fails("run_indicator", name="mine")
    assert "there is none" in await packaged.fails("remove_package", name="tinystats")


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        ("nosuchthing", "there is no package nosuchthing in file://"),
        ("tinystats>=3", "there is no package tinystats in a version >=3 in file://"),
        ("antique", f"every workspace has numpy {numpy.__version__}, which can't be changed"),
        ("rival", "would require └─ tinyhelp <1"),
        ("numpy==1.26", "every workspace has numpy"),
        ("python=3.9", "every workspace has python"),
        ("--help", "write a name"),
        ("x; rm -rf /", "write a name"),
    ],
)
async def test_a_change_that_fails_leaves_everything_as_it_was(furnished: Agent, package: str, complaint: str) -> None:
    before = furnished.git("rev-parse", "HEAD")
    assert complaint in await furnished.fails("add_package", package=package)
    assert furnished.git("rev-parse", "HEAD") == before
    assert len(list((furnished.folder / "environment").glob("prefix-*"))) == 1
    listed = await furnished.call("list_packages")
    assert (listed["wanted"], listed["problem"], listed["changing"]) == (["tinystats"], None, False)
    assert (await furnished.call("run_indicator", name="mine", series={"close": [1]}))["outputs"] == {"mine": [2.0]}


async def test_a_change_that_is_cancelled_leaves_nothing_behind(packaged: Agent) -> None:
    await packaged.call("add_package", package="tinyhelp")
    before = packaged.git("rev-parse", "HEAD")
    with anyio.CancelScope() as scope:

        async def give_up(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        async with packaged.client() as client:
            await client.call_tool("add_package", {"package": "tinystats"}, progress_callback=give_up)
    assert scope.cancelled_caught
    await asyncio.to_thread(wait_until, lambda: packaged.status()["busy"] == [])
    await asyncio.to_thread(wait_until, lambda: len(list((packaged.folder / "environment").glob("prefix-*"))) == 1)
    assert not [pid for pid in packaged.processes() if b"packages.install" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert packaged.git("rev-parse", "HEAD") == before
    assert await names(packaged) == {"tinyhelp": "1.5"}
    await packaged.call("add_package", package="tinystats")
    assert await names(packaged) == {"tinystats": "2.0", "tinyhelp": "1.5"}


async def test_the_list_in_the_repository_is_followed(packaged: Agent) -> None:
    async def installed(versions: dict[str, str]) -> None:
        async with asyncio.timeout(20):
            while await names(packaged) != versions:
                await asyncio.sleep(0.02)

    await packaged.call("write_file", path="environment.yml", content="# mine\ndependencies:\n  - tinystats<2 # old\n")
    await installed({"tinystats": "1.0", "tinyhelp": "1.5"})
    # A start finds the environment missing, as on another volume, and one for another list.
    packaged.kill()
    environment = packaged.folder / "environment"
    environment.rename(packaged.folder / "gone")
    packaged.start()
    await installed({"tinystats": "1.0", "tinyhelp": "1.5"})
    packaged.kill()
    (packaged.repository / "environment.yml").write_text("dependencies:\n  - tinyhelp\n")
    packaged.start()
    await installed({"tinyhelp": "1.5"})
    await packaged.call("write_file", path="environment.yml", content="dependencies:\n  - pip:\n    - x\n")
    wait_until(lambda: packaged.status()["busy"] == [])
    async with asyncio.timeout(20):
        while "line 2" not in str((await packaged.call("list_packages"))["problem"]):
            await asyncio.sleep(0.02)
    await installed_still(packaged)


async def installed_still(agent: Agent) -> None:
    """The environment in use is the one before the list that can't be used."""
    source = "import tinyhelp\ndef compute(close):\n    return tinyhelp.times(close, 3)\n"
    await agent.call("save_indicator", name="helped", source=source)
    assert (await agent.call("run_indicator", name="helped", series={"close": [1]}))["outputs"] == {"helped": [3.0]}


async def test_files_are_searched(agent: Agent) -> None:
    await agent.call("write_file", path="notes/find.md", content="Alpha one\nbeta.two\nbetaXtwo\n")
    found = await agent.call("search_files", pattern="beta.two")
    assert found["matches"] == [{"path": "notes/find.md", "line": 2, "text": "beta.two"}] and found["complete"]
    found = await agent.call("search_files", pattern="^beta.two$", regex=True, folder="notes")
    assert [match["line"] for match in found["matches"]] == [2, 3]
    assert (await agent.call("search_files", pattern="ALPHA", folder="notes"))["matches"] == []
    assert (await agent.call("search_files", pattern="ALPHA", ignore_case=True, folder="notes/find.md"))["matches"][0]["line"] == 1
    some = await agent.call("search_files", pattern=",", folder="data", limit=3)
    assert len(some["matches"]) == 3 and not some["complete"]
    assert "can't be used" in await agent.fails("search_files", pattern="(", regex=True)
    assert "outside the repository" in await agent.fails("search_files", pattern="x", folder="../x")
    # A pattern that would take for ever or all memory ends in an error.
    assert await agent.fails("search_files", pattern="((((a{1,250}){1,250}){1,250}){1,250})b", regex=True)
