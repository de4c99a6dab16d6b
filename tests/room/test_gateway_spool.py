"""The spool: files of dead gateways are taken over, torn lines are not delivered, the bound is that of all together."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.objects import ring_in

from moorage.base.ids import SystemIds
from moorage.gateway.capture.spool import BLOCK_BYTES, WRITE_BYTES, Finished, Spool, Target, read_finished
from moorage.kms.faults import InvalidCiphertext
from moorage.kms.records import Home

TARGET = Target("1", "b", "k/ä")


def breathe(_: int) -> None:
    pass


def make(folder: Path, limit: int = 10**9) -> Spool:
    return Spool(folder / "spool", SystemIds(), limit, ring_in(folder))


def write(spool: Spool, *lines: bytes) -> Path:
    file = spool.create(TARGET, 0.0)
    for line in lines:
        file.append([line], breathe)
    file.flush()
    file.close()
    return file.path


def content(found: Finished | None) -> bytes | None:
    return None if found is None else found.path.read_bytes()[found.start : found.end]


def test_what_was_flushed_is_delivered(tmp_path: Path) -> None:
    found = read_finished(write(make(tmp_path), b"one\n", b"two\n"))
    assert found is not None
    assert (found.target, content(found)) == (TARGET, b"one\ntwo\n")


@pytest.mark.parametrize("torn", [b"t", b"t" * (3 * WRITE_BYTES)])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    assert content(read_finished(write(make(tmp_path), b"one\n", torn))) == b"one\n"


@pytest.mark.parametrize("kept", range(len(b'{"account":"1","bucket":"b","key":"k/\xc3\xa4"}\nnot yet a line') + 1))
def test_a_file_without_a_whole_record_is_nothing(tmp_path: Path, kept: int) -> None:
    path = write(make(tmp_path), b"not yet a line")
    path.write_bytes(path.read_bytes()[:kept])
    assert read_finished(path) is None


def test_a_large_record_is_written_whole_in_pieces(tmp_path: Path) -> None:
    seen: list[int] = []
    spool = make(tmp_path)
    file = spool.create(TARGET, 0.0)
    file.append([*[b"x" * 10_000] * 50, b"\n"], seen.append)
    file.flush()
    file.close()
    assert content(read_finished(file.path)) == b"x" * 500_000 + b"\n"
    assert seen == [10_000] * 50 + [1]


def test_files_of_a_living_gateway_are_its_own(tmp_path: Path) -> None:
    living, other = make(tmp_path), make(tmp_path)
    write(living, b"one\n")
    assert other.adopt() == []
    living.close()


def test_files_of_a_dead_gateway_are_taken_over_once(tmp_path: Path) -> None:
    dead, first, second = make(tmp_path), make(tmp_path), make(tmp_path)
    path = write(dead, b"one\n")
    dead.close()
    adopted = first.adopt()
    assert [one.name for one in adopted] == [path.name]
    assert (second.adopt(), content(read_finished(adopted[0]))) == ([], b"one\n")
    assert not path.parent.exists()


def test_an_empty_folder_goes_with_its_gateway(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.remove(write(spool, b"one\n"))
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_the_bound_is_that_of_all_gateways_together(tmp_path: Path) -> None:
    limit = 2 * BLOCK_BYTES + 3_000
    one, other = make(tmp_path, limit), make(tmp_path, limit)
    write(other, b"x" * 1_999 + b"\n")
    assert one.has_room(limit)
    one.measure()
    assert (one.has_room(BLOCK_BYTES), one.has_room(BLOCK_BYTES + 1_000)) == (True, False)
    one.remove(next((tmp_path / "spool").rglob("*.jsonl")))
    assert one.has_room(limit)
    assert repr(one) == f"<Spool: 0 of {limit} bytes>"


def sealed_file(tmp_path: Path, *lines: bytes) -> Path:
    key = ring_in(tmp_path).create_key(Home("1", "us-east-1"))
    file = make(tmp_path).create(replace(TARGET, region="us-east-1", kms_key=key.key_id), 0.0)
    for line in lines:
        file.append([line], breathe)
        file.flush()
    file.close()
    return file.path


def opened(tmp_path: Path, path: Path) -> bytes:
    found = read_finished(path)
    assert found is not None
    with path.open("rb") as file:
        return b"".join(make(tmp_path).content(found, file))


def test_what_has_a_key_does_not_lie_there_in_plain_text(tmp_path: Path) -> None:
    path = sealed_file(tmp_path, b"one secret\n", b"two ", b"secrets\n", b"torn")
    assert b"secret" not in path.read_bytes()
    assert opened(tmp_path, path) == b"one secret\ntwo secrets\n"


def test_a_writer_that_was_killed_leaves_what_was_whole(tmp_path: Path) -> None:
    whole = sealed_file(tmp_path, b"one\n", b"two\n").read_bytes()
    path = next((tmp_path / "spool").rglob("*.jsonl"))
    one = len(whole) - (4 + 4 + 16)
    header = whole.index(b"\n") + 1
    for length, kept in ((len(whole), b"one\ntwo\n"), (len(whole) - 1, b"one\n"), (one, b"one\n"), (one - 1, b"")):
        path.write_bytes(whole[:length])
        assert opened(tmp_path, path) == kept
    path.write_bytes(whole[: header + 7])
    assert opened(tmp_path, path) == b""
    path.write_bytes(whole[:header])
    assert read_finished(path) is None


def test_a_changed_piece_is_not_delivered(tmp_path: Path) -> None:
    path = sealed_file(tmp_path, b"one\n")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidCiphertext):
        opened(tmp_path, path)
