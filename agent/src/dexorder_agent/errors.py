"""Errors whose text is meant for the caller: they become tool errors with exactly this message."""


class WorkspaceError(Exception):
    """Something that the caller asked for can't be done; the message says why and what to do instead."""


class NotFoundError(WorkspaceError):
    """The named thing doesn't exist."""


class SourceError(WorkspaceError):
    """A Python file is not a usable indicator or strategy."""


class SandboxError(WorkspaceError):
    """The user's code failed or was stopped; the message names what happened."""
