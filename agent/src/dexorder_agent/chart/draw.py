"""Draws panels of lines over a common axis of bars and packs the picture as PNG."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from dexorder_agent.chart import font

WIDTH = 960
PANEL_HEIGHTS = (340, 160)
LEFT, RIGHT, TOP, BOTTOM, GAP = 16, 96, 44, 34, 26
SCALE = 2
"""Lines are computed on a grid this much finer and averaged, which makes their edges smooth."""

BACKGROUND = (255, 255, 255)
INK = (40, 44, 52)
GRID = (228, 231, 236)
COLOURS = ((31, 87, 164), (214, 96, 22), (36, 138, 72), (150, 60, 150), (190, 40, 50), (90, 90, 90), (0, 150, 160), (170, 130, 0))


def png(spec: dict[str, Any], columns: list[np.ndarray]) -> bytes:
    """The picture.

    `spec` has a `title`, the texts `from` and `to` under the axis, and `panels`, each with `lines`: names with the number of their column.
    """
    panels = spec["panels"]
    heights = PANEL_HEIGHTS[: len(panels)] if len(panels) > 1 else (sum(PANEL_HEIGHTS),)
    picture = np.empty((TOP + sum(heights) + GAP * (len(panels) - 1) + BOTTOM, WIDTH, 3), dtype=np.float32)
    picture[:] = BACKGROUND
    _text(picture, str(spec["title"])[:70], LEFT, 12, INK)
    top, number = TOP, 0
    for panel, height in zip(panels, heights, strict=True):
        number = _panel(picture, panel, columns, top, height, number)
        top += height + GAP
    foot = top - GAP + 10
    _text(picture, str(spec["from"]), LEFT, foot, INK)
    last = str(spec["to"])
    _text(picture, last, WIDTH - RIGHT - _width(last), foot, INK)
    return pack(picture.astype(np.uint8))


def _panel(picture: np.ndarray, panel: dict[str, Any], columns: list[np.ndarray], top: int, height: int, number: int) -> int:
    """Draw one panel; returns the number of the next colour."""
    lines = [(name, columns[index]) for name, index in panel["lines"]]
    values = np.concatenate([column[np.isfinite(column)] for _, column in lines])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high - low <= abs(high) * 1e-12:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    margin = (high - low) * 0.04
    low, high = low - margin, high + margin
    width = WIDTH - LEFT - RIGHT
    area = picture[top : top + height, LEFT : LEFT + width]
    for value in _ticks(low, high, max(3, height // 60)):
        row = round((high - value) / (high - low) * (height - 1))
        area[row] = GRID
        _text(picture, _number(value), LEFT + width + 8, top + row - font.HEIGHT, INK)
    area[[0, -1]] = GRID
    area[:, [0, -1]] = GRID
    at = LEFT + 8
    for name, column in lines:
        colour = COLOURS[number % len(COLOURS)]
        number += 1
        cover = _line(column, low, high, width, height)[..., None]
        area += (np.array(colour, dtype=np.float32) - area) * cover
        text = str(name)[:24]
        if at + _width(text) < LEFT + width:
            picture[top + 4 : top + 22, at - 4 : at + _width(text)] = BACKGROUND
            _text(picture, text, at, top + 6, colour)
            at += _width(text) + 16
    return number


def _line(column: np.ndarray, low: float, high: float, width: int, height: int) -> np.ndarray:
    """How much of each point the line through the values covers. Where there is no finite value the line is broken."""
    across, down = width * SCALE, height * SCALE
    rows = (high - np.clip(column, low, high)) / (high - low) * (down - 1)
    bars = len(column)
    # Each fine column spans the values from its left to its right edge, so no spike gets lost between two.
    edges = np.linspace(0, max(bars - 1, 0), across + 1)
    at_edges = np.interp(edges, np.arange(bars), np.nan_to_num(rows))
    upper, lower = np.minimum(at_edges[:-1], at_edges[1:]), np.maximum(at_edges[:-1], at_edges[1:])
    within = np.clip(np.searchsorted(edges, np.arange(bars), side="right") - 1, 0, across - 1)
    finite = np.isfinite(rows)
    np.minimum.at(upper, within[finite], rows[finite])
    np.maximum.at(lower, within[finite], rows[finite])
    known = finite[np.floor(edges[:-1]).astype(int)] & finite[np.ceil(edges[1:]).astype(int)]
    thick = 0.8 * SCALE
    grid = np.arange(down, dtype=np.float32)[:, None]
    mask = (grid >= (upper - thick).astype(np.float32)) & (grid <= (lower + thick).astype(np.float32)) & known
    cover: np.ndarray = mask.reshape(height, SCALE, width, SCALE).mean(axis=(1, 3), dtype=np.float32)
    return cover


def _text(picture: np.ndarray, text: str, left: int, top: int, colour: tuple[int, int, int]) -> None:
    letters = np.kron(font.bitmap(text), np.ones((2, 2), dtype=np.uint8)).astype(bool)
    top = max(0, min(top, picture.shape[0] - letters.shape[0]))
    place = picture[top : top + letters.shape[0], left : left + letters.shape[1]]
    place[letters[:, : place.shape[1]]] = colour


def _width(text: str) -> int:
    return (font.WIDTH + 1) * 2 * len(text)


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round values between the bounds."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-300 else value:.5g}"[:7]


def pack(points: np.ndarray) -> bytes:
    """An array of height, width and three colours as a PNG file."""
    height, width, _ = points.shape
    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)
    rows[:, 1:] = points.reshape(height, width * 3)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    ):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)
