"""Charts of runs and backtests, attached to the answer as images."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from dexorder_agent.calls import here
from dexorder_agent.evaluation import Evaluation
from dexorder_agent.market.series import Series
from dexorder_agent.workspace import Workspace

Chart = Annotated[bool, Field(description="Add a chart as a PNG image to the answer")]

Lines = Sequence[tuple[str, Sequence[float]]]
"""Names and values of the lines of one panel."""


async def attach_indicator(workspace: Workspace, evaluation: Evaluation, last: int | None) -> None:
    """The prices, with the outputs over them if they are prices too, else in a panel below."""
    outputs = list(zip(evaluation.signature.outputs, evaluation.outcome.arrays, strict=True))
    closes = evaluation.series.columns.get("close")
    if closes is None:
        await _attach(workspace, evaluation, [outputs], last)
        return
    low, high = min(closes), max(closes)
    room = high - low
    among = all(_within(values, low - room / 2, high + room / 2) for _, values in outputs)
    price: Lines = [("close", closes)]
    await _attach(workspace, evaluation, [[*price, *outputs]] if among else [price, outputs], last)


async def attach_backtest(workspace: Workspace, evaluation: Evaluation, equity: Sequence[float], last: int | None) -> None:
    """The equity against buying and holding, and below the prices by which it came about."""
    closes = evaluation.series.columns["close"]
    held = array("d", (close / closes[0] for close in closes))
    await _attach(workspace, evaluation, [[("equity", equity), ("buy and hold", held)], [("close", closes)]], last)


async def _attach(workspace: Workspace, evaluation: Evaluation, panels: Sequence[Lines], last: int | None) -> None:
    bars = len(evaluation.series)
    first = max(0, bars - last) if last is not None else 0
    columns: list[array[float]] = []
    described: list[dict[str, Any]] = []
    for panel in panels:
        lines = []
        for name, values in panel:
            lines.append((name, len(columns)))
            columns.append(array("d", values[first:]))
        described.append({"lines": lines})
    settings = json.dumps(evaluation.parameters) if evaluation.parameters else ""
    spec = {
        "title": f"{evaluation.signature.name} on {evaluation.series.name} {settings}",
        "from": _moment(evaluation.series, first),
        "to": _moment(evaluation.series, bars - 1),
        "panels": described,
    }
    here().images.append(await workspace.pool.draw(spec, columns))


def _within(values: Sequence[float], low: float, high: float) -> bool:
    return all(low <= value <= high for value in values if not math.isnan(value))


def _moment(series: Series, bar: int) -> str:
    return series.times[bar][:19] if series.times is not None else f"bar {bar}"
