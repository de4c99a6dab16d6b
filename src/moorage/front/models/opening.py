"""Makes what serves a container's many models of what the front was told of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moorage.base.clock import Clock
from moorage.base.ids import SystemIds
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.engine.artifacts import Artifacts
from moorage.front.models.contract import Contract
from moorage.front.models.keeper import Keeper
from moorage.front.models.library import Library
from moorage.front.models.shelf import Shelf
from moorage.front.models.station import Channels, ModelStation
from moorage.front.spec import ManyModels
from moorage.front.station import Station
from moorage.objects.folder import open_store


class _OfTheMachine(Artifacts):
    """The artefacts of all instances: what nobody needs any more only the node agent knows."""

    async def sweep(self, *, idle_seconds: float, enough: Callable[[], bool] = lambda: False) -> list[Path]:  # noqa: ARG002
        """Remove nothing."""
        return []


def open_models(  # noqa: PLR0913 - what it is made of
    models: ManyModels,
    station: Station,
    settings: Mapping[str, Any],
    tasks: Tasks,
    clock: Clock,
    *,
    tell_count: Callable[[int], None],
) -> ModelStation:
    """Make a station of many models; ``tell_count`` is told how many are loaded, whenever that changes."""
    limits = Settings.from_message(settings)
    store = open_store(limits, clock, SystemIds())
    kind = Artifacts if models.alone else _OfTheMachine
    library = Library(
        kind(store, Path(models.artifacts), limits.limits, clock),
        Path(models.folder),
        seen_at=models.seen_at,
        account=models.account,
        code=models.code,
        limits=limits.limits,
    )
    keeper = Keeper(
        Shelf(most_loads=models.most_loads, caches=models.caches),
        Contract(station),
        library,
        tasks,
        clock,
        load_seconds=models.load_seconds,
        keeps_files=models.caches,
        tell_count=tell_count,
    )
    return ModelStation(station, keeper, Channels(station, clock, one_each=models.one_each), models.prefix, tasks)
