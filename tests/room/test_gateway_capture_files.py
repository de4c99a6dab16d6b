"""The open files of captured data: which record goes where, and when a file is closed; time is passed in."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.capture import CAPTURE, captured_endpoint, payload
from tests.support.objects import ring_in

from moorage.base.ids import SystemIds
from moorage.base.settings import Limits
from moorage.gateway.capture import files as capture_files
from moorage.gateway.capture.files import PAUSE_SECONDS, Captured, CaptureFiles, Lines
from moorage.gateway.capture.spool import Spool, Target, read_finished
from moorage.kms.records import Home
from moorage.routing.snapshot import Capture, Endpoint

EP = captured_endpoint()


@dataclass
class Room:
    """Files in a folder, and those that are finished."""

    folder: Path
    limits: Limits = field(default_factory=Limits)
    finished: list[tuple[Path, Target]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder, SystemIds(), self.limits.capture_spool_bytes, ring_in(self.folder.parent))
        self.files = CaptureFiles(self.spool, SystemIds(), self.limits, lambda *file: self.finished.append(file))

    def add(self, now: float, endpoint: Endpoint = EP, variant: str = "v1", body: bytes = b"1") -> None:
        capture = endpoint.capture
        assert capture is not None
        sides = (payload(body), payload(b"0.5"))
        captured = Captured(endpoint, capture, variant, 1_700_000_000.25, *sides, None, None, len(body) + 3)
        self.files.add(captured, now, lambda _: None)

    def lines(self) -> list[list[str]]:
        """Give the inputs of the records of each finished file."""
        found = []
        for path, _ in self.finished:
            whole = read_finished(path)
            body = b"" if whole is None else path.read_bytes()[whole.start : whole.end]
            found.append([json.loads(line)["captureData"]["endpointInput"]["data"] for line in body.splitlines()])
        return found


def test_a_file_is_closed_when_it_is_old(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.add(100.0)
    room.add(159.0)
    room.files.flush(159.9)
    assert room.finished == []
    room.files.flush(160.0)
    assert room.lines() == [["1", "1"]]


def test_a_file_is_closed_when_it_has_many_records(tmp_path: Path) -> None:
    room = Room(tmp_path, Limits(capture_file_records=3))
    for _ in range(7):
        room.add(0.0)
    assert room.lines() == [["1"] * 3, ["1"] * 3]


def test_lines_that_are_too_many_for_a_file_go_into_several(tmp_path: Path) -> None:
    room = Room(tmp_path, Limits(capture_file_records=3))
    room.add(0.0, body=b"0")
    line = '{"captureData":{"endpointInput":{"data":"%d"}}}\n'
    lines = [(line % number).encode() for number in range(1, 8)]
    room.files.add(Lines(EP, CAPTURE, "v1", 1_700_000_000.0, lines, 7_000), 0.0, lambda _: None)
    assert room.lines() == [["0", "1", "2"], ["3", "4", "5"]]
    room.files.close(0.0)
    assert (room.lines()[2], room.files.counts.recorded) == (["6", "7"], 8)


def test_a_file_is_closed_when_it_is_large(tmp_path: Path) -> None:
    room = Room(tmp_path, Limits(capture_file_bytes=100_000))
    for _ in range(5):
        room.add(0.0, body=b"x" * 40_000)
    assert list(map(len, room.lines())) == [3]


def test_each_variant_has_a_file_under_its_own_key(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.add(0.0, variant="v1")
    room.add(0.0, variant="Shadow")
    room.files.close(0.0)
    keys = [target.key for _, target in room.finished]
    assert [key.rpartition("-")[0].rpartition("/")[0] for key in keys] == [
        "data/ep/v1/2023/11/14/22",
        "data/ep/Shadow/2023/11/14/22",
    ]
    assert all(key.rpartition("/")[2].startswith("13-20-250-") for key in keys)
    assert {(target.account, target.bucket) for _, target in room.finished} == {(EP.account, "captures")}


def test_files_of_what_has_left_the_snapshot_are_closed(tmp_path: Path) -> None:
    room = Room(tmp_path)
    other = captured_endpoint("other")
    changed = replace(CAPTURE, percentage=50.0)
    room.add(0.0)
    room.add(0.0, endpoint=other, body=b"2")
    room.files.keep_only({(EP.arn, changed), (other.arn, CAPTURE)}, 1.0)
    assert room.lines() == [["1"]]
    room.files.keep_only(set(), 1.0)
    assert room.lines() == [["1"], ["2"]]


def test_what_does_not_fit_into_the_spool_is_dropped_and_counted(tmp_path: Path) -> None:
    room = Room(tmp_path, Limits(capture_spool_bytes=20_000))
    for _ in range(10):
        room.add(0.0, body=b"x" * 4_000)
    counts = room.files.counts
    assert counts.recorded + counts.dropped_spool_full == 10
    assert 1 <= counts.recorded <= 4
    assert room.spool.used_bytes <= 20_000 + 400


@pytest.mark.parametrize("destination", ["https://bucket/x", "s3://", "bucket"])
def test_a_destination_that_is_none_is_counted(tmp_path: Path, destination: str) -> None:
    room = Room(tmp_path)
    room.add(0.0, endpoint=captured_endpoint(capture=Capture(100.0, destination, inputs=True, outputs=True)))
    assert (room.files.counts.dropped_destination, room.finished) == (1, [])


def test_a_disk_that_refuses_is_left_alone_for_a_moment(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    room = Room(tmp_path / "taken")
    for now in (0.0, 0.5, PAUSE_SECONDS + 0.1):
        room.add(now)
    assert room.files.counts.dropped_disk == 3
    (tmp_path / "taken").unlink()
    room.add(2 * PAUSE_SECONDS)
    assert room.files.counts.recorded == 0
    room.add(3 * PAUSE_SECONDS)
    assert room.files.counts.recorded == 1


def test_a_file_that_breaks_gives_what_is_whole_of_it(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.add(0.0)
    room.files.flush(0.0)
    room.add(0.0, body=b"2")
    (opened,) = room.files._open.values()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, opened.file._descriptor)
    os.close(full)
    room.files.flush(1.0)
    assert (room.files.counts.recorded, room.files.counts.dropped_disk, room.lines()) == (1, 1, [["1"]])


def test_the_oldest_of_too_many_open_files_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_files, "MOST_OPEN", 2)
    room = Room(tmp_path)
    for now in range(3):
        room.add(float(now), endpoint=captured_endpoint(f"ep{now}"), body=str(now).encode())
    assert room.lines() == [["0"]]
    assert repr(room.files).startswith("<CaptureFiles: 2 open,")


def test_records_whose_key_cannot_be_used_are_dropped_and_hold_up_nobody(tmp_path: Path) -> None:
    room = Room(tmp_path / "spool")
    locked = replace(EP, capture=replace(CAPTURE, kms_key="00000000-0000-4000-8000-000000000000"))
    room.add(1.0, locked)
    room.add(1.0)
    room.files.close(2.0)
    assert (room.files.counts.dropped_destination, room.files.counts.recorded) == (1, 1)
    assert room.lines() == [["1"]]


def test_a_key_is_looked_up_where_the_endpoint_lives(tmp_path: Path) -> None:
    room, ring = Room(tmp_path / "spool"), ring_in(tmp_path)
    key = ring.create_key(Home(EP.account, EP.region))
    ring.create_alias("alias/captures", key)
    room.add(1.0, replace(EP, capture=replace(CAPTURE, kms_key="alias/captures")))
    room.files.close(2.0)
    ((_, target),) = room.finished
    assert target.kms_key == key.arn
