"""The key ring on the disk: what it seals only it opens, whoever uses it at the same time and whatever dies."""

import base64
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.base import files
from moorage.base.ids import CountingIds, SystemIds
from moorage.kms import cipher, keyfiles
from moorage.kms.faults import (
    AliasExists,
    InvalidCiphertext,
    KeyDisabled,
    KeyManagedByService,
    KeyNotPendingDeletion,
    KeyPendingDeletion,
    KeyUnusable,
    NoSuchAlias,
    NoSuchKey,
    RingUnusable,
    TooMany,
)
from moorage.kms.records import Home, KeyState
from moorage.kms.ring import DAY_SECONDS, MOST_ALIASES_OF_A_KEY, KeyRing

HOME = Home("111122223333", "eu-west-1")


class Moment:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep_until(self, deadline: float) -> None:
        raise AssertionError


@pytest.fixture
def clock() -> Moment:
    return Moment()


@pytest.fixture
def ring(tmp_path: Path, clock: Moment) -> KeyRing:
    return KeyRing(tmp_path / "kms", clock, CountingIds())


@pytest.fixture
def again(tmp_path: Path, clock: Moment) -> Callable[[], KeyRing]:
    """Make the ring that another process of the installation has."""
    return lambda: KeyRing(tmp_path / "kms", clock, SystemIds())


def test_another_process_opens_what_was_sealed(ring: KeyRing, again: Callable[[], KeyRing]) -> None:
    key = ring.create_key(HOME, description="of tests", tags={"team": "one"})
    sealed = ring.seal(key.key_id, b"secret", {"endpoint": "e"})
    assert again().unseal(sealed, {"endpoint": "e"}).plaintext == b"secret"
    assert again().unseal(sealed, {"endpoint": "e"}).key == key
    assert key.arn == f"arn:aws:kms:eu-west-1:111122223333:key/{key.key_id}"


def test_a_data_key_is_told_plain_and_sealed(ring: KeyRing) -> None:
    key = ring.create_key(HOME)
    made = ring.data_key(key.arn, {"a": "b"})
    assert len(made.plaintext) == 32
    assert ring.open(made.sealed, {"a": "b"}) == made.plaintext
    assert made.plaintext not in made.sealed
    assert repr(made.plaintext) not in repr(made)
    assert ring.data_key(key.arn).plaintext != made.plaintext


def test_another_context_or_a_changed_byte_opens_nothing(ring: KeyRing) -> None:
    key = ring.create_key(HOME)
    sealed = ring.seal(key.key_id, b"secret", {"a": "b"})
    with pytest.raises(InvalidCiphertext):
        ring.open(sealed)
    with pytest.raises(InvalidCiphertext):
        ring.open(sealed, {"a": "c"})
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0x80
        with pytest.raises((InvalidCiphertext, NoSuchKey)):
            ring.open(bytes(changed), {"a": "b"})
    with pytest.raises(InvalidCiphertext):
        ring.open(b"\x01short")


def test_a_ciphertext_cannot_be_given_to_another_key(ring: KeyRing) -> None:
    one, two = ring.create_key(HOME), ring.create_key(HOME)
    sealed = ring.seal(one.key_id, b"secret")
    moved = sealed[:1] + bytes.fromhex(two.key_id.replace("-", "")) + sealed[17:]
    with pytest.raises(InvalidCiphertext):
        ring.open(moved)


