"""Tools for strategies."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent.evaluation import evaluate
from dexorder_agent.jsonsafe import finite
from dexorder_agent.market.backtest import Report, Trade, backtest
from dexorder_agent.market.series import Series
from dexorder_agent.tools import charts, programs
from dexorder_agent.tools.shapes import EntryShape, Last, Name, Parameters, RunShape, SavedShape, SeriesArgument, Source, SourceShape
from dexorder_agent.tools.toolbox import READS, REPLACES, tool
from dexorder_agent.workspace import Workspace


class StrategyList(TypedDict):
    """All strategies."""

    strategies: list[EntryShape]


class TradeShape(TypedDict):
    """One trade; a trade that is still held ends at the last bar."""

    direction: Literal["long", "short"]
    entry_bar: int
    exit_bar: int
    entry_time: str | None
    exit_time: str | None
    profit: float
    closed: bool


class BacktestShape(TypedDict):
    """Statistics as fractions (0.1 is 10 %), and the equity beginning at 1."""

    name: str
    series: str
    parameters: dict[str, Any]
    cost: float
    bars: int
    total_return: float
    annualised_return: float | None
    volatility: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown: float
    calmar_ratio: float | None
    exposure: float
    trade_count: int
    win_rate: float | None
    buy_and_hold_return: float
    trades: list[TradeShape]
    first_bar: int
    times: list[str] | None
    equity: list[float | None]
    printed: str


class StrategyTools:
    """List, show, run, backtest, save and delete."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @tool("List strategies", READS)
    async def list_strategies(self) -> StrategyList:
        """List the workspace's strategies with their inputs and parameters (type, default, bounds)."""
        return StrategyList(strategies=cast(list[EntryShape], await self._workspace.strategies.entries()))

    @tool("Show a strategy", READS)
    async def show_strategy(self, name: Name) -> SourceShape:
        """Show the Python source of a strategy and its signature."""
        return await programs.show(self._workspace.strategies, name)

    @tool("Run a strategy", READS)
    async def run_strategy(self, name: Name, parameters: Parameters = None, series: SeriesArgument = None, last: Last = None) -> RunShape:
        """Compute the position that a strategy wants at each bar: 1 is long, 0 is out, -1 is short."""
        prices = await self._workspace.series.get(series)
        run = await evaluate(self._workspace, self._workspace.strategies, name, parameters or {}, prices)
        return programs.result(run, last)

    @tool("Backtest a strategy", READS)
    async def backtest_strategy(
        self,
        name: Name,
        parameters: Parameters = None,
        series: SeriesArgument = None,
        cost: Annotated[float, Field(description="Cost of trading, as a fraction of the value traded", ge=0, le=0.1)] = 0.001,
        bars_per_year: Annotated[float, Field(description="252 for daily prices of a stock exchange", ge=1, le=600_000)] = 252,
        last: Last = None,
        chart: charts.Chart = False,
    ) -> BacktestShape:
        """Work out what a strategy would have earned on a price series: return, volatility, Sharpe and Sortino ratios (risk-free rate 0),
        largest drawdown and the Calmar ratio to it, trades and the equity curve. A position is taken at the close where the strategy asks
        for it and earns from the next bar on. Slippage, dividends and interest are left out."""
        prices = await self._workspace.series.get(series)
        (closes,) = prices.pick(["close"])
        run = await evaluate(self._workspace, self._workspace.strategies, name, parameters or {}, prices)
        report = backtest(closes, run.outcome.arrays[0], cost=cost, bars_per_year=bars_per_year)
        if chart:
            await charts.attach_backtest(self._workspace, run, report.equity, last)
        first = max(0, len(prices) - last) if last is not None else 0
        return BacktestShape(
            name=name,
            series=prices.name,
            parameters=run.parameters,
            cost=cost,
            bars=len(prices),
            **_statistics(report),
            trades=[_trade(trade, prices) for trade in report.trades],
            first_bar=first,
            times=prices.times[first:] if prices.times is not None else None,
            equity=finite(report.equity[first:]),
            printed=run.outcome.printed,
        )

    @tool("Save a strategy", REPLACES)
    async def save_strategy(self, name: Name, source: Source) -> SavedShape:
        """Save a strategy, new or in place of the one of this name. The source needs a function `signals` with parameters like those of an
        indicator, which returns the position wanted at each bar: 1 long, 0 out, -1 short. It can import indicators:
        `from indicators.sma import compute as sma`."""
        return await programs.save(self._workspace.repository, self._workspace.strategies, name, source)

    @tool("Delete a strategy", REPLACES)
    async def delete_strategy(self, name: Name) -> SavedShape:
        """Delete a strategy. It stays in the history and can be brought back with history_restore."""
        return await programs.delete(self._workspace.repository, self._workspace.strategies, name)


class _Statistics(TypedDict):
    total_return: float
    annualised_return: float | None
    volatility: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown: float
    calmar_ratio: float | None
    exposure: float
    trade_count: int
    win_rate: float | None
    buy_and_hold_return: float


def _statistics(report: Report) -> _Statistics:
    return _Statistics(
        total_return=report.total_return,
        annualised_return=report.annualised_return,
        volatility=report.volatility,
        sharpe_ratio=report.sharpe_ratio,
        sortino_ratio=report.sortino_ratio,
        max_drawdown=report.max_drawdown,
        calmar_ratio=report.calmar_ratio,
        exposure=report.exposure,
        trade_count=len(report.trades),
        win_rate=report.win_rate,
        buy_and_hold_return=report.buy_and_hold_return,
    )


def _trade(trade: Trade, series: Series) -> TradeShape:
    times = series.times
    return TradeShape(
        direction="long" if trade.direction > 0 else "short",
        entry_bar=trade.entry,
        exit_bar=trade.exit,
        entry_time=times[trade.entry] if times else None,
        exit_time=times[trade.exit] if times else None,
        profit=trade.profit,
        closed=trade.closed,
    )
