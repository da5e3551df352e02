"""A model provider that does what the user's message says, in the wire formats of OpenAI and of Anthropic.

Each line of the user's last message is one answer, in this order:
  say TEXT                      a text
  call NAME {...} [& NAME ...]  tool calls at once, with arguments as JSON
  hold TEXT                     the text, then silence for ever
  obey                          whatever line follows "ORDER: " in the newest result of a tool that has one, else in the
                                system prompt, as a model does that falls for it
  status NUMBER                 refuses once with this status and "Retry-After: 0", then goes on with the next line
Asked for the summary of a conversation, it says again what the user said in it.
Streams are cut into pieces of PIECE bytes. It needs nothing but Python, as it runs in a pod of the tests.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = int(os.environ.get("PIECE", "4096"))
PAUSE = float(os.environ.get("PAUSE", "0"))
"""Seconds before an answer begins."""
TOOK = "took "
"""Begins a line of the log: the seconds from a request's arrival to the last byte of its answer."""

Body = dict[str, Any]


class Refusals:
    """Counts how often a message was refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()

    def take(self, message: str, most: int) -> int | None:
        """The number of the refusal that is due, None if all were given."""
        with self._lock:
            given = self._count[message]
            if given >= most:
                return None
            self._count[message] += 1
            return given


REFUSALS = Refusals()


def texts(content: Any) -> str:
    """The text of a message of either format."""
    if isinstance(content, list):
        return "".join(block.get("text", "") for block in content if block.get("type") == "text")
    return content or ""


def last_message(body: Body) -> tuple[str, int]:
    """What the user said last, and how often the model has answered since."""
    said, answers = "", 0
    for message in body["messages"]:
        if message["role"] == "user" and texts(message["content"]):
            said, answers = texts(message["content"]), 0
        elif message["role"] == "assistant":
            answers += 1
    return said, answers


def strings(value: Any) -> Iterator[str]:
    """Every text in a result, which may be JSON."""
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from strings(member)
    elif isinstance(value, str):
        try:
            decoded = json.loads(value)
        except ValueError:
            decoded = None
        if isinstance(decoded, dict | list):
            yield from strings(decoded)
        else:
            yield value


def ordered(body: Body) -> str:
    """The line of a script that somebody has slipped into what the model reads."""
    read: list[Any] = [body.get("system", "")]
    for message in body["messages"]:
        if message["role"] in ("system", "developer", "tool"):
            read.append(message["content"])
        elif isinstance(message["content"], list):
            read += [block.get("content") for block in message["content"] if block.get("type") == "tool_result"]
    found = "say Nobody gave an order."
    for text in strings(read):
        for line in text.splitlines():
            _, mark, order = line.partition("ORDER: ")
            found = order.strip() if mark else found
    return found


def calls_of(text: str) -> list[tuple[str, str]]:
    """Names and arguments of `NAME {...} & NAME {...}`."""
    found = []
    for call in text.split(" & "):
        name, _, arguments = call.partition(" ")
        found.append((name, arguments or "{}"))
    return found


def thirds(text: str) -> list[str]:
    size = max(1, -(-len(text) // 3))
    return [text[start : start + size] for start in range(0, len(text), size)]


def open_ai(text: str, calls: list[tuple[str, str]]) -> Iterator[str]:
    """An answer as OpenAI streams it; the text comes first."""

    def chunk(delta: Body, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for piece in thirds(text):
        yield chunk({"content": piece})
    yield ""
    for index, (name, arguments) in enumerate(calls):
        begin = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [begin]})
        for piece in thirds(arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, "tool_calls" if calls else "stop")
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    yield f"data: {json.dumps({'id': 'c', 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def anthropic(text: str, calls: list[tuple[str, str]]) -> Iterator[str]:
    """An answer as Anthropic streams it; the text comes first."""

    def event(kind: str, **members: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n"

    usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 1}
    yield event("message_start", message={"id": "m", "usage": usage})
    blocks: list[tuple[Body, list[Body]]] = []
    if text:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in thirds(text)]))
    for index, (name, arguments) in enumerate(calls):
        begin = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        blocks.append((begin, [{"type": "input_json_delta", "partial_json": piece} for piece in thirds(arguments)]))
    for index, (begin, deltas) in enumerate(blocks):
        yield event("content_block_start", index=index, content_block=begin)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        if begin["type"] == "text":
            yield ""
        yield event("content_block_stop", index=index)
    reason = "tool_use" if calls else "end_turn"
    yield event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 10})
    yield event("message_stop")


class Provider(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Else the second piece of a stream waits for the kernel's delayed acknowledgement of the first, 40 ms."""

    def do_GET(self) -> None:
        self.refuse(200, "ready")

    def do_POST(self) -> None:
        came = time.perf_counter()
        self.answer()
        print(f"{TOOK}{time.perf_counter() - came:.6f}", flush=True)

    def answer(self) -> None:
        """Read the question and do what it says."""
        body: Body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        write = anthropic if self.path.endswith("/messages") else open_ai
        said, answers = last_message(body)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        refusals = [line for line in lines if line.startswith("status ")]
        number = REFUSALS.take(said, len(refusals))
        if number is not None:
            self.refuse(int(refusals[number].split()[1]), "the provider says no")
            return
        lines = [line for line in lines if not line.startswith("status ")]
        line = lines[answers] if answers < len(lines) else "say The script is over."
        if said.startswith("<summary>"):
            line = "say Summed up: " + " / ".join(line[6:] for line in lines if line.startswith("User: "))
        verb, _, rest = (ordered(body) if line == "obey" else line).partition(" ")
        time.sleep(PAUSE)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in write("" if verb == "call" else rest, calls_of(rest) if verb == "call" else []):
            if not text and verb == "hold":
                # Until the gateway has left.
                self.rfile.read(1)
                return
            for start in range(0, len(text.encode()), PIECE):
                self.chunk(text.encode()[start : start + PIECE])
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def refuse(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"type": "x", "message": message}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Provider).serve_forever()
