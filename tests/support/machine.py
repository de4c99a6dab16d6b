"""What this machine has for tests of engines."""

import pytest

from moorage.engine.machine import Machine
from moorage.engine.probe import probe

MACHINE: Machine = probe()

needs_sandbox = pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=f"no sandbox: {MACHINE.sandbox_fault}")
needs_root = pytest.mark.skipif(not MACHINE.as_root, reason="only root can give instances users of their own")
