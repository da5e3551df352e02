"""Tools that keep conversations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent import conversations
from dexorder_agent.tools.shapes import SavedShape
from dexorder_agent.tools.toolbox import ADDS, READS, tool
from dexorder_agent.workspace import Workspace


class MessageShape(TypedDict):
    """One message."""

    role: Literal["user", "assistant", "tool", "system"]
    content: Annotated[str, Field(max_length=500_000)]
    data: NotRequired[dict[str, Any]]


class KeptMessageShape(TypedDict):
    """One message as it is kept."""

    time: NotRequired[str]
    key: NotRequired[str]
    role: NotRequired[str]
    content: NotRequired[str]
    data: NotRequired[dict[str, Any]]


class AppendedShape(SavedShape):
    """`appended` is false if the key was used before: then nothing was added."""

    appended: bool


class ConversationShape(TypedDict):
    """The newest messages, oldest first."""

    conversation: str
    total: int
    messages: list[KeptMessageShape]


Conversation = Annotated[str, Field(description="Which conversation: letters, digits and . _ : -", max_length=128)]


class ConversationTools:
    """Append and read back."""

    def __init__(self, workspace: Workspace) -> None:
        self._repository = workspace.repository

    @tool("Append to a conversation", ADDS)
    async def append_conversation(
        self,
        messages: Annotated[list[MessageShape], Field(description="The messages of one turn, oldest first")],
        idempotency_key: Annotated[str, Field(description="Names the turn: a repeated call with it adds nothing", max_length=128)],
        conversation: Conversation = "default",
        summary: Annotated[str | None, Field(description="New text of context://conversation-summary", max_length=200_000)] = None,
    ) -> AppendedShape:
        """Append a turn to a conversation, once however often the call is repeated with the same key."""
        added: list[dict[str, Any]] = [dict(message) for message in messages]
        change, appended = await conversations.append(self._repository, conversation, idempotency_key, added, summary)
        path = conversations.path_of(conversation)
        return AppendedShape(path=path, commit=change.commit, changed=change.changed, appended=appended)

    @tool("Read a conversation", READS)
    async def read_conversation(
        self,
        conversation: Conversation = "default",
        last: Annotated[int, Field(description="How many of the newest messages", ge=1, le=10_000)] = 100,
    ) -> ConversationShape:
        """Read the newest messages of a conversation."""
        messages, total = await conversations.read(self._repository, conversation, last)
        return ConversationShape(conversation=conversation, total=total, messages=[_shape(message) for message in messages])


def _shape(message: dict[str, Any]) -> KeptMessageShape:
    shape = KeptMessageShape()
    for name in ("time", "key", "role", "content"):
        if isinstance(message.get(name), str):
            shape[name] = message[name]
    if isinstance(message.get("data"), dict):
        shape["data"] = message["data"]
    return shape
