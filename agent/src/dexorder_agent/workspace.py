"""Everything of one user that tools and resources work on."""

from __future__ import annotations

from dataclasses import dataclass

from dexorder_agent.market.series import SeriesStore
from dexorder_agent.packages.environment import Environment
from dexorder_agent.repo.repository import Repository
from dexorder_agent.sandbox.pool import Pool
from dexorder_agent.settings import Settings
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.source.model import INDICATOR, STRATEGY


@dataclass(frozen=True, slots=True)
class Workspace:
    """The parts, made once for the process."""

    settings: Settings
    repository: Repository
    pool: Pool
    indicators: Catalog
    strategies: Catalog
    series: SeriesStore
    environment: Environment

    @classmethod
    def of(cls, settings: Settings) -> Workspace:
        """Put the parts together; nothing is read or started yet."""
        repository = Repository(settings.repository, settings.user_id)
        environment = Environment(settings.environment, settings.channel, repository)
        return cls(
            settings=settings,
            repository=repository,
            pool=Pool(settings.repository, settings.limits, lambda: environment.site),
            indicators=Catalog(repository, INDICATOR),
            strategies=Catalog(repository, STRATEGY),
            series=SeriesStore(repository),
            environment=environment,
        )
