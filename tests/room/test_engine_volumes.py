"""Volumes of instances on this machine: their size, their encryption, and that nothing of them is left."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.engines import OneKey

from moorage.engine import mounts
from moorage.engine.volumes import (
    GIB,
    VolumeRefused,
    Volumes,
    Wanted,
    unmount_volumes,
    volumes_folder,
    why_not_bounded,
    why_not_encrypted,
)

NO_DISK = why_not_bounded()
NO_SECRET = why_not_encrypted()
needs_disk = pytest.mark.skipif(bool(NO_DISK), reason=NO_DISK)
needs_encryption = pytest.mark.skipif(bool(NO_SECRET), reason=NO_SECRET)

PLAINTEXT = b"a weight that nobody may know " * 1000


@pytest.fixture
def ring() -> OneKey:
    return OneKey()


@pytest.fixture
def volumes(tmp_path: Path, ring: OneKey) -> Iterator[Volumes]:
    made = Volumes(volumes_folder(tmp_path), ring)
    made.prepare()
    yield made
    made.close()


def loop_devices(folder: Path) -> list[str]:
    """Find the loop devices of files below a folder."""
    files = (path.read_text(encoding="utf-8").strip() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [file for file in files if Path(file).is_relative_to(folder)]


@needs_disk
def test_volume_has_the_size_that_was_promised_and_takes_room_only_when_filled(
    volumes: Volumes, tmp_path: Path
) -> None:
    volume = volumes.make("i-1", Wanted(512 * GIB))
    room = os.statvfs(volume.temporary)
    assert 0.98 * 512 * GIB < room.f_bavail * room.f_frsize <= 512 * GIB
    image = tmp_path / "volumes" / "i-1" / "image"
    assert image.stat().st_size == 512 * GIB
    assert image.stat().st_blocks * 512 < 32 * 2**20


@needs_disk
def test_full_volume_says_so_and_leaves_the_others_alone(volumes: Volumes) -> None:
    full, other = volumes.make("i-1", Wanted(2**24)), volumes.make("i-2", Wanted(2**24))
    with pytest.raises(OSError, match="No space left") as fault:
        (full.temporary / "x").write_bytes(bytes(2**25))
    assert fault.value.errno == errno.ENOSPC
    assert (other.temporary / "x").write_bytes(bytes(2**20)) == 2**20


@needs_disk
def test_what_is_deleted_gives_its_room_back_to_the_machine(volumes: Volumes, tmp_path: Path) -> None:
    volume = volumes.make("i-1", Wanted(GIB))
    image = tmp_path / "volumes" / "i-1" / "image"
    (volume.temporary / "x").write_bytes(os.urandom(2**20) * 64)
    os.sync()
    filled = image.stat().st_blocks * 512
    (volume.temporary / "x").unlink()
    os.sync()
    assert filled > 64 * 2**20
    assert image.stat().st_blocks * 512 < 16 * 2**20


@needs_encryption
def test_image_of_an_encrypted_volume_has_no_plaintext(volumes: Volumes, tmp_path: Path) -> None:
    plain, secret = volumes.make("i-1", Wanted(2**26)), volumes.make("i-2", Wanted(2**26, "alias/mine"))
    for volume in (plain, secret):
        (volume.temporary / "weights-of-the-model").write_bytes(PLAINTEXT)
    os.sync()
    images = [(tmp_path / "volumes" / name / "image").read_bytes() for name in ("i-1", "i-2")]
    assert [PLAINTEXT in image for image in images] == [True, False]
    assert [b"weights-of-the-model" in image for image in images] == [True, False]


@needs_encryption
def test_key_is_kept_sealed_only_and_the_file_goes_with_the_volume(
    volumes: Volumes, ring: OneKey, tmp_path: Path
) -> None:
    volume = volumes.make("i-1", Wanted(2**26, "alias/mine"))
    place = tmp_path / "volumes" / "i-1"
    (volume.temporary / "x").write_bytes(PLAINTEXT)
    kept = [path.read_bytes() for path in place.iterdir() if path.is_file()]
    assert ring.made[0].sealed in kept
    assert not any(ring.made[0].plaintext in content for content in kept)
    volumes.remove("i-1")
    assert not place.exists()
    assert loop_devices(tmp_path) == []


@needs_encryption
def test_encrypted_volume_cannot_be_read_without_its_key(volumes: Volumes, ring: OneKey, tmp_path: Path) -> None:
    volume = volumes.make("i-1", Wanted(2**26, "alias/mine"))
    (volume.temporary / "weights").write_bytes(PLAINTEXT)
    volumes.close()
    (stolen := tmp_path / "stolen").mkdir()
    mounts.mount_image(tmp_path / "volumes" / "i-1" / "image", stolen, "ext4", 0, "")
    try:
        names = [path.name for path in (stolen / "data").iterdir()]
        assert len(names) == 3
        assert "tmp" not in names
        with pytest.raises(OSError, match="Required key not available"):
            (stolen / "data" / "more").write_bytes(b"x")
    finally:
        mounts.unmount(stolen)


@needs_encryption
def test_leftover_of_a_killed_agent_is_opened_with_the_key_ring(volumes: Volumes, ring: OneKey, tmp_path: Path) -> None:
    volume = volumes.make("i-1", Wanted(2**26, "alias/mine", b"a note"))
    (volume.temporary / "core").write_bytes(PLAINTEXT)
    # The next agent finds it mounted, as one that was killed leaves it.
    later = Volumes(volumes_folder(tmp_path), ring)
    later.prepare()
    assert loop_devices(tmp_path) == []
    (left,) = later.names()
    assert left.startswith("i-1~")
    assert later.note(left) == b"a note"
    later.make("i-1", Wanted(2**26))  # the name is free for the instance that is started anew
    assert (later.open(left).temporary / "core").read_bytes() == PLAINTEXT
    later.remove(left)
    assert later.names() == ["i-1"]
    later.close()


@needs_encryption
def test_key_that_cannot_be_used_is_named_and_nothing_is_left(volumes: Volumes, tmp_path: Path) -> None:
    with pytest.raises(VolumeRefused, match="cannot be encrypted with the key alias/none: There is no key"):
        volumes.make("i-1", Wanted(2**26, "alias/none"))
    assert volumes.names() == []
    assert loop_devices(tmp_path) == []


@needs_encryption
def test_key_is_gone_from_the_kernel_with_the_volume_though_somebody_still_holds_it(
    volumes: Volumes, tmp_path: Path
) -> None:
    volume = volumes.make("i-1", Wanted(2**26, "alias/mine"))
    (volume.temporary / "x").write_bytes(PLAINTEXT)
    held = os.open(volume.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        volumes.remove("i-1")
        with pytest.raises(OSError, match=r"not available|not permitted|Input/output error"):
            os.open("tmp/x", os.O_RDONLY, dir_fd=held)
    finally:
        os.close(held)
    assert loop_devices(tmp_path) == []


@needs_disk
def test_volume_of_a_full_machine_fails_with_the_reason_and_leaves_nothing(tmp_path: Path, ring: OneKey) -> None:
    small = Volumes(tmp_path / "small", ring)
    (tmp_path / "small").mkdir()
    mounts.mount(Path("none"), tmp_path / "small", "tmpfs", 0, "size=64k")
    try:
        with pytest.raises(OSError, match=r"No space left|could not"):
            small.make("i-1", Wanted(GIB))
        assert small.names() == []
    finally:
        mounts.unmount_below(tmp_path / "small")


@needs_disk
def test_mounts_of_a_killed_installation_are_taken_off(volumes: Volumes, tmp_path: Path) -> None:
    volumes.make("i 1", Wanted(2**24))
    assert len(mounts.mounted_below(tmp_path)) == 1
    unmount_volumes(tmp_path)
    assert mounts.mounted_below(tmp_path) == []
    assert loop_devices(tmp_path) == []


@needs_disk
def test_many_volumes_are_made_at_once(volumes: Volumes, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom moorage.engine.volumes import Volumes, Wanted\n"
        "volumes = Volumes(Path(sys.argv[1]), None)\n"
        "for number in range(5): volumes.make(f'{sys.argv[2]}-{number}', Wanted(2**24))\n"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", code, str(volumes_folder(tmp_path)), str(number)])
        for number in range(4)
    ]
    assert [maker.wait(60) for maker in makers] == [0] * 4
    assert len(set(loop_devices(tmp_path))) == 20


def test_volume_without_a_size_is_a_folder_that_anybody_can_have(volumes: Volumes) -> None:
    volume = volumes.make("i-1", Wanted(None))
    assert sorted(path.name for path in volume.writable()) == ["model", "tmp"]
    volumes.remove("i-1")
    assert volumes.names() == []


def test_ordinary_user_hears_why_there_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not_bounded() == why_not_encrypted() == "only root can mount a file system that lies in a file"


def test_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert why_not_bounded() == "mkfs.ext4 is not installed (package e2fsprogs)"
