"""What becomes of old logs."""

import os
from pathlib import Path

import pytest

from moorage.logs import names
from moorage.logs.names import place_of
from moorage.logs.reader import StreamReader
from moorage.logs.sweep import finish_leftovers, sweep
from moorage.logs.writer import Bounds, StreamWriter

NOW = 1_800_000_000.0
DAY = 86_400.0


def stream(logs: Path, name: str, *, segments: int = 1, age: float = 0.0, endpoint: str = "wine") -> Path:
    """Lay down a stream whose segments have about 1,000 bytes each, the last of them written at an age."""
    place = place_of(logs, "111111111111", "eu-north-1", endpoint, name)
    writer = StreamWriter(place, Bounds(1_000, 100), int(NOW * 1000))
    for _ in range(segments * 20):
        writer.write(b"." * 25 + b"\n", int(NOW * 1000))
    for distance, path in enumerate(sorted(place.folder.glob("*.log"), reverse=True)):
        os.utime(path, (NOW - age - distance, NOW - age - distance))
    return place.folder


def swept(logs: Path, *living: Path, most_bytes: int = 2**40) -> int:
    return sweep(logs, lambda: frozenset(living), now=NOW, kept_seconds=DAY, most_bytes=most_bytes)


def files(folder: Path) -> int:
    return len(list(folder.glob("*.log")))


def test_streams_that_ended_long_ago_go_and_others_stay(tmp_path: Path) -> None:
    old, new = stream(tmp_path, "v/i-1", age=2 * DAY), stream(tmp_path, "v/i-2", age=DAY / 2)
    assert swept(tmp_path) == 1
    assert (files(old), files(new)) == (0, 1)


def test_the_end_of_a_living_stream_stays_however_old(tmp_path: Path) -> None:
    folder = stream(tmp_path, "v/i-1", segments=3, age=9 * DAY)
    swept(tmp_path, folder, most_bytes=0)
    assert [path.name for path in folder.glob("*.log")] == [names.segment_name(StreamReader(folder).start)]
    assert StreamReader(folder).start > 0


def test_the_oldest_go_first_when_it_is_too_much(tmp_path: Path) -> None:
    ended = stream(tmp_path, "v/i-1", segments=3, age=300)
    living = stream(tmp_path, "v/i-2", segments=3, age=200)
    newest = stream(tmp_path, "v/i-3", segments=1, age=100)
    assert swept(tmp_path, living, most_bytes=4_200) == 3
    assert (files(ended), files(living), files(newest)) == (0, 3, 1)
    assert swept(tmp_path, living, most_bytes=2_100) == 2
    assert (files(living), files(newest)) == (1, 1)


def test_folders_that_have_been_empty_for_long_are_removed(tmp_path: Path) -> None:
    gone = stream(tmp_path, "v/i-1", endpoint="gone")
    stays = stream(tmp_path, "v/i-1", endpoint="stays")
    silent = place_of(tmp_path, "111111111111", "eu-north-1", "silent", "v/i-1")
    StreamWriter(silent, Bounds(1_000, 1), int(NOW * 1000))
    for path in (*gone.glob("*.log"), *silent.folder.glob("*.log")):
        path.unlink()
    for folder in (gone, gone.parent, gone.parent.parent, silent.folder, silent.folder.parent, silent.group):
        os.utime(folder, (NOW - 2 * DAY, NOW - 2 * DAY))
    swept(tmp_path, silent.folder)
    assert not gone.exists()
    assert stays.exists()
    assert silent.folder.exists(), "it is written to"


def test_what_a_killed_agent_left_open_is_ended(tmp_path: Path) -> None:
    left = place_of(tmp_path, "111111111111", "eu-north-1", "wine", "v/i-1")
    mine = place_of(tmp_path, "111111111111", "eu-north-1", "wine", "v/i-2")
    for place in (left, mine):
        StreamWriter(place, Bounds(1_000, 1), 0).write(b"half a li", 0)
    finish_leftovers(tmp_path, lambda: frozenset([mine.folder]))
    assert StreamReader(left.folder).is_finished()
    assert not StreamReader(mine.folder).is_finished()


@pytest.mark.parametrize("name", ["..", "a/../b", ".hidden", "", "a//b", "x" * 300, "a/b\x00"])
def test_names_never_lead_out_of_their_folders(tmp_path: Path, name: str) -> None:
    stream(tmp_path, "v/i-1")
    groups = names.groups(tmp_path, "111111111111", "eu-north-1")
    assert names.find_stream(groups["/aws/sagemaker/Endpoints/wine"], name) is None
    assert names.find_group(tmp_path, "111111111111", "eu-north-1", names.ENDPOINTS + name) is None
    assert names.find_group(tmp_path, "111111111111", name, "/aws/sagemaker/Endpoints/wine") is None
