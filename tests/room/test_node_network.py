"""What a node agent does when the network of instances is not there: instances never fall back to the machine's."""

from pathlib import Path

import pytest
from tests.support.machine import MACHINE

from moorage.base.clock import SystemClock
from moorage.base.settings import Settings
from moorage.engine.network import NetworkSlow, NetworkUnavailable
from moorage.node import process


class Networks:
    """Raises what it is given, one after the other, and then makes one."""

    def __init__(self, *faults: NetworkUnavailable) -> None:
        self.faults = list(faults)
        self.asked = 0

    def __call__(self, _clock: SystemClock, *, as_root: bool) -> object:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return f"a network, as root: {as_root}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    if MACHINE.sandbox_fault:
        pytest.skip(MACHINE.sandbox_fault)
    return Settings(tmp_path / "data", tmp_path / "run", engine="sandbox")


async def test_network_that_is_slow_once_is_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = Networks(NetworkSlow("slow"), NetworkSlow("slow"))
    monkeypatch.setattr(process, "SharedNetwork", networks)
    assert await process._make_network(settings, MACHINE, SystemClock()) is not None
    assert networks.asked == 3


async def test_network_that_stays_slow_is_not_done_without(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SharedNetwork", Networks(*[NetworkSlow("slow")] * 3))
    with pytest.raises(NetworkSlow):
        await process._make_network(settings, MACHINE, SystemClock())


async def test_network_that_cannot_be_had_here_is_done_without_and_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    networks = Networks(NetworkUnavailable("pasta is not installed"))
    monkeypatch.setattr(process, "SharedNetwork", networks)
    assert await process._make_network(settings, MACHINE, SystemClock()) is None
    assert networks.asked == 1
    assert "instances share the machine's network: pasta is not installed." in caplog.text
