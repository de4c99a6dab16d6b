"""Log streams laid down as the node agent does it."""

from pathlib import Path

from moorage.logs.names import place_of
from moorage.logs.writer import Bounds, StreamWriter

MOMENT = 1_795_799_444_000
"""2026-11-27T17:10:44Z in milliseconds."""


class Stream:
    """A stream that a test writes to."""

    def __init__(
        self,
        data_dir: Path,
        name: str,
        *,
        endpoint: str = "wine",
        account: str = "111111111111",
        region: str = "us-east-1",
        segment_bytes: int = 2**20,
        segments: int = 100,
        begun: int = MOMENT,
    ) -> None:
        self.place = place_of(data_dir / "logs", account, region, endpoint, name)
        self._writer = StreamWriter(self.place, Bounds(segment_bytes, segments), begun)

    def say(self, *lines: str, at: int = MOMENT) -> "Stream":
        """Write lines at a time."""
        for line in lines:
            self._writer.write(f"{line}\n".encode(), at)
        return self

    def begin(self, text: str, at: int = MOMENT) -> "Stream":
        """Write the beginning of a line."""
        self._writer.write(text.encode(), at)
        return self
