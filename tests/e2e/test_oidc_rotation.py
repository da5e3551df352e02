"""A certified OpenID provider issues the tokens, and changes its key in the middle of a load: no request fails.

The official client finds the provider by itself and logs in there.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import jwt
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client

from support.mcp_http import Mcp
from support.oidc_provider import OidcProvider, address_towards
from support.other_gateway import OtherGateway
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

    from support.kubectl import Kubectl
    from support.users import User

PUBLIC_URL = "https://workspaces.test"
AUDIENCE = f"{PUBLIC_URL}/mcp"
CLIENTS = 4


@pytest.fixture(scope="module")
def users(new_module_user: Callable[[], User]) -> list[User]:
    """Users of the provider; their workspaces run already."""
    made = [new_module_user() for _ in range(2)]
    for user in made:
        user.mcp.tools()
    return made


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, gateway_url: str, users: list[User]) -> Iterator[OidcProvider]:
    folder: Path = tmp_path_factory.mktemp("oidc")
    with OidcProvider(folder, address_towards(gateway_url), AUDIENCE, [user.id for user in users]) as made:
        yield made


@pytest.fixture(scope="module")
def url(system: Kubectl, provider: OidcProvider) -> Iterator[str]:
    """A gateway that discovers the provider's keys by itself."""

    def change(config: dict[str, Any]) -> None:
        issuer = {"issuer": provider.issuer, "audience": AUDIENCE, "caFile": "/etc/dexorder/files/provider.pem"}
        config["publicUrl"] = PUBLIC_URL
        config["auth"]["issuers"] = [{**issuer, "algorithms": ["ES256"]}]

    gateway = OtherGateway(system, "e2e-oidc-gateway")
    gateway.stop()
    try:
        yield gateway.start(change, {"provider.pem": provider.certificate})
    finally:
        gateway.stop()


def as_user(http: httpx2.Client, url: str, token: str) -> Mcp:
    return Mcp(http, f"{url}/mcp", {"Authorization": f"Bearer {token}"})


class Load(threading.Thread):
    """One client that gets a new token for each of its calls, until it is told to stop."""

    def __init__(self, provider: OidcProvider, url: str, user: User) -> None:
        super().__init__()
        self.provider, self.url, self.user = provider, url, user
        self.enough = threading.Event()
        self.keys: set[str] = set()
        self.failures: list[str] = []
        self.calls = 0

    def run(self) -> None:
        with httpx2.Client(trust_env=False, timeout=90) as http:
            while not self.enough.is_set():
                token = self.provider.token(self.user.id)
                response = as_user(http, self.url, token).send("tools/list")
                self.calls += 1
                if response.status_code != httpx2.codes.OK:
                    self.failures.append(f"{response.status_code} {response.text}")
                self.keys.add(jwt.get_unverified_header(token)["kid"])

    def wait_for(self, calls: int, *, but: str = "") -> None:
        """Wait until so many more calls were made, and one with a token of another key than `but`."""
        wanted = self.calls + calls

        def got_on() -> bool:
            assert self.is_alive(), f"the load ended after {self.calls} calls: {self.failures}"
            return self.calls >= wanted and bool(self.keys - {but})

        eventually(f"{calls} more calls of {self.user.id}", got_on, within=120, every=0.05)


def test_a_key_is_rotated_in_the_middle_of_a_load(provider: OidcProvider, url: str, users: list[User]) -> None:
    clients = [Load(provider, url, users[number % len(users)]) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for client in clients:
            client.wait_for(5)
        (old,) = provider.key_ids()
        # At once: the gateway, which asks an issuer every ten seconds at most, has just fetched the keys.
        provider.rotate()
        for client in clients:
            client.wait_for(0, but=old)
            client.wait_for(5)
    finally:
        for client in clients:
            client.enough.set()
        for client in clients:
            client.join()
    assert [client.failures for client in clients] == [[]] * CLIENTS
    assert all(len(client.keys) == 2 for client in clients)


def test_tokens_of_the_key_before_hold_until_it_is_retired(
    provider: OidcProvider, url: str, users: list[User], http: httpx2.Client
) -> None:
    user = users[0]
    before = provider.token(user.id)
    provider.rotate()
    for token in (provider.token(user.id), before):
        assert as_user(http, url, token).send("tools/list").status_code == 200
    # The next key: the gateway asks for it, and learns that the first ones are gone.
    provider.rotate()
    provider.retire()
    assert as_user(http, url, provider.token(user.id)).send("tools/list").status_code == 200
    refused = as_user(http, url, before).send("tools/list")
    assert refused.status_code == 401, refused.text


def test_tokens_of_the_provider_are_checked_like_any(
    provider: OidcProvider, url: str, users: list[User], http: httpx2.Client
) -> None:
    first, second = (provider.token(user.id) for user in users)
    profile = "The user of the provider's own token."
    as_user(http, url, first).call("set_user_profile", text=profile)
    assert profile in as_user(http, url, first).read("context://user-profile")
    assert profile not in as_user(http, url, second).read("context://user-profile")
    # The installed gateway knows the provider no more than this one knows the local issuer.
    assert as_user(http, users[0].gateway_url, first).send("tools/list").status_code == 401
    assert as_user(http, url, users[0].token).send("tools/list").status_code == 401
    head, claims, signature = first.split(".")
    swapped = f"{head}.{second.split('.')[1]}.{signature}"
    for forged in (swapped, f"{head}.{claims}.", claims):
        assert as_user(http, url, forged).send("tools/list").status_code == 401


class ByName(httpx2.AsyncBaseTransport):
    """The network of somebody for whom the gateway has its public name."""

    def __init__(self, gateway: str, certificate: str) -> None:
        self._gateway = urlsplit(gateway)
        self._network = httpx2.AsyncHTTPTransport(verify=ssl.create_default_context(cadata=certificate))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if f"{url.scheme}://{url.host}" == PUBLIC_URL:
            url = url.copy_with(scheme="http", host=self._gateway.hostname, port=self._gateway.port)
        sent = httpx2.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return await self._network.handle_async_request(sent)

    async def aclose(self) -> None:
        await self._network.aclose()


class Storage:
    """What a client keeps of its login."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@pytest.mark.parametrize("path", ["/mcp", "/workspaces/NAME/mcp"])
def test_the_official_client_logs_in_by_itself(
    path: str, provider: OidcProvider, url: str, users: list[User], http: httpx2.Client
) -> None:
    """It knows the endpoint and how its user logs in at the provider; the rest it is told by the gateway."""
    user, other = users
    endpoint = PUBLIC_URL + path.replace("NAME", user.workspace.name)
    storage = Storage()

    async def main() -> None:
        login = ClientCredentialsOAuthProvider(
            endpoint, storage, user.id, provider.client_secret, issuer=provider.issuer
        )
        network = ByName(url, provider.certificate)
        async with (
            httpx2.AsyncClient(auth=login, transport=network, timeout=60) as client,
            Client(streamable_http_client(endpoint, http_client=client)) as mcp,
        ):
            assert "list_files" in {tool.name for tool in (await mcp.list_tools()).tools}

    asyncio.run(main())
    assert storage.tokens is not None
    token = storage.tokens.access_token
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == endpoint
    # The token is for this resource and no other.
    elsewhere = f"{url}/workspaces/{other.workspace.name}"
    assert as_user(http, elsewhere, token).send("tools/list").status_code in (401, 403)
    if path != "/mcp":
        assert as_user(http, url, token).send("tools/list").status_code == 401
