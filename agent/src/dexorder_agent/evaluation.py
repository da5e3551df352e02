"""Runs an indicator or a strategy of the repository on a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dexorder_agent.calls import ticking
from dexorder_agent.market.series import Series
from dexorder_agent.sandbox.pool import Job, Outcome
from dexorder_agent.source.arguments import check
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.source.model import Signature
from dexorder_agent.source.read import read
from dexorder_agent.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run that succeeded, with what it was run on."""

    signature: Signature
    parameters: dict[str, Any]
    series: Series
    outcome: Outcome


async def evaluate(workspace: Workspace, catalog: Catalog, name: str, given: Mapping[str, Any], series: Series) -> Evaluation:
    """Check the parameters, then run the function in the sandbox."""
    source = await catalog.source(name)
    signature = read(name, source, catalog.kind)
    parameters = check(signature, given)
    job = Job(
        path=catalog.path(name),
        module=f"{catalog.kind.folder}.{name}",
        source=source,
        function=catalog.kind.function,
        columns=series.pick(signature.inputs),
        parameters=parameters,
        outputs=signature.outputs,
    )
    seconds = workspace.settings.limits.seconds
    async with ticking(lambda: f"running {name}, for {seconds:g} s at most", seconds):
        outcome = await workspace.pool.run(job, f"run_{catalog.kind.noun} {name}")
    return Evaluation(signature, parameters, series, outcome)
