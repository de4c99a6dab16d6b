"""Object stores for tests."""

from pathlib import Path

from moorage.base.clock import Clock, SystemClock
from moorage.base.ids import SystemIds
from moorage.kms.ring import KeyRing
from moorage.objects.folder import FolderStore


def ring_in(data_dir: Path, clock: Clock | None = None) -> KeyRing:
    """Open the key ring of a data folder."""
    return KeyRing(data_dir / "kms", clock or SystemClock(), SystemIds())


def store_in(data_dir: Path, clock: Clock | None = None) -> FolderStore:
    """Open the object store of a data folder, with the key ring beside it."""
    return FolderStore(data_dir / "objects", clock or SystemClock(), SystemIds(), ring_in(data_dir, clock))


def kept_bytes(data_dir: Path) -> bytes:
    """Give all that the store has on the disk, index included."""
    return b"".join(path.read_bytes() for path in (data_dir / "objects").rglob("*") if path.is_file())
