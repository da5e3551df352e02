"""Settings and names."""

from __future__ import annotations

import pytest

from dexorder_agent.settings import Settings


def test_defaults_are_those_of_the_pod() -> None:
    settings = Settings.from_environment({})
    assert str(settings.repository) == "/workspace/repository"
    assert str(settings.socket) == "/run/dexorder/agent.sock"
    assert not settings.read_only


WRONG = [
    ("DEXORDER_ACCESS", "readonly"),
    ("DEXORDER_EGRESS", "web"),
    ("AGENT_RUN_SECONDS", "ten"),
    ("AGENT_RUN_SECONDS", "0"),
    ("DEXORDER_REPOSITORY_URL", "https://trader:secret@example.org/x.git"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        Settings.from_environment({name: value})
    assert "secret" not in str(error.value)
