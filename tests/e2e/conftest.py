"""Fixtures of the real-cluster tests."""

from __future__ import annotations

import os
import re
import secrets
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx2
import pytest

from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE, Kubectl
from support.users import User

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NewUser = "Callable[[], User]"
CALL_SECONDS = 90.0
"""Longer than the gateway may hold a request while a workspace starts."""


@pytest.fixture(scope="session")
def gateway_url() -> str:
    """Where users reach the gateway."""
    url = os.environ.get("GATEWAY_URL")
    if not url or "KUBECONFIG" not in os.environ:
        pytest.exit("GATEWAY_URL and KUBECONFIG are not set: run `make up`, then tests/e2e/run", returncode=3)
    return url.rstrip("/")


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """Kubectl in the namespace of the users' workspaces."""
    return Kubectl(WORKSPACE_NAMESPACE)


@pytest.fixture(scope="session")
def system() -> Kubectl:
    """Kubectl in the namespace of the operator and the gateway."""
    return Kubectl(SYSTEM_NAMESPACE)


@pytest.fixture(scope="session")
def http() -> Iterator[httpx2.Client]:
    """An HTTP client that waits as long as a start may take, and keeps no cookies: tests share it."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    with httpx2.Client(trust_env=False, timeout=CALL_SECONDS, cookies=no_cookies) as client:
        yield client


def _users(hint: str, kubectl: Kubectl, http: httpx2.Client, gateway_url: str) -> Iterator[Callable[[], User]]:
    made: list[User] = []
    slug = re.sub(r"[^a-z0-9]+", "-", hint.lower()).strip("-")[:24].strip("-")

    def make() -> User:
        user = User(f"{slug}-{secrets.token_hex(4)}", kubectl, http, gateway_url)
        made.append(user)
        return user

    yield make
    for user in made:
        user.remove()


@pytest.fixture
def new_user(
    request: pytest.FixtureRequest, kubectl: Kubectl, http: httpx2.Client, gateway_url: str
) -> Iterator[Callable[[], User]]:
    """Make users whom the cluster has never seen; what they leave is removed after the test."""
    name = request.node.name.removeprefix("test_")
    yield from _users(name, kubectl, http, gateway_url)


@pytest.fixture
def user(new_user: Callable[[], User]) -> User:
    """A user whom the cluster has never seen."""
    return new_user()


@pytest.fixture(scope="module")
def new_module_user(
    request: pytest.FixtureRequest, kubectl: Kubectl, http: httpx2.Client, gateway_url: str
) -> Iterator[Callable[[], User]]:
    """The same for the tests of one file, where they share a workspace."""
    name = request.node.name.removeprefix("test_").removesuffix(".py")
    yield from _users(name, kubectl, http, gateway_url)


@pytest.fixture(scope="module")
def settled_user(new_module_user: Callable[[], User]) -> User:
    """A user of the whole file, whose workspace runs."""
    user = new_module_user()
    user.mcp.tools()
    return user
