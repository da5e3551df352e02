"""What the tools for indicators and those for strategies have in common."""

from __future__ import annotations

from typing import cast

from dexorder_agent.errors import NotFoundError
from dexorder_agent.evaluation import Evaluation
from dexorder_agent.jsonsafe import finite
from dexorder_agent.repo.repository import Repository
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.source.read import read
from dexorder_agent.tools.shapes import RunShape, SavedShape, SourceShape


async def show(catalog: Catalog, name: str) -> SourceShape:
    """The source, with its signature or with what is wrong with it."""
    return cast(SourceShape, await catalog.shown(name))


async def save(repository: Repository, catalog: Catalog, name: str, source: str) -> SavedShape:
    """Commit the source if it can be used."""
    path = catalog.path(name)
    read(name, source, catalog.kind)
    change = await repository.change(f"Save the {catalog.kind.noun} {name}", {path: source.encode()})
    return SavedShape(path=path, commit=change.commit, changed=change.changed)


async def delete(repository: Repository, catalog: Catalog, name: str) -> SavedShape:
    """Commit the removal."""
    path = catalog.path(name)
    if await repository.read(path) is None:
        raise NotFoundError(f"{catalog.kind.noun} {name!r} doesn't exist: there is nothing to delete")
    change = await repository.change(f"Delete the {catalog.kind.noun} {name}", {path: None})
    return SavedShape(path=path, commit=change.commit, changed=change.changed)


def result(evaluation: Evaluation, last: int | None) -> RunShape:
    """A run's values as JSON, all of them or the newest."""
    bars = len(evaluation.series)
    first = max(0, bars - last) if last is not None else 0
    times = evaluation.series.times
    return RunShape(
        name=evaluation.signature.name,
        series=evaluation.series.name,
        parameters=evaluation.parameters,
        bars=bars,
        first_bar=first,
        times=times[first:] if times is not None else None,
        outputs={
            name: finite(values[first:]) for name, values in zip(evaluation.signature.outputs, evaluation.outcome.arrays, strict=True)
        },
        printed=evaluation.outcome.printed,
        milliseconds=evaluation.outcome.milliseconds,
    )
