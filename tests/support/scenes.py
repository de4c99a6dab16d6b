"""Scenes of an endpoint's life in a simulated world."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from moorage.testing.fake_node import Script, Scripts
from moorage.testing.virtual_time import run_virtually
from moorage.testing.world import ControlWorld

Play = Callable[[ControlWorld], Awaitable[None]]


def play(
    folder: Path,
    scene: Play,
    scripts: Scripts = lambda _spec: Script(),
    *,
    check: Callable[[ControlWorld], None] = lambda _world: None,
    **options: Any,
) -> None:
    """Play a scene, then see that nothing more is done and that no instance was stopped in use; ``check`` sees more."""

    async def main() -> None:
        world = ControlWorld(folder, scripts=scripts, **options)
        try:
            await scene(world)
            await world.pass_time(200.0)
            calls, versions = list(world.node.calls), len(world.gateway.history)
            world.reconciler.wake_all()
            await world.pass_time(200.0)
            assert (world.node.calls, len(world.gateway.history)) == (calls, versions)
            assert world.violations == []
            check(world)
        finally:
            await world.close()

    run_virtually(main())
