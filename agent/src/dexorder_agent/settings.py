"""What the process is told by its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of the user's code may use."""

    seconds: float = 10.0
    memory_mib: int = 256
    printed_bytes: int = 64 * 1024
    result_bytes: int = 64 * 1024 * 1024
    concurrent_runs: int = 4
    egress: str = "None"
    """Where it may connect to: None, Web or Any."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The agent's configuration."""

    repository: Path
    socket: Path
    environment: Path = Path("/workspace/environment")
    channel: str = "conda-forge"
    remote_url: str | None = None
    remote_branch: str = "main"
    remote_credentials: Path | None = None
    user_id: str = "workspace"
    workspace: str = "workspace"
    read_only: bool = False
    shutdown_seconds: float = 8.0
    pack_after: int = 1000
    """So many commits are packed together."""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; a value that can't be used is a ValueError that names its variable."""
        access = environment.get("DEXORDER_ACCESS", "Full")
        if access not in ("Full", "ReadOnly"):
            raise ValueError(f"DEXORDER_ACCESS is {access!r}: write Full or ReadOnly")
        egress = environment.get("DEXORDER_EGRESS") or "None"
        if egress not in ("None", "Web", "Any"):
            raise ValueError(f"DEXORDER_EGRESS is {egress!r}: write None, Web or Any")
        url = environment.get("DEXORDER_REPOSITORY_URL") or None
        if url is not None and re.match(r"(https?|ssh|git|file)://\S+$|[^\s/:-][^\s/:]*:\S+$", url) is None:
            raise ValueError("DEXORDER_REPOSITORY_URL is no address of a git repository: write one like https://host/path.git")
        if url is not None and re.match(r"[a-z]+://[^/@]*:[^/@]*@", url) is not None:
            raise ValueError("DEXORDER_REPOSITORY_URL holds a password, which others can read there: put it in the credentials")
        branch = environment.get("DEXORDER_REPOSITORY_BRANCH") or "main"
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}", branch) is None or ".." in branch or branch.endswith((".lock", "/", ".")):
            raise ValueError(f"DEXORDER_REPOSITORY_BRANCH is {branch!r}: write the name of a branch")
        credentials = environment.get("DEXORDER_REPOSITORY_CREDENTIALS") or None
        defaults = Limits()
        return cls(
            repository=Path(environment.get("DEXORDER_REPOSITORY", "/workspace/repository")),
            socket=Path(environment.get("DEXORDER_AGENT_SOCKET", "/run/dexorder/agent.sock")),
            environment=Path(environment.get("DEXORDER_ENVIRONMENT", "/workspace/environment")),
            channel=environment.get("AGENT_CHANNEL", "conda-forge"),
            remote_url=url,
            remote_branch=branch,
            remote_credentials=None if credentials is None else Path(credentials),
            user_id=environment.get("DEXORDER_USER_ID") or "workspace",
            workspace=environment.get("DEXORDER_WORKSPACE", "workspace"),
            read_only=access == "ReadOnly",
            shutdown_seconds=_number(environment, "AGENT_SHUTDOWN_SECONDS", 8.0, 0.1, 50.0),
            pack_after=int(_number(environment, "AGENT_PACK_AFTER", 1000, 1, 1_000_000)),
            limits=Limits(
                seconds=_number(environment, "AGENT_RUN_SECONDS", defaults.seconds, 0.1, 600.0),
                memory_mib=int(_number(environment, "AGENT_RUN_MEMORY_MIB", defaults.memory_mib, 16, 65536)),
                concurrent_runs=int(_number(environment, "AGENT_CONCURRENT_RUNS", defaults.concurrent_runs, 1, 64)),
                egress=egress,
            ),
        )


def _number(environment: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ValueError(f"{name} is {text!r}: write a number from {least:g} to {most:g}")
    return value
