"""Charts are real pictures of what was computed."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from support import LEGACY, MODERN, Agent

from dexorder_agent.chart import draw

pytestmark = pytest.mark.anyio


def unpack(png: bytes) -> np.ndarray:
    """The points of a PNG file as the agent writes it; every check sum is checked."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, size = 8, b"", (0, 0)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + body),)
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", body)
            assert (depth, colours) == (8, 2)
            size = (height, width)
        data += body if kind == b"IDAT" else b""
        at += length + 12
    rows = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(size[0], 1 + size[1] * 3)
    return rows[:, 1:].reshape(*size, 3)


def rows_of(points: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The rows of the drawn line of this colour, for each column right of the legend."""
    near = (np.abs(points.astype(int) - np.array(colour)).sum(axis=2) < 60)[:, 400 : draw.WIDTH - draw.RIGHT - 4]
    return np.argmax(near, axis=0)


def test_a_line_goes_where_its_values_are() -> None:
    rising = np.linspace(1, 2, 500)
    spec = {"title": "t", "from": "a", "to": "b", "panels": [{"lines": [("up", 0), ("down", 1)]}]}
    points = unpack(draw.png(spec, [rising, rising[::-1]]))
    up, down = rows_of(points, draw.COLOURS[0]), rows_of(points, draw.COLOURS[1])
    assert up[0] > up[-1] + 100
    assert down[0] < down[-1] - 100


@pytest.mark.parametrize("values", [[np.nan] * 5, [1.0], [3.0] * 9, [0.0, np.inf, -np.inf, 1.0], [1e300, -1e300], [1e-300, 0]])
def test_odd_values_are_drawn_too(values: list[float]) -> None:
    spec = {"title": "\u00e9" * 200, "from": "a", "to": "b", "panels": [{"lines": [("x", 0)]}, {"lines": [("y" * 99, 0)]}]}
    assert unpack(draw.png(spec, [np.array(values)])).shape[1] == draw.WIDTH


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("run_indicator", {"name": "rsi"}),
        ("run_indicator", {"name": "bollinger", "last": 300}),
        ("backtest_strategy", {"name": "sma_cross"}),
    ],
)
async def test_a_chart_comes_with_the_answer_if_asked_for(agent: Agent, mode: str, tool: str, arguments: dict[str, object]) -> None:
    async with agent.client(mode) as client:
        plain = await client.call_tool(tool, {**arguments})
        result = await client.call_tool(tool, {**arguments, "chart": True})
    assert [content.type for content in plain.content] == ["text"]
    assert [content.type for content in result.content] == ["text", "image"]
    image = result.content[1]
    assert image.type == "image" and image.mime_type == "image/png"
    png = base64.b64decode(image.data)
    assert len(png) < 100_000
    assert len(np.unique(unpack(png).reshape(-1, 3), axis=0)) > 10
    assert result.structured_content is not None and "bars" in result.structured_content
