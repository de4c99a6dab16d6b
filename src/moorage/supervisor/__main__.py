"""``python -m moorage.supervisor``: what ``moorage up`` becomes.

The variable ``_MOORAGE_START`` is JSON: ``settings`` (``Settings.to_message``), ``ephemeral``, and ``end_with_parent``
for a server that must not outlive the command that started it.
"""

import ctypes
import json
import os
import signal
import sys

from moorage.base.settings import Settings
from moorage.engine.probe import EngineUnavailable
from moorage.supervisor.roles import make_roles, tier
from moorage.supervisor.up import CannotStart, up

_PR_SET_PDEATHSIG = 1


def main(message: str) -> None:
    """Run a server until a signal ends it."""
    start = json.loads(message)
    if start["end_with_parent"]:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    settings = Settings.from_message(start["settings"])
    try:
        if settings.engine != "auto":
            tier(settings)  # asked for by name: better no start than another engine
        up(settings, make_roles, tier, ephemeral=start["ephemeral"])
    except (CannotStart, EngineUnavailable) as fault:
        sys.stderr.write(f"Error: {fault}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(os.environ.pop("_MOORAGE_START"))
