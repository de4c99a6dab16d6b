"""What the node agent knows of its instances, and who hears of changes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from moorage.base.link import Message
from moorage.engine.contract import InstanceReport


class Listener:
    """One control plane that hears of changes; what it has not taken yet is merged, never queued up."""

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.wake = asyncio.Event()


@dataclass(frozen=True, slots=True)
class _Told:
    reports: tuple[InstanceReport, ...]
    complete: bool
    about: Message

    def to_message(self) -> Message:
        reports = [report.to_message() for report in self.reports]
        return {"op": "report", "complete": self.complete, "instances": reports, **self.about}


class Reports:
    """The newest report of each instance."""

    def __init__(self, about: Message | None = None) -> None:
        """``about`` is what a complete report says of the machine (``engine.contract``)."""
        self._about = about or {}
        self._reports: dict[str, InstanceReport] = {}
        self._listeners: set[Listener] = set()
        self._closed = False

    def put(self, report: InstanceReport) -> None:
        """Replace an instance's report and tell the listeners."""
        self._reports[report.instance_id] = report
        for listener in self._listeners:
            listener.changed[report.instance_id] = None
            listener.wake.set()

    def get(self, instance_id: str) -> InstanceReport | None:
        """Give an instance's report."""
        return self._reports.get(instance_id)

    def forget(self, instance_id: str) -> None:
        """Remove an instance's report."""
        self._reports.pop(instance_id, None)

    def close(self) -> None:
        """End all listening, once what is new was told."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()

    async def listen(self) -> AsyncIterator[Message]:
        """Give everything, and from then on what has changed."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield _Told(complete=True, reports=tuple(self._reports.values()), about=self._about).to_message()
            while listener.changed or not self._closed:
                await listener.wake.wait()
                listener.wake.clear()
                changed, listener.changed = listener.changed, {}
                reports = tuple(self._reports[name] for name in changed if name in self._reports)
                if reports:
                    yield _Told(complete=False, reports=reports, about={}).to_message()
        finally:
            self._listeners.discard(listener)

    def __len__(self) -> int:
        return len(self._reports)

    def __repr__(self) -> str:
        return f"<Reports: {len(self._reports)} instances | {len(self._listeners)} listeners>"
