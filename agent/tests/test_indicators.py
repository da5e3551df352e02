"""The indicators of a new workspace give the values of TA-Lib."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib
from support import Agent

import dexorder_agent

pytestmark = pytest.mark.anyio

SEED = Path(dexorder_agent.__file__).parent / "seed"
with (SEED / "data/ibm-daily.csv").open() as file:
    ROWS = list(csv.DictReader(file))
PRICES = {name: np.array([float(row[name]) for row in ROWS]) for name in ("open", "high", "low", "close", "volume")}
CLOSE, HIGH, LOW = PRICES["close"], PRICES["high"], PRICES["low"]


def bands(period: int, up: float, down: float) -> dict[str, Any]:
    upper, middle, lower = talib.BBANDS(CLOSE, period, up, down)
    return {"upper": upper, "middle": middle, "lower": lower}


def macd(fast: int, slow: int, signal: int) -> dict[str, Any]:
    line, signal_line, histogram = talib.MACD(CLOSE, fast, slow, signal)
    return {"macd": line, "signal": signal_line, "histogram": histogram}


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("sma", {}, {"sma": talib.SMA(CLOSE, 20)}),
    ("sma", {"period": 200}, {"sma": talib.SMA(CLOSE, 200)}),
    ("ema", {}, {"ema": talib.EMA(CLOSE, 20)}),
    ("ema", {"period": 2}, {"ema": talib.EMA(CLOSE, 2)}),
    ("rsi", {}, {"rsi": talib.RSI(CLOSE, 14)}),
    ("rsi", {"period": 2}, {"rsi": talib.RSI(CLOSE, 2)}),
    ("macd", {}, macd(12, 26, 9)),
    ("macd", {"fast": 5, "slow": 34, "signal": 5}, macd(5, 34, 5)),
    ("macd", {"fast": 30, "slow": 10, "signal": 1}, macd(30, 10, 1)),
    ("bollinger", {}, bands(20, 2.0, 2.0)),
    ("bollinger", {"period": 5, "deviations_up": 1.5, "deviations_down": 3}, bands(5, 1.5, 3.0)),
    ("atr", {}, {"atr": talib.ATR(HIGH, LOW, CLOSE, 14)}),
    ("atr", {"period": 1}, {"atr": talib.ATR(HIGH, LOW, CLOSE, 1)}),
]


@pytest.mark.parametrize(("name", "parameters", "expected"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
async def test_every_value_equals_talib(agent: Agent, name: str, parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    result = await agent.call("run_indicator", name=name, parameters=parameters)
    assert result["bars"] == len(CLOSE)
    assert set(result["outputs"]) == set(expected)
    for output, values in result["outputs"].items():
        ours = np.array(values, dtype=float)
        theirs = np.asarray(expected[output], dtype=float)
        assert (np.isnan(ours) == np.isnan(theirs)).all(), f"{output} begins at another bar"
        assert np.nanmax(np.abs(ours - theirs)) < 1e-9
        assert np.isfinite(ours).sum() > len(ours) // 2


@pytest.mark.parametrize("name", ["sma", "ema", "rsi", "macd", "bollinger", "atr"])
async def test_a_series_that_is_too_short_has_no_values(agent: Agent, name: str) -> None:
    short = {column: [1.0, 2.0] for column in ("high", "low", "close")}
    result = await agent.call("run_indicator", name=name, series=short)
    assert all(values == [None, None] for values in result["outputs"].values())


async def test_flat_prices_divide_by_nothing(agent: Agent) -> None:
    flat = [5.0] * 40
    result = await agent.call("run_indicator", name="rsi", series={"close": flat})
    expected = talib.RSI(np.array(flat), 14)
    assert result["outputs"]["rsi"][-1] == expected[-1] == 0.0


async def test_only_the_newest_values(agent: Agent) -> None:
    everything = await agent.call("run_indicator", name="rsi")
    newest = await agent.call("run_indicator", name="rsi", last=3)
    assert newest["outputs"]["rsi"] == everything["outputs"]["rsi"][-3:]
    assert newest["times"] == ["2013-02-27", "2013-02-28", "2013-03-01"]
    assert newest["first_bar"] == newest["bars"] - 3


async def test_wrong_parameters_are_named(agent: Agent) -> None:
    assert "at least 2" in await agent.fails("run_indicator", name="rsi", parameters={"period": 1})
    assert "at most 500" in await agent.fails("run_indicator", name="rsi", parameters={"period": 501})
    assert "type int" in await agent.fails("run_indicator", name="rsi", parameters={"period": "14"})
    assert "type int" in await agent.fails("run_indicator", name="rsi", parameters={"period": True})
    assert "no parameter 'length': its parameters are period" in await agent.fails("run_indicator", name="rsi", parameters={"length": 14})
    assert "doesn't exist: there are atr, " in await agent.fails("run_indicator", name="nothing")
    assert "no column high" in await agent.fails("run_indicator", name="atr", series={"close": [1.0, 2.0]})
    assert "series 'tesla' doesn't exist: there are ibm-daily" in await agent.fails("run_indicator", name="rsi", series="tesla")
    assert "differ in length" in await agent.fails("run_indicator", name="rsi", series={"close": [1.0], "high": [1.0, 2.0]})
    assert "no argument 'paramters'" in await agent.fails("run_indicator", name="rsi", paramters={})


async def test_a_whole_number_may_be_written_as_a_float(agent: Agent) -> None:
    result = await agent.call("run_indicator", name="rsi", parameters={"period": 14.0}, last=1)
    assert result["parameters"] == {"period": 14}
