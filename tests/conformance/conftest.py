"""The engines of this machine, each with a folder of its own and the network that its instances share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support import promise_table
from tests.support.engines import Bench, bench
from tests.support.machine import MACHINE

from moorage.base.clock import SystemClock
from moorage.engine.machine import Need
from moorage.engine.network import OutsideNetwork
from moorage.engine.promises import PROMISES, judge

_BY_ID = {promise.id: promise for promise in PROMISES}


@pytest.fixture(scope="session")
def network() -> Iterator[OutsideNetwork | None]:
    """Have the network of instances that may have one; None: they are in the machine's."""
    if Need.OUTSIDE_NETWORK in MACHINE.lacks:
        yield None
        return
    made = OutsideNetwork.open(SystemClock(), as_root=MACHINE.as_root)
    yield made
    made.close()


@pytest.fixture(params=["sandbox", "process"])
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, network: OutsideNetwork | None
) -> AsyncIterator[Bench]:
    """Have each engine; a test of a promise runs on those that keep it here."""
    _skip_what_is_not_kept(request.node, request.param)
    async with bench(request.param, tmp_path, network=network) as made:
        yield made


@pytest.fixture
async def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, network: OutsideNetwork | None
) -> AsyncIterator[Bench]:
    """Have the sandbox, for what only it has."""
    _skip_what_is_not_kept(request.node, "sandbox")
    async with bench("sandbox", tmp_path, network=network) as made:
        yield made


def _skip_what_is_not_kept(item: pytest.Item, engine: str) -> None:
    promise_table.note(item, engine)
    if engine == "sandbox" and MACHINE.sandbox_fault:
        pytest.skip(f"no sandbox: {MACHINE.sandbox_fault}")
    for promise in promise_table.promises_of(item):
        verdict = judge(_BY_ID[promise], MACHINE, engine)
        if not verdict.kept:
            pytest.skip(f"{engine} does not keep here that {_BY_ID[promise].text}, because {verdict.reason}")
