"""Which neighbour a request is for: the one that it is signed for; S3 unless it says something else."""

from collections.abc import Awaitable, Callable, Mapping

from moorage.aws.query import FORM
from moorage.aws.sigv4 import HttpRequest, header_value, named_service
from moorage.neighbours.web import Receive, Scope, Send, wire_request

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """The ASGI application of the neighbours process: by the service's signing name, who answers."""

    def __init__(self, apps: Mapping[str, App]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have one request answered."""
        service = service_of(wire_request(scope))
        app = self._apps.get(service, self._apps["s3"])
        await app(scope, receive, send)


def service_of(wire: HttpRequest) -> str:
    """Give the service that a request is signed for; one that is not signed at all is for STS when it is a form."""
    authorization = header_value(wire, "authorization")
    service = named_service(authorization, wire.query)
    if service is not None or authorization is not None:
        return service or "s3"
    form = (header_value(wire, "content-type") or "").startswith(FORM)
    return "sts" if form and wire.method == "POST" and wire.path == "/" else "s3"
