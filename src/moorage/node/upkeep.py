"""Keeps room on the machine's disk: extracted models that nobody uses go when they are old or their room is needed."""

import asyncio
import logging
import shutil
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.engine.artifacts import Artifacts

log = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0


async def keep_house(artifacts: Artifacts, data_dir: Path, limits: Limits, clock: Clock) -> None:
    """Look after the disk, for ever."""
    await artifacts.clear_unfinished()
    while True:
        try:
            await keep_room(artifacts, data_dir, limits)
        except OSError as fault:
            log.error("the disk of %s could not be looked after: %s", data_dir, fault)
        await clock.sleep_until(clock.monotonic() + _LOOK_SECONDS)


async def keep_room(artifacts: Artifacts, data_dir: Path, limits: Limits) -> None:
    """Look after the disk once."""

    def is_roomy() -> bool:
        return shutil.disk_usage(data_dir).free >= limits.disk_reserve_bytes

    gone = await artifacts.sweep(idle_seconds=limits.models_kept_seconds)
    if not await asyncio.to_thread(is_roomy):
        gone += await artifacts.sweep(idle_seconds=0, enough=is_roomy)
        if not await asyncio.to_thread(is_roomy):
            free = (await asyncio.to_thread(shutil.disk_usage, data_dir)).free
            log.warning(
                "the disk of %s has only %.1f MB left: models, volumes of instances and the database need room there",
                data_dir,
                free / 1e6,
            )
    if gone:
        log.info("%d extracted models that no instance uses were removed", len(gone))
