"""A login at one workspace: which requests it takes, and what their answers mean. It does no I/O of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Generator
from typing import Any

import httpx2

from dexorder_direct import proof
from dexorder_direct.credentials import Credential
from dexorder_direct.errors import DirectError, LoginRefused, UnusableAnswer
from dexorder_direct.keys import ClientKey
from dexorder_direct.sealing import Context, KeyDocument, seal

EARLY = 30
"""A token that ends within so many seconds is not used any more."""
TRIES = 3
"""How often a request is signed, for a workspace that starts again or changes its key meanwhile."""

Flow = Generator[httpx2.Request, httpx2.Response, None]


class Workspace:
    """A workspace of auth mode Direct, and one client's login there."""

    def __init__(self, url: str, user: str, credential: Credential, pins: Collection[str]) -> None:
        """`url` is the workspace's at the gateway, without `/mcp`: `https://workspaces.example.com/workspaces/fund1`."""
        if isinstance(pins, str):
            pins = [pins]
        if not pins:
            raise DirectError("a workspace's key must be pinned: compare status.publicKey of the workspace")
        self.url = url.rstrip("/").removesuffix("/mcp")
        self.user = user
        self._credential = credential
        self._pins = frozenset(pins)
        self._key = ClientKey()
        self._token: str | None = None
        self._ends = 0.0
        self._run = ""
        self._ahead = 0.0

    @property
    def mcp_url(self) -> str:
        """Where MCP is spoken."""
        return f"{self.url}/mcp"

    def is_here(self, url: httpx2.URL) -> bool:
        """Whether a request goes to this workspace: no other gets a token."""
        return str(url).split("?", 1)[0] == self.mcp_url

    @property
    def has_token(self) -> bool:
        """Whether there is a token that is good for a while."""
        return self._token is not None and self._now() < self._ends - EARLY

    def login(self) -> Flow:
        """Get the key, compare it, seal the credential to it, and get a token."""
        for last in (False, False, True):
            response = yield httpx2.Request("GET", f"{self.url}/direct/key", headers={"accept": "application/json"})
            document = KeyDocument.read(_json(_good(response)))
            self._ahead = document.time - time.time()
            key = document.pinned(self._pins)
            context = Context(document.namespace, document.workspace_uid, self.user)
            envelope = seal(key, context, self._credential.content(), self._key, document.run, document.time)
            headers = {"content-type": "application/json", "accept": "application/json"}
            response = yield httpx2.Request("POST", f"{self.url}/direct/session", headers=headers, content=envelope.to_json())
            # Started again, or given another key, since it showed the one before.
            moved = response.status_code == 401 and (_reason(response) == "UnknownKey" or self._other_run(response, document.run))
            if moved and not last:
                continue
            self._take(_json(_good(response)))
            return

    def sign(self, request: httpx2.Request) -> None:
        """Put the token and a new proof on a request whose body is known."""
        token = self._token
        if token is None:
            raise DirectError("there is no token: log in first")
        request.headers["authorization"] = f"Bearer {token}"
        request.headers["dexorder-proof"] = proof.sign(self._key, request.method, token, self._run, request.content, int(self._now()))

    def refused(self, response: httpx2.Response) -> bool:
        """Whether a request that was refused should be signed anew. A proof that was used is never repeated: nobody knows what it did."""
        if response.status_code != 401 or _reason(response) != "CredentialRefused":
            return False
        if not self._other_run(response, self._run):
            self._token = None
        return True

    def _other_run(self, response: httpx2.Response, known: str) -> bool:
        run = _data(response).get("run")
        if not isinstance(run, str) or run == known:
            return False
        self._run = run
        return True

    def _take(self, answer: object) -> None:
        match answer:
            case {"token": str(token), "expiresAt": int(ends), "run": str(run), "time": int(now)}:
                self._token, self._ends, self._run = token, ends, run
                self._ahead = now - time.time()
            case _:
                raise UnusableAnswer("the answer to the login lacks token, expiresAt, run or time")

    def _now(self) -> float:
        """The time at the workspace."""
        return time.time() + self._ahead


def _good(response: httpx2.Response) -> httpx2.Response:
    if response.status_code == 200:
        return response
    message = _error(response).get("message")
    raise LoginRefused(response.status_code, _reason(response), message if isinstance(message, str) else "no reason was given")


def _reason(response: httpx2.Response) -> str:
    reason = _data(response).get("reason")
    return reason if isinstance(reason, str) else ""


def _data(response: httpx2.Response) -> dict[str, Any]:
    data = _error(response).get("data")
    return data if isinstance(data, dict) else {}


def _error(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError:
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def _json(response: httpx2.Response) -> object:
    try:
        return json.loads(response.content)
    except ValueError as error:
        raise UnusableAnswer("the answer is no JSON") from error
