"""What a user proves themselves with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Credential(Protocol):
    """Anything that gives the content of an envelope's `credential`, anew for each login."""

    def content(self) -> dict[str, str]:
        """The kind, the value, and for a password the entry that it is checked against."""


@dataclass(frozen=True, slots=True)
class Password:
    """A password or key whose argon2id hash the workspace has."""

    value: str = field(repr=False)
    id: str | None = None
    """Entry of the workspace's Secret; the user ID if it is left out."""

    def content(self) -> dict[str, str]:
        entry = {} if self.id is None else {"id": self.id}
        return {"kind": "password", "value": self.value, **entry}


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the OpenID issuer that the workspace names, or something that fetches one when it is called."""

    value: str | Callable[[], str] = field(repr=False)

    def content(self) -> dict[str, str]:
        return {"kind": "token", "value": self.value if isinstance(self.value, str) else self.value()}
