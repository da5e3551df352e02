"""What holds for any input from outside."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dexorder_agent
from dexorder_agent.errors import SourceError, WorkspaceError
from dexorder_agent.repo.paths import confine
from dexorder_agent.sandbox import wire
from dexorder_agent.source.model import INDICATOR, STRATEGY
from dexorder_agent.source.read import read
from dexorder_agent.tools.context import merge_patch

SOURCES = [file.read_text() for file in sorted((Path(dexorder_agent.__file__).parent / "seed").glob("*/*.py"))]
PARTS = st.sampled_from(["a", "..", ".", "", ".git", ".GIT", ".git.", "x" * 200, "\0", "\n", "é", " ", "C:", "\\", ".dexorder-tmp-1"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=6).map("/".join) | st.text(max_size=30))
def test_a_path_is_refused_or_inside(text: str) -> None:
    root = Path("/nowhere/repository")
    with contextlib.suppress(WorkspaceError):
        path = confine(root, text)
        assert path == root or root in path.parents
        assert ".." not in path.parts and ".git" not in [part.lower().rstrip(". ") for part in path.relative_to(root).parts]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_source_has_a_signature_or_an_error_with_its_place(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(SOURCES))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(source)))
        end = min(len(source), start + data.draw(st.integers(0, 12)))
        source = source[:start] + data.draw(st.text("():*=,[] \nabc0\"'", max_size=6)) + source[end:]
    for kind in (INDICATOR, STRATEGY):
        try:
            described = read("mine", source, kind).describe()
        except SourceError as error:
            assert str(error).startswith(f"{kind.folder}/mine.py")
        else:
            json.dumps(described, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.lists(st.binary(max_size=40), max_size=4))
def test_a_message_between_processes_arrives_as_it_was(header: dict[str, Any], blobs: list[bytes]) -> None:
    packed = wire.pack(header, blobs)
    first, second = wire.unpack_lengths(packed[: wire.LENGTH.size], 1 << 20)
    rest = packed[wire.LENGTH.size :]
    received, parts = wire.unpack(rest[:first], rest[first : first + second])
    assert received == {**header, "sizes": [len(blob) for blob in blobs]} and parts == blobs


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=20))
def test_whatever_else_a_child_sends_is_a_value_error(header: bytes, blobs: bytes) -> None:
    with contextlib.suppress(ValueError):
        decoded, parts = wire.unpack(header, blobs)
        assert sum(map(len, parts)) == len(blobs) and decoded["sizes"] == [len(part) for part in parts]


def test_a_child_cant_exhaust_the_agents_stack() -> None:
    with pytest.raises(ValueError, match="nested"):
        wire.unpack(b"[" * 200_000, b"")


@settings(max_examples=200, deadline=None)
@given(JSON, JSON)
def test_a_merged_patch_is_merged_once(target: Any, patch: Any) -> None:
    """RFC 7396: to apply a patch again changes nothing, and what is no object replaces the whole."""
    merged = merge_patch(target, patch)
    assert merge_patch(merged, patch) == merged
    if not isinstance(patch, dict):
        assert merged == patch
    else:
        assert all(name not in merged for name, value in patch.items() if value is None)
