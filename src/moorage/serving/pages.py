"""What is answered without the model: the health check, and whatever is not there (data-plane.md section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from .wire import Answer


@dataclass(frozen=True)
class Pages:
    """The answers of a container."""

    ping: Answer
    missing: Answer


HEALTHY = Answer(200, "application/json", b'{\n  "status": "Healthy"\n}\n')
"""How AWS's model servers answer a ping."""

FLASK_PAGES = Pages(Answer(200, "application/json", b""), Answer(404, "application/json", b"{}"))
"""Those of the containers that answer by Flask."""
