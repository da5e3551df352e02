"""Price series: read from CSV files of the repository, or given in a call."""

from __future__ import annotations

import csv
import io
import math
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.names import SERIES_PATTERN, check
from dexorder_agent.repo.repository import Repository
from dexorder_agent.source.model import COLUMNS

DEFAULT_SERIES = "ibm-daily"
MAX_BARS = 200_000
TIME_HEADINGS = ("date", "time", "timestamp", "datetime")


@dataclass(frozen=True, slots=True)
class Series:
    """Prices in order of time."""

    name: str
    times: list[str] | None
    columns: dict[str, array[float]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def pick(self, inputs: Sequence[str]) -> list[array[float]]:
        """The named columns; an error says which one the series lacks."""
        for name in inputs:
            if name not in self.columns:
                raise WorkspaceError(f"the series {self.name} has no column {name}: it has {', '.join(self.columns)}")
        return [self.columns[name] for name in inputs]


class SeriesStore:
    """Finds series; a file that was read is kept until it changes."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[str, tuple[tuple[int, int], Series]] = {}

    async def get(self, wanted: str | Mapping[str, Sequence[float]] | None) -> Series:
        """The series of this name, the given columns as a series, or the one that every workspace begins with."""
        if wanted is None:
            return await self.named(DEFAULT_SERIES)
        if isinstance(wanted, str):
            return await self.named(wanted)
        return from_columns("given in the call", wanted)

    async def named(self, name: str) -> Series:
        """A series of the repository's data folder."""
        path = f"data/{check(name, SERIES_PATTERN, 'series name')}.csv"
        await self._repository.opened()
        try:
            status = os.stat(self._repository.root / path)
        except OSError:
            names = sorted(file.stem for file in (self._repository.root / "data").glob("*.csv"))
            there = f"there are {', '.join(names[:50])}" if names else "there are none"
            raise NotFoundError(f"series {name!r} doesn't exist: {there}") from None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        series = parse(name, ((await self._repository.read(path)) or b"").decode("utf-8", "replace"))
        self._known[name] = (stamp, series)
        return series


def parse(name: str, text: str) -> Series:
    """Read a CSV file with a heading; columns that aren't prices or the time are passed over."""
    rows = csv.reader(io.StringIO(text))
    headings = [heading.strip().lower() for heading in next(rows, [])]
    found = {heading: index for index, heading in enumerate(headings) if heading in COLUMNS}
    time_at = next((headings.index(heading) for heading in TIME_HEADINGS if heading in headings), None)
    if not found:
        raise WorkspaceError(f"data/{name}.csv has no heading with any of {', '.join(COLUMNS)}")
    columns = {heading: array("d") for heading in found}
    times: list[str] = []
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            for heading, index in found.items():
                columns[heading].append(_finite(float(row[index])))
            if time_at is not None:
                times.append(row[time_at])
        except (ValueError, IndexError):
            raise WorkspaceError(f"data/{name}.csv line {number} isn't a row of numbers under the heading") from None
    return _checked(Series(name, times if time_at is not None else None, columns))


def from_columns(name: str, given: Mapping[str, Sequence[float]]) -> Series:
    """A series from lists of numbers."""
    columns: dict[str, array[float]] = {}
    for column, values in given.items():
        if column not in COLUMNS:
            raise WorkspaceError(f"series column {column[:40]!r} isn't known: the columns are {', '.join(COLUMNS)}")
        try:
            columns[column] = array("d", (_finite(float(value)) for value in values))
        except (TypeError, ValueError):
            raise WorkspaceError(f"series column {column} must be a list of finite numbers") from None
    if not columns:
        raise WorkspaceError(f"the series has no columns: give lists of numbers for any of {', '.join(COLUMNS)}")
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise WorkspaceError(f"the columns of the series differ in length: {lengths}")
    return _checked(Series(name, None, columns))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value


def _checked(series: Series) -> Series:
    if not 0 < len(series) <= MAX_BARS:
        raise WorkspaceError(f"the series {series.name} has {len(series)} bars: it must have 1 to {MAX_BARS}")
    return series
