"""API keys: made with the gateway's own command, kept as hashes in a Secret, taken and withdrawn without a restart."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support.kubectl import KubectlError
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kubectl import Kubectl
    from support.mcp_http import Mcp
    from support.users import User

SECRET = "dexorder-api-keys"  # noqa: S105 - the name of the Secret
SHOWN_SECONDS = 240
"""The kubelet shows a pod a changed Secret within a minute or so."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the gateway's command made."""

    key: str
    name: str
    entry: dict[str, str]

    @classmethod
    def make(cls, system: Kubectl, user: str, *options: str) -> ApiKey:
        command = ("/dexorder-gateway", "new-api-key", "--user", user, *options)
        made: dict[str, Any] = json.loads(system.run("exec", "deployment/dexorder-gateway", "--", *command))
        return cls(made["key"], made["name"], made["entry"])

    def add(self, system: Kubectl, **changes: str) -> None:
        """Add the entry to the Secret, changed or as it is."""
        entry = json.dumps({**self.entry, **changes})
        system.run("patch", "secret", SECRET, "--patch", json.dumps({"stringData": {self.name: entry}}))

    def withdraw(self, system: Kubectl) -> None:
        system.run("patch", "secret", SECRET, "--type=merge", "--patch", json.dumps({"data": {self.name: None}}))

    def of(self, user: User) -> Mcp:
        """A client of the user's endpoint with this key."""
        return user.with_token(self.key)

    def status(self, user: User) -> int:
        """How the gateway answers the key, without waking anything."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return user.http.get(f"{user.gateway_url}/v1/models", headers=headers).status_code


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the tests, which the gateway knows."""

    good: ApiKey
    other: ApiKey
    expired: ApiKey


@pytest.fixture(scope="module")
def users(new_module_user: Callable[[], User]) -> tuple[User, User]:
    first, second = new_module_user(), new_module_user()
    first.mcp.tools()
    second.mcp.tools()
    return first, second


@pytest.fixture(scope="module")
def keys(system: Kubectl, users: tuple[User, User]) -> Iterator[Keys]:
    first, second = users
    if system.get("secret", SECRET) is None:
        system.run("create", "secret", "generic", SECRET)
    good, other = ApiKey.make(system, first.id), ApiKey.make(system, second.id, "--days", "1")
    expired = ApiKey.make(system, first.id)
    expired.add(system, expireTime="2020-01-01T00:00:00Z")
    other.add(system)
    good.add(system)
    try:
        eventually("the gateway knows the keys", lambda: good.status(first) == 200, within=SHOWN_SECONDS)
        yield Keys(good, other, expired)
    finally:
        for key in (good, other, expired):
            key.withdraw(system)


def test_a_key_reaches_its_users_workspace_and_no_other(keys: Keys, users: tuple[User, User]) -> None:
    first, second = users
    keys.good.of(first).call("write_file", path="key.txt", content="the first")
    keys.other.of(second).call("write_file", path="key.txt", content="the second")
    assert first.mcp.call("read_file", path="key.txt")["content"] == "the first"
    assert second.mcp.call("read_file", path="key.txt")["content"] == "the second"
    by_name = f"{first.gateway_url}/workspaces/{second.workspace.name}/mcp"
    foreign = first.http.post(by_name, content=b"{}", headers=dict(keys.good.of(first).credentials))
    assert (foreign.status_code, foreign.json()["error"]["data"]["reason"]) == (403, "WrongUser")


def test_a_key_is_the_key_of_an_openai_client(keys: Keys, users: tuple[User, User]) -> None:
    user = users[0]
    with openai.OpenAI(base_url=f"{user.gateway_url}/v1", api_key=keys.good.key, max_retries=0) as client:
        assert [model.id for model in client.models.list()]
        completion = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "/run_indicator name=rsi last=1"}]
        )
    assert "rsi" in (completion.choices[0].message.content or "")


def test_a_key_that_does_not_hold_is_refused(keys: Keys, users: tuple[User, User], system: Kubectl) -> None:
    user = users[0]
    good, other = keys.good.key, keys.other.key
    made_up = ApiKey.make(system, user.id).key
    hashed = f"dxk_{keys.good.name}_{keys.good.entry['sha256']}"
    mixed = good[:21] + other[21:]
    for bad in (keys.expired.key, made_up, hashed, mixed, good[:-1], f"{good}A", good.upper()):
        response = user.with_token(bad).send("tools/list")
        assert response.status_code == 401, bad
        assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
        assert bad not in response.text
    assert "expired" in user.with_token(keys.expired.key).send("tools/list").text


def test_the_secret_holds_no_key(keys: Keys, system: Kubectl) -> None:
    secret = system.get("secret", SECRET)
    assert secret is not None
    entry = base64.b64decode(secret["data"][keys.good.name]).decode()
    assert json.loads(entry)["sha256"] == keys.good.entry["sha256"]
    assert keys.good.key[-43:] not in entry


def test_a_key_for_nobody_is_not_made(system: Kubectl) -> None:
    for user in ("", "a b", "anonymous:1", "gateway"):
        with pytest.raises(KubectlError, match="is no user ID"):
            ApiKey.make(system, user)


def test_a_withdrawn_key_ends(keys: Keys, users: tuple[User, User], system: Kubectl) -> None:
    """The last one of the file: it takes the second user's key away. No gateway is restarted for it."""
    second = users[1]
    assert keys.other.status(second) == 200
    keys.other.withdraw(system)
    eventually("the key has ended", lambda: keys.other.status(second) == 401, within=SHOWN_SECONDS)
    assert keys.good.status(users[0]) == 200
