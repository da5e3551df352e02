"""Everything of one user that tools and resources work on."""

from __future__ import annotations

from dataclasses import dataclass

from dexorder_agent.market.series import SeriesStore
from dexorder_agent.packages.environment import Environment
from dexorder_agent.repo.place import Place, find
from dexorder_agent.repo.remote import Elsewhere, Remote
from dexorder_agent.repo.repository import Repository
from dexorder_agent.sandbox.pool import Pool
from dexorder_agent.settings import Settings
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.source.model import INDICATOR, STRATEGY


@dataclass(frozen=True, slots=True)
class Workspace:
    """The parts, made once for the process."""

    settings: Settings
    place: Place
    repository: Repository
    pool: Pool
    indicators: Catalog
    strategies: Catalog
    series: SeriesStore
    environment: Environment

    @classmethod
    def of(cls, settings: Settings) -> Workspace:
        """Put the parts together; nothing is read or started yet."""
        place = find(settings.repository, read_only=settings.read_only)
        remote = None
        if settings.remote_url is not None and not place.frozen:
            own = f"workspace/{settings.workspace}"
            seen = place.root.with_name("known_hosts")
            there = Elsewhere(settings.remote_url, settings.remote_branch, own, settings.remote_credentials, seen)
            remote = Remote(there, settings.user_id, only_copied=place.thrown_away)
        repository = Repository(place.root, settings.user_id, remote, frozen=place.frozen, pack_after=settings.pack_after)
        environment = Environment(settings.environment, settings.channel, repository)
        return cls(
            settings=settings,
            place=place,
            repository=repository,
            pool=Pool(place.root, settings.limits, lambda: environment.site),
            indicators=Catalog(repository, INDICATOR),
            strategies=Catalog(repository, STRATEGY),
            series=SeriesStore(repository),
            environment=environment,
        )
