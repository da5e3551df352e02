"""The arithmetic of a backtest, on numbers that can be checked by hand, and compared with a library of others."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from support import Agent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import empyrical

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.market.backtest import backtest


def test_a_position_earns_from_the_next_bar_on() -> None:
    report = backtest([100, 200, 100], [0, 1, 0], cost=0, bars_per_year=252)
    assert report.equity == [1, 1, 0.5]
    (trade,) = report.trades
    assert (trade.entry, trade.exit, trade.direction, trade.closed) == (1, 2, 1, True)
    assert trade.profit == -0.5
    assert report.max_drawdown == 0.5
    assert report.win_rate == 0


def test_each_change_of_position_costs() -> None:
    report = backtest([100, 100, 100], [1, 1, 0], cost=0.01, bars_per_year=252)
    assert report.equity == pytest.approx([0.99, 0.99, 0.9801])
    assert report.trades[0].profit == pytest.approx(0.9801 - 1)


def test_a_reversal_is_two_trades_that_share_the_cost() -> None:
    report = backtest([100, 110, 99], [1, -1, 0], cost=0.01, bars_per_year=252)
    assert report.equity[-1] == pytest.approx(0.99 * 1.1 * 0.98 * 1.1 * 0.99)
    assert [trade.direction for trade in report.trades] == [1, -1]
    first, second = report.trades
    assert first.profit == pytest.approx(0.99 * 1.1 * 0.99 - 1)
    assert (1 + first.profit) * (1 + second.profit) == pytest.approx(report.equity[-1], rel=1e-3)


def test_a_trade_that_is_still_held_counts_but_not_for_the_win_rate() -> None:
    report = backtest([100, 150], [1, 1], cost=0, bars_per_year=252)
    assert report.trades[0].closed is False
    assert report.win_rate is None
    assert report.total_return == pytest.approx(0.5)


def test_yearly_figures_follow_the_bars_of_a_year() -> None:
    report = backtest([100, 110, 121], [1, 1, 1], cost=0, bars_per_year=1)
    assert report.annualised_return == pytest.approx(0.1)
    assert report.volatility == pytest.approx(0, abs=1e-12)


def test_nan_is_no_position() -> None:
    assert backtest([100, 200], [math.nan, math.nan], cost=0, bars_per_year=252).equity == [1, 1]


def test_ruin_ends_at_nothing() -> None:
    report = backtest([100, 250, 100], [-1, -1, -1], cost=0, bars_per_year=252)
    assert report.equity == [1, 0, 0]
    assert report.max_drawdown == 1


def test_positions_beyond_the_whole_account_are_refused() -> None:
    with pytest.raises(WorkspaceError, match="from -1"):
        backtest([100, 100], [2, 2], cost=0, bars_per_year=252)


RUNS: list[dict[str, Any]] = [
    {"name": "sma_cross"},
    {"name": "sma_cross", "cost": 0, "parameters": {"fast": 5, "slow": 200}},
    {"name": "rsi_reversion"},
    {"name": "rsi_reversion", "cost": 0.01, "bars_per_year": 365},
]


@pytest.mark.anyio
@pytest.mark.parametrize("run", RUNS, ids=str)
async def test_the_statistics_on_the_shipped_series_are_those_of_another_library(agent: Agent, run: dict[str, Any]) -> None:
    result = await agent.call("backtest_strategy", **run)
    equity = np.array(result["equity"])
    returns = equity[1:] / equity[:-1] - 1
    year = run.get("bars_per_year", 252)
    expected = {
        "total_return": empyrical.cum_returns_final(returns),
        "annualised_return": empyrical.annual_return(returns, annualization=year),
        "volatility": empyrical.annual_volatility(returns, annualization=year),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, annualization=year),
        "sortino_ratio": empyrical.sortino_ratio(returns, annualization=year),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "calmar_ratio": empyrical.calmar_ratio(returns, annualization=year),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert equity[0] == 1 and result["trade_count"] > 5
