"""Tools that keep conversations."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent import conversations
from dexorder_agent.tools.shapes import SavedShape
from dexorder_agent.tools.toolbox import ADDS, READS, REPLACES, tool
from dexorder_agent.workspace import Workspace


class ToolCallShape(TypedDict):
    """A tool that the assistant called, and what came of it."""

    id: NotRequired[str]
    name: str
    arguments: NotRequired[dict[str, Any]]
    result: NotRequired[Any]
    is_error: NotRequired[bool]


class MessageShape(TypedDict):
    """One message. A message of the assistant has its tool calls beside its text."""

    role: Literal["user", "assistant", "tool", "system"]
    content: Annotated[str, Field(max_length=500_000)]
    tool_calls: NotRequired[list[ToolCallShape]]
    data: NotRequired[dict[str, Any]]


class UsageShape(TypedDict):
    """What a turn took."""

    model: NotRequired[str]
    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]


State = Literal["complete", "interrupted"]


class TurnShape(TypedDict):
    """What is kept of a turn as a whole."""

    state: State
    usage: NotRequired[UsageShape]


class KeptMessageShape(TypedDict):
    """One message as it is kept. The last of a turn has the turn's state."""

    time: NotRequired[str]
    key: NotRequired[str]
    role: NotRequired[str]
    content: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    data: NotRequired[dict[str, Any]]
    turn: NotRequired[dict[str, Any]]


class AppendedShape(SavedShape):
    """`appended` is false if the key was used before: then nothing was added. `bytes` is the size of the conversation."""

    appended: bool
    bytes_before: int
    bytes: int


class ConversationShape(TypedDict):
    """Messages, oldest first; `first` is the number of the first of them, counted from 0, `bytes` the size of all there are."""

    conversation: str
    total: int
    first: int
    bytes: int
    messages: list[KeptMessageShape]


class ConversationEntryShape(TypedDict):
    """One conversation."""

    conversation: str
    bytes: int
    changed: str


class ConversationListShape(TypedDict):
    """Conversations, the one that changed last first."""

    conversations: list[ConversationEntryShape]


Conversation = Annotated[str, Field(description="Which conversation: letters, digits and . _ : -", max_length=128)]


class ConversationTools:
    """Append, read back, summarise, list and delete."""

    def __init__(self, workspace: Workspace) -> None:
        self._repository = workspace.repository

    @tool("Append to a conversation", ADDS)
    async def append_conversation(
        self,
        messages: Annotated[list[MessageShape], Field(description="The messages of one turn, oldest first")],
        idempotency_key: Annotated[str, Field(description="Names the turn: a repeated call with it adds nothing", max_length=128)],
        conversation: Conversation = "default",
        state: Annotated[State, Field(description="Whether the assistant finished the turn")] = "complete",
        usage: Annotated[UsageShape | None, Field(description="Model and tokens of the turn")] = None,
        summary: Annotated[str | None, Field(description="New text of context://conversation-summary", max_length=200_000)] = None,
    ) -> AppendedShape:
        """Append a turn to a conversation, once however often the call is repeated with the same key: the user's message, the assistant's
        messages with the tools called and their results, what it took, and whether it came to its end."""
        added: list[dict[str, Any]] = [dict(message) for message in messages]
        turn = TurnShape(state=state)
        if usage is not None:
            turn["usage"] = usage
        done = await conversations.append(self._repository, conversation, idempotency_key, added, dict(turn), summary)
        return AppendedShape(
            path=conversations.path_of(conversation),
            commit=done.change.commit,
            changed=done.change.changed,
            appended=done.added,
            bytes_before=done.bytes_before,
            bytes=done.bytes_after,
        )

    @tool("Read a conversation", READS)
    async def read_conversation(
        self,
        conversation: Conversation = "default",
        last: Annotated[int, Field(description="How many messages at most, the newest of the window", ge=1, le=10_000)] = 100,
        before: Annotated[
            int | None, Field(description="Only messages before the one of this number; left out: up to the end", ge=0)
        ] = None,
    ) -> ConversationShape:
        """Read a window of a conversation: its newest messages, or those before a given one."""
        found = await conversations.read(self._repository, conversation, last, before)
        return ConversationShape(
            conversation=conversation,
            total=found.total,
            first=found.first,
            bytes=found.bytes,
            messages=[_shape(message) for message in found.messages],
        )

    @tool("List conversations", READS)
    async def list_conversations(self) -> ConversationListShape:
        """List the conversations that are kept, the one that changed last first."""
        return ConversationListShape(
            conversations=[
                ConversationEntryShape(conversation=name, bytes=size, changed=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed)))
                for name, size, changed in await conversations.names(self._repository)
            ]
        )

    @tool("Set the conversation summary", REPLACES)
    async def set_conversation_summary(
        self, text: Annotated[str, Field(description="The whole new summary, as Markdown", max_length=200_000)]
    ) -> SavedShape:
        """Replace the summary of what was talked about so far, which is the resource context://conversation-summary."""
        change = await self._repository.change("Set the conversation summary", {conversations.SUMMARY_PATH: text.encode()})
        return SavedShape(path=conversations.SUMMARY_PATH, commit=change.commit, changed=change.changed)

    @tool("Delete a conversation", REPLACES)
    async def delete_conversation(self, conversation: Conversation) -> SavedShape:
        """Delete a conversation. It stays in the history and can be brought back with history_restore."""
        change = await conversations.delete(self._repository, conversation)
        return SavedShape(path=conversations.path_of(conversation), commit=change.commit, changed=change.changed)


def _shape(message: dict[str, Any]) -> KeptMessageShape:
    shape = KeptMessageShape()
    for name in ("time", "key", "role", "content"):
        if isinstance(message.get(name), str):
            shape[name] = message[name]
    if isinstance(message.get("data"), dict):
        shape["data"] = message["data"]
    if isinstance(message.get("turn"), dict):
        shape["turn"] = message["turn"]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        shape["tool_calls"] = [call for call in calls if isinstance(call, dict)]
    return shape
