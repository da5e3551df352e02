"""What can go wrong, in words for the user."""

from __future__ import annotations


class DirectError(Exception):
    """Something that the user can read and act upon."""


class KeyNotPinned(DirectError):
    """The workspace showed a key that is none of those that are known to be its own. Nothing was sealed to it."""

    def __init__(self, shown: list[str], pinned: list[str]) -> None:
        self.shown = shown
        self.pinned = pinned
        known = ", ".join(pinned) or "none"
        super().__init__(
            f"the key that was shown ({', '.join(shown) or 'none'}) is not the pinned one ({known}): compare it with status.publicKey of"
            " the workspace. If it is another, something on the way shows a key of its own; nothing was sent to it"
        )


class LoginRefused(DirectError):
    """The workspace, or something on the way, did not take the credential."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"the login was refused ({status} {reason}): {message}")


class UnusableAnswer(DirectError):
    """An answer that is not what was agreed."""