def test_nothing_of_a_key_lies_on_the_disk_unwrapped(ring: KeyRing, tmp_path: Path) -> None:
    key = ring.create_key(HOME)
    material = ring._material(key)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert material not in written
    assert base64.b64encode(material) not in written
    for path in tmp_path.glob("kms/**/*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "kms").stat().st_mode) == 0o700


def test_the_wrapping_key_can_lie_elsewhere_and_nothing_opens_without_it(tmp_path: Path, clock: Moment) -> None:
    elsewhere = tmp_path / "stick" / "wrapping"
    elsewhere.parent.mkdir()
    ring = KeyRing(tmp_path / "kms", clock, SystemIds(), elsewhere)
    key = ring.create_key(HOME)
    sealed = ring.seal(key.key_id, b"secret")
    assert not (tmp_path / "kms" / "master.key").exists()
    taken = elsewhere.read_bytes()
    elsewhere.unlink()
    without = KeyRing(tmp_path / "kms", clock, SystemIds(), elsewhere)
    for act in (lambda: without.open(sealed), lambda: without.create_key(HOME)):
        with pytest.raises(RingUnusable, match="put it back"):
            act()
    elsewhere.write_bytes(base64.b64encode(bytes(32)))
    with pytest.raises(RingUnusable, match="not the one"):
        KeyRing(tmp_path / "kms", clock, SystemIds(), elsewhere).open(sealed)
    elsewhere.write_bytes(b"too short")
    with pytest.raises(RingUnusable):
        KeyRing(tmp_path / "kms", clock, SystemIds(), elsewhere).open(sealed)
    elsewhere.write_bytes(taken)
    assert KeyRing(tmp_path / "kms", clock, SystemIds(), elsewhere).open(sealed) == b"secret"


def test_a_disabled_key_does_nothing_until_it_is_enabled(ring: KeyRing, again: Callable[[], KeyRing]) -> None:
    key = ring.create_key(HOME)
    sealed = ring.seal(key.key_id, b"secret")
    other = again()
    assert other.open(sealed) == b"secret"
    ring.disable(key)
    for act in (lambda: other.open(sealed), lambda: other.data_key(key.key_id), lambda: other.seal(key.arn, b"x")):
        with pytest.raises(KeyDisabled, match="is disabled"):
            act()
    ring.enable(key)
    assert other.open(sealed) == b"secret"


def test_a_deleted_key_is_gone_after_its_days_and_can_be_kept_before(
    ring: KeyRing, clock: Moment, tmp_path: Path
) -> None:
    key = ring.create_key(HOME)
    sealed = ring.seal(key.key_id, b"secret")
    alias = ring.create_alias("alias/models", key)
    with pytest.raises(KeyNotPendingDeletion):
        ring.cancel_deletion(key)
    assert ring.schedule_deletion(key, 7 * DAY_SECONDS).deletion_at == clock.at + 7 * DAY_SECONDS
    with pytest.raises(KeyPendingDeletion):
        ring.open(sealed)
    with pytest.raises(KeyPendingDeletion):
        ring.enable(key)
    assert ring.cancel_deletion(key).state is KeyState.DISABLED
    ring.enable(key)
    assert ring.open(sealed) == b"secret"
    ring.schedule_deletion(key, 7 * DAY_SECONDS)
    clock.at += 7 * DAY_SECONDS
    with pytest.raises(NoSuchKey):
        ring.cancel_deletion(key)
    assert ring.keys(HOME) == []
    with pytest.raises(NoSuchKey):
        ring.open(sealed)
    assert list((tmp_path / "kms" / "keys").iterdir()) == []
    with pytest.raises(NoSuchAlias):
        ring.alias(alias.name, HOME)


def test_aliases_are_names_of_an_account_and_region(ring: KeyRing) -> None:
    one, two = ring.create_key(HOME), ring.create_key(HOME)
    abroad = ring.create_key(Home(HOME.account, "us-east-1"))
    alias = ring.create_alias("alias/models", one)
    ring.create_alias("alias/models", abroad)
    assert ring.find("alias/models", HOME) == one
    assert ring.find("alias/models", abroad.home) == abroad
    assert ring.find(alias.arn) == one
    assert ring.find(one.arn) == ring.find(one.key_id) == one
    with pytest.raises(NoSuchKey, match="ARN"):
        ring.find("alias/models")
    with pytest.raises(NoSuchKey):
        ring.find(one.arn.replace("eu-west-1", "us-east-1"))
    with pytest.raises(AliasExists):
        ring.create_alias("alias/models", two)
    ring.update_alias("alias/models", two)
    assert ring.find(alias.arn) == two
    ring.delete_alias("alias/models", HOME)
    assert ring.aliases(HOME) == []
    assert [kept.arn for kept in ring.aliases(abroad.home)] == [abroad.home.arn("alias/models")]
    with pytest.raises(NoSuchAlias):
        ring.update_alias("alias/models", one)
    with pytest.raises(NoSuchAlias):
        ring.delete_alias("alias/models", HOME)


def test_a_key_has_a_bounded_number_of_aliases(ring: KeyRing) -> None:
    key = ring.create_key(HOME)
    for number in range(MOST_ALIASES_OF_A_KEY):
        ring.create_alias(f"alias/{number}", key)
    with pytest.raises(TooMany):
        ring.create_alias("alias/more", key)


def test_keys_of_services_are_made_once_and_cannot_be_changed(ring: KeyRing, again: Callable[[], KeyRing]) -> None:
    made = ring.find("alias/aws/s3", HOME)
    assert again().find(HOME.arn("alias/aws/s3")) == made
    assert ring.find("alias/aws/sagemaker", HOME) != made
    for change in (ring.disable, ring.enable, lambda key: ring.schedule_deletion(key, 7 * DAY_SECONDS)):
        with pytest.raises(KeyManagedByService):
            change(made)
    with pytest.raises(NoSuchAlias):
        ring.find("alias/aws/nobody", HOME)


def test_two_processes_make_keys_at_once_and_all_of_them_stay(tmp_path: Path, again: Callable[[], KeyRing]) -> None:
    program = (
        "import sys; from pathlib import Path; from moorage.base.clock import SystemClock\n"
        "from moorage.base.ids import SystemIds\n"
        "from moorage.kms.ring import KeyRing; from moorage.kms.records import Home\n"
        "ring = KeyRing(Path(sys.argv[1]), SystemClock(), SystemIds()); home = Home('111122223333', 'eu-west-1')\n"
        "for number in range(10):\n"
        "    key = ring.create_key(home); ring.create_alias(f'alias/{sys.argv[2]}-{number}', key)\n"
        "    print(key.key_id, ring.seal(key.key_id, b'secret').hex(), ring.find('alias/aws/s3', home).key_id)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "kms"), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    lines = [line.split() for process in started for line in process.communicate(timeout=60)[0].splitlines()]
    ring = again()
    assert len(lines) == 20
    assert {ring.unseal(bytes.fromhex(sealed)).plaintext for _, sealed, _ in lines} == {b"secret"}
    assert len({service_key for _, _, service_key in lines}) == 1
    assert {key.key_id for key in ring.keys(HOME)} == {key_id for key_id, _, _ in lines} | {lines[0][2]}
    assert len(ring.aliases(HOME)) == 21


def use(ring: KeyRing, sealed: list[bytes]) -> None:
    """Change much, and seal with each key."""
    for _ in range(3):
        key = ring.create_key(HOME)
        sealed.append(ring.seal(key.key_id, b"secret"))
        ring.create_alias(f"alias/{key.key_id}", key)
        ring.disable(key)
        ring.enable(key)


class Killed(BaseException):
    """The process ends here."""


def test_a_crash_at_any_write_leaves_a_ring_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0
    die_at = 0

    def write(path: Path, content: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == die_at:
            path.with_name(f".{path.name}.left").write_bytes(content[:5])  # what a kill between the steps leaves
            raise Killed
        files.write_whole(path, content)

    monkeypatch.setattr(keyfiles, "write_whole", write)
    for die_at in range(1, 8):
        folder, writes = tmp_path / str(die_at), 0
        ring = KeyRing(folder, Moment(), CountingIds())
        sealed: list[bytes] = []
        with pytest.raises(Killed):
            use(ring, sealed)
        after = KeyRing(folder, Moment(), SystemIds())
        writes = 1_000
        for key in after.keys(HOME):
            after.enable(key)
        assert [after.open(one) for one in sealed] == [b"secret"] * len(sealed)
        made = after.create_key(HOME)
        assert after.open(after.seal(made.key_id, b"new")) == b"new"
        assert list(folder.glob("**/.*")) == []


def test_without_the_library_it_says_what_to_install(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ring.create_key(HOME)
    cipher._aead.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(KeyUnusable, match=r"pip install 'moorage\[kms\]'"):
        ring.data_key(key.key_id)
    monkeypatch.undo()
    cipher._aead.cache_clear()
    assert len(ring.data_key(key.key_id).plaintext) == 32
