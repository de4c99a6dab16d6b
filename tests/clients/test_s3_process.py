"""The neighbours process as its family sees it: kills, restarts, signals, its Unix socket."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.neighbours import ALICE, BOB, FakeControl, Neighbours, neighbours_in
from tests.support.product import wait_until

from moorage.routing.snapshot import Snapshot

MIB = 2**20

_RUN = """
import sys
from pathlib import Path
from moorage.base.settings import Settings
from moorage.neighbours.process import run

run(Settings(data_dir=Path(sys.argv[1]), run_dir=Path(sys.argv[2])))
"""


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path) as running:
        yield running


def half_a_put(neighbours: Neighbours) -> socket.socket:
    """Send half of an object through a presigned URL and keep the connection open."""
    url = neighbours.s3().generate_presigned_url("put_object", {"Bucket": "b-1", "Key": "k"})
    connection = socket.create_connection(("127.0.0.1", neighbours.port), timeout=10)
    head = f"PUT {url.partition(str(neighbours.port))[2]} HTTP/1.1\r\nHost: x\r\nContent-Length: {8 * MIB}\r\n\r\n"
    connection.sendall(head.encode() + b"n" * 4 * MIB)
    return connection


def unfinished(neighbours: Neighbours) -> list[Path]:
    folder = neighbours.data_dir / "objects" / "unfinished"
    return [path for path in folder.iterdir() if path.stat().st_size]


def test_killed_in_the_middle_of_a_put_the_old_object_is_whole(neighbours: Neighbours) -> None:
    neighbours.s3().create_bucket(Bucket="b-1")
    neighbours.s3().put_object(Bucket="b-1", Key="k", Body=b"old" * MIB)
    with half_a_put(neighbours):
        wait_until(lambda: unfinished(neighbours), within=10, what="half an object is on the disk")
        neighbours.kill()
    neighbours.start()
    assert neighbours.s3().get_object(Bucket="b-1", Key="k")["Body"].read() == b"old" * MIB
    wait_until(lambda: not unfinished(neighbours), within=10, what="the half is swept")


def test_what_was_acknowledged_and_unfinished_uploads_survive_a_kill(neighbours: Neighbours) -> None:
    s3 = neighbours.s3()
    s3.create_bucket(Bucket="b-1")
    where = {"Bucket": "b-1", "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where, Metadata={"m": "1"})["UploadId"]}
    parts = [b"1" * 5 * MIB, b"2"]
    first = s3.upload_part(**upload, PartNumber=1, Body=parts[0])["ETag"]
    s3.put_object(Bucket="b-1", Key="other", Body=b"kept")
    neighbours.kill()
    neighbours.start()
    s3 = neighbours.s3()
    second = s3.upload_part(**upload, PartNumber=2, Body=parts[1])["ETag"]
    done = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
    made = s3.get_object(**where)
    assert (made["Body"].read(), made["Metadata"]) == (b"".join(parts), {"m": "1"})
    assert s3.get_object(Bucket="b-1", Key="other")["Body"].read() == b"kept"


def test_told_to_stop_it_finishes_what_it_does(neighbours: Neighbours) -> None:
    neighbours.s3().create_bucket(Bucket="b-1")
    with half_a_put(neighbours) as connection:
        wait_until(lambda: unfinished(neighbours), within=10, what="half an object is on the disk")
        neighbours.process.send_signal(signal.SIGTERM)
        connection.sendall(b"n" * 4 * MIB)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
    assert neighbours.process.wait(10) == 0


@pytest.mark.slow  # waits for the grace that requests in flight are given
def test_it_stops_with_a_client_that_sends_nothing(neighbours: Neighbours) -> None:
    neighbours.s3().create_bucket(Bucket="b-1")
    with half_a_put(neighbours):
        started = time.monotonic()
        assert neighbours.stop() == 0
    assert time.monotonic() - started < 15


def test_keys_on_the_disk_serve_while_the_control_plane_is_away(neighbours: Neighbours) -> None:
    neighbours.s3().create_bucket(Bucket="b-1")
    neighbours.kill()
    neighbours.control.close()
    snapshot = Snapshot(version=1, keys={ALICE.access_key_id: ALICE})
    (neighbours.data_dir / "snapshot.json").write_text(json.dumps(snapshot.to_message()))
    neighbours.start_unheard()
    assert [bucket["Name"] for bucket in neighbours.s3().list_buckets()["Buckets"]] == ["b-1"]


def test_a_new_control_plane_is_found_and_its_keys_are_taken(neighbours: Neighbours) -> None:
    path = neighbours.run_dir / "snapshots.sock"
    neighbours.control.close()
    path.unlink()
    neighbours.control = FakeControl(path, BOB)
    assert neighbours.control.applied.wait(10)
    assert neighbours.control.hello == {"op": "hello", "role": "neighbour"}
    assert neighbours.s3(BOB).list_buckets()["Buckets"] == []
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        neighbours.s3(ALICE).list_buckets()


def test_uploads_and_downloads_stay_in_bounded_memory(neighbours: Neighbours, tmp_path: Path) -> None:
    s3 = neighbours.s3()
    s3.create_bucket(Bucket="b-1")
    before = neighbours.resident_bytes()
    big = tmp_path / "big"
    with big.open("wb") as file:
        os.truncate(file.fileno(), 300 * MIB)
    with big.open("rb") as file:
        s3.put_object(Bucket="b-1", Key="big", Body=file)
    body = s3.get_object(Bucket="b-1", Key="big")["Body"]
    assert sum(len(chunk) for chunk in body.iter_chunks(MIB)) == 300 * MIB
    assert neighbours.resident_bytes("VmHWM") - before < 40 * MIB


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def test_it_listens_where_the_gateway_looks(tmp_path: Path) -> None:
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
    path = tmp_path / "run" / "neighbours.sock"
    path.write_text("left by a dead process")
    process: subprocess.Popen[Any] = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(tmp_path / "data"), str(tmp_path / "run")]
    )
    try:
        wait_until(path.is_socket, within=15, what="the socket is there")
        connection = UnixConnection(path)
        connection.request("GET", "/bucket/key")
        answer = connection.getresponse()
        assert (answer.status, b"<Code>AccessDenied</Code>" in answer.read()) == (403, True)
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
