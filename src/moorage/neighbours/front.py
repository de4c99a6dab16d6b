"""Which neighbour a request is for: the one that it is signed for; S3 unless it says something else."""

from collections.abc import Awaitable, Callable

from moorage.aws.query import FORM
from moorage.aws.sigv4 import HttpRequest, header_value, named_service
from moorage.neighbours.web import Receive, Scope, Send, wire_request

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """The ASGI application of the neighbours process."""

    def __init__(self, s3: App, sts: App) -> None:
        self._s3 = s3
        self._sts = sts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have one request answered."""
        app = self._sts if is_for_sts(wire_request(scope)) else self._s3
        await app(scope, receive, send)


def is_for_sts(wire: HttpRequest) -> bool:
    """Say whether a request is for STS; one that is not signed at all is when it is a form sent to ``/``."""
    authorization = header_value(wire, "authorization")
    service = named_service(authorization, wire.query)
    if service is not None or authorization is not None:
        return service == "sts"
    form = (header_value(wire, "content-type") or "").startswith(FORM)
    return form and wire.method == "POST" and wire.path == "/"
