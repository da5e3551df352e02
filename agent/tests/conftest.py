"""Fixtures: one agent for tests that only look or add names of their own, a new one where a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import Agent, wait_until

# Nothing is kept between runs.
settings.register_profile("agent", database=None)
settings.load_profile("agent")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that all tests share."""
    running = Agent(tmp_path_factory.mktemp("shared")).start()
    wait_until(lambda: running.status()["commit"])
    yield running
    assert running.stop() == 0


@pytest.fixture
def new_agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that isn't started yet; ended after the test."""
    created = Agent(tmp_path)
    yield created
    if created.process is not None and created.process.poll() is None:
        created.kill()
