"""What a strategy's positions would have earned.

The position that a strategy wants at the close of a bar is taken at that close and earns from the next bar on, so a strategy can't profit
from a price that it has already seen. Each change of position costs a fraction of what is traded. Nothing else is modelled: no slippage,
no interest on cash, no dividends.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dexorder_agent.errors import WorkspaceError


@dataclass(frozen=True, slots=True)
class Trade:
    """A position of one direction from its start to its end, or to the last bar if it is still held."""

    entry: int
    exit: int
    direction: int
    profit: float
    closed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The equity, begun at 1, and its statistics. A figure that doesn't exist for the series is None."""

    equity: list[float]
    trades: list[Trade]
    total_return: float
    annualised_return: float | None
    volatility: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown: float
    calmar_ratio: float | None
    exposure: float
    win_rate: float | None
    buy_and_hold_return: float


def backtest(closes: Sequence[float], wanted: Sequence[float], *, cost: float, bars_per_year: float) -> Report:
    """Follow the positions over the closing prices."""
    if min(closes) <= 0:
        raise WorkspaceError("a backtest needs closing prices above zero")
    positions = [_position(value, bar) for bar, value in enumerate(wanted)]
    equity = [1.0 - cost * abs(positions[0])]
    for bar in range(1, len(closes)):
        change = closes[bar] / closes[bar - 1] - 1
        value = equity[-1] * max(0.0, 1 + positions[bar - 1] * change)
        equity.append(value * (1 - cost * abs(positions[bar] - positions[bar - 1])))
    trades = _trades(positions, equity, cost)
    closed = [trade for trade in trades if trade.closed]
    years = (len(closes) - 1) / bars_per_year
    returns = [after / before - 1 for before, after in itertools.pairwise(equity) if before > 0]
    deviation = statistics.stdev(returns) if len(returns) > 1 else None
    mean = statistics.fmean(returns) if returns else 0.0
    downside = math.sqrt(statistics.fmean(min(value, 0.0) ** 2 for value in returns)) if returns else 0.0
    annualised, drawdown = _annualised(equity[-1], years), _max_drawdown(equity)
    return Report(
        equity=equity,
        trades=trades,
        total_return=equity[-1] - 1,
        annualised_return=annualised,
        volatility=deviation * math.sqrt(bars_per_year) if deviation is not None else None,
        sharpe_ratio=mean / deviation * math.sqrt(bars_per_year) if deviation else None,
        sortino_ratio=mean / downside * math.sqrt(bars_per_year) if downside else None,
        max_drawdown=drawdown,
        calmar_ratio=annualised / drawdown if annualised is not None and drawdown else None,
        exposure=sum(1 for position in positions if position) / len(positions),
        win_rate=sum(1 for trade in closed if trade.profit > 0) / len(closed) if closed else None,
        buy_and_hold_return=closes[-1] / closes[0] - 1,
    )


def _position(value: float, bar: int) -> float:
    """NaN, as indicators give before they have a value, means out of the market."""
    if math.isnan(value):
        return 0.0
    if not -1 <= value <= 1:
        raise WorkspaceError(f"the strategy wants the position {value:g} at bar {bar}: positions go from -1 (short) to 1 (long)")
    return value


def _annualised(final: float, years: float) -> float | None:
    if years <= 0:
        return None
    try:
        return float(final ** (1 / years)) - 1
    except OverflowError:
        return None


def _max_drawdown(equity: Sequence[float]) -> float:
    peak, worst = 1.0, 0.0
    for value in equity:
        peak = max(peak, value)
        worst = max(worst, 1 - value / peak)
    return worst


def _trades(positions: Sequence[float], equity: Sequence[float], cost: float) -> list[Trade]:
    """Cut the positions where their direction changes; the cost of entering and leaving belongs to the trade."""
    trades: list[Trade] = []
    entry, direction, start = 0, 0, 1.0
    for bar, position in enumerate(positions):
        now = (position > 0) - (position < 0)
        if now == direction:
            continue
        before = positions[bar - 1] if bar else 0.0
        # A reversal pays for leaving the old position and for entering the new one in the same bar.
        paid = 1 - cost * abs(position - before)
        leaving = 1 - cost * abs(before)
        between = equity[bar] / paid * leaving if paid > 0 else 0.0
        if direction:
            trades.append(Trade(entry, bar, direction, between / start - 1 if start else 0.0, True))
        entry, direction, start = bar, now, between
    if direction:
        last = len(positions) - 1
        trades.append(Trade(entry, last, direction, equity[last] / start - 1 if start else 0.0, False))
    return trades
