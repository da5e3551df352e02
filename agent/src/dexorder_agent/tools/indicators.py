"""Tools for indicators."""

from __future__ import annotations

from typing import cast

from typing_extensions import TypedDict

from dexorder_agent.evaluation import evaluate
from dexorder_agent.tools import charts, programs
from dexorder_agent.tools.shapes import EntryShape, Last, Name, Parameters, RunShape, SavedShape, SeriesArgument, Source, SourceShape
from dexorder_agent.tools.toolbox import READS, REPLACES, tool
from dexorder_agent.workspace import Workspace


class IndicatorList(TypedDict):
    """All indicators."""

    indicators: list[EntryShape]


class IndicatorTools:
    """List, show, run, save and delete."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @tool("List indicators", READS)
    async def list_indicators(self) -> IndicatorList:
        """List the workspace's indicators with their inputs, parameters (type, default, bounds) and outputs."""
        return IndicatorList(indicators=cast(list[EntryShape], await self._workspace.indicators.entries()))

    @tool("Show an indicator", READS)
    async def show_indicator(self, name: Name) -> SourceShape:
        """Show the Python source of an indicator and its signature."""
        return await programs.show(self._workspace.indicators, name)

    @tool("Run an indicator", READS)
    async def run_indicator(
        self, name: Name, parameters: Parameters = None, series: SeriesArgument = None, last: Last = None, chart: charts.Chart = False
    ) -> RunShape:
        """Compute an indicator on a price series. Gives one value for each bar and output, null where there is none yet."""
        prices = await self._workspace.series.get(series)
        run = await evaluate(self._workspace, self._workspace.indicators, name, parameters or {}, prices)
        if chart:
            await charts.attach_indicator(self._workspace, run, last)
        return programs.result(run, last)

    @tool("Save an indicator", REPLACES)
    async def save_indicator(self, name: Name, source: Source) -> SavedShape:
        """Save an indicator, new or in place of the one of this name. The source needs a function `compute` whose positional parameters
        are price columns (open, high, low, close, volume as numpy arrays) and whose keyword parameters are settings, like
        `def compute(close, *, period: Annotated[int, (2, 500)] = 14):`. It returns one array, or a tuple of arrays named by
        `OUTPUTS = ("upper", "lower")`, as long as the input, NaN where there is no value. numpy can be imported."""
        return await programs.save(self._workspace.repository, self._workspace.indicators, name, source)

    @tool("Delete an indicator", REPLACES)
    async def delete_indicator(self, name: Name) -> SavedShape:
        """Delete an indicator. It stays in the history and can be brought back with history_restore."""
        return await programs.delete(self._workspace.repository, self._workspace.indicators, name)
