"""No path leads out of the repository or into git's folder."""

from __future__ import annotations

import pytest
from support import Agent

pytestmark = pytest.mark.anyio

BAD = [
    "/etc/passwd", "../outside", "a/../../outside", "..", ".git/config", ".GIT/config", "x/.git/hooks/pre-commit", ".git./config", "a\\b",
    "nul\0", "", "line\nbreak", ".dexorder-tmp-1",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD)
async def test_a_path_that_leads_elsewhere_is_refused(agent: Agent, path: str) -> None:
    await agent.fails("read_file", path=path)
    await agent.fails("write_file", path=path, content="x")
    await agent.fails("history_restore", path=path, commit="HEAD")
    await agent.fails("list_files", folder=path or "/")
    assert not (agent.folder / "outside").exists()


async def test_symbolic_links_are_not_followed(agent: Agent) -> None:
    secret = agent.folder / "secret"
    secret.write_text("secret")
    link, folder = agent.repository / "link", agent.repository / "linked"
    link.symlink_to(secret)
    folder.symlink_to(agent.folder)
    for path in ("link", "linked/secret"):
        assert "symbolic link" in await agent.fails("read_file", path=path)
        assert "symbolic link" in await agent.fails("write_file", path=path, content="x")
    listed = [file["path"] for file in (await agent.call("list_files"))["files"]]
    assert "README.md" in listed and not [path for path in listed if path.startswith(("link", ".git/"))]
    assert secret.read_text() == "secret"
    link.unlink()
    folder.unlink()


async def test_a_folder_is_not_written_over(agent: Agent) -> None:
    assert "is a folder" in await agent.fails("write_file", path="indicators", content="x")
    assert "is a folder" in await agent.fails("read_file", path="indicators")
    assert "can't be written" in await agent.fails("write_file", path="README.md/x", content="x")


async def test_a_path_with_characters_that_mean_something_to_git_is_just_a_path(agent: Agent) -> None:
    saved = await agent.call("write_file", path="notes/:(glob)* é.md", content="odd\n")
    log = await agent.call("history_log", path="notes/:(glob)* é.md")
    assert [entry["paths"] for entry in log["commits"]] == [["notes/:(glob)* é.md"]]
    assert saved["changed"]
