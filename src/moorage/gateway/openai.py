"""Does one invocation of the OpenAI-compatible path: ``/endpoints/NAME/openai/v1/chat/completions``.

The body goes to the container's ``/invocations`` as it is and the container's answer comes back as it is: whole, or
passed on while it comes when it is ``text/event-stream``. Who may not call is told so in OpenAI's form, everything else
in the runtime's (data-plane.md section 3.4).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar
from urllib.parse import unquote

import orjson

from moorage.aws.errors import ClientFault, ServiceError
from moorage.aws.response import Response
from moorage.gateway import stages
from moorage.gateway.exchange import AnswerHead
from moorage.gateway.stages import SERVICE, SKEW_SECONDS, Invocation
from moorage.gateway.streaming import StreamHandling
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Keys, as_json_error
from moorage.iam.bearer import identify_bearer, token_of
from moorage.iam.context import make_context
from moorage.iam.evaluate import Access, permissions_of

_PATH = re.compile(
    r"/endpoints/(?P<EndpointName>[^/]+)(?:/inference-components/(?P<Component>[^/]+))?/openai(?P<rest>/.*|)"
)
_COMPLETIONS = "/v1/chat/completions"


def is_openai_path(path: str) -> bool:
    """Say whether a path (still percent-encoded) is one of OpenAI's API at an endpoint."""
    return _PATH.fullmatch(path) is not None


def find_endpoint_of_path(invocation: Invocation) -> None:
    """Which endpoint, and which component? It is an InvokeEndpoint in other clothes."""
    head = invocation.head
    found = _PATH.fullmatch(head.path)
    if found is None or found["rest"] != _COMPLETIONS or head.method != "POST":
        asked = f"{head.method} /openai{found['rest'] if found else ''}"
        message = f"Moorage does not have {asked[:128]!a}: of OpenAI's API it has POST /openai{_COMPLETIONS}."
        raise ClientFault("UnknownOperationException", message, status=404)
    invocation.chat = True
    invocation.operation = SERVICE.operations["InvokeEndpoint"]
    invocation.labels = {"EndpointName": unquote(found["EndpointName"])}
    if found["Component"] is not None:
        invocation.labels["InferenceComponentName"] = unquote(found["Component"])


def authenticate(invocation: Invocation) -> None:
    """Who calls? A bearer token says so, or a signature as everywhere else."""
    token = _token(invocation)
    if token is None:
        _require_some_identity(invocation)
        stages.authenticate(invocation)
        return
    keys = Keys(invocation.routing.keys, invocation.routing.token_secret)
    try:
        invocation.caller = identify_bearer(token, keys, now=invocation.now, skew_seconds=SKEW_SECONDS)
    except AuthenticationFailed as failure:
        raise as_json_error(failure, 401) from failure


def authorize_token(invocation: Invocation) -> None:
    """May the caller use bearer tokens? A signature needs no such permission."""
    if _token(invocation) is None:
        return
    caller = invocation.caller
    permissions = permissions_of(caller.credential)
    if permissions.unlimited:
        return
    context = make_context(caller, now=invocation.now, source_ip=invocation.source_ip, secure=invocation.secure)
    access = Access("sagemaker:CallWithBearerToken", "*", context)
    if (denial := permissions.refuse(access)) is not None:
        message = denial.text(caller.credential.user_arn, access)
        raise ClientFault("AccessDeniedException", message, status=403)


def find_endpoint(invocation: Invocation) -> None:
    """Find the endpoint; a token for another region than the endpoint's is told so."""
    caller, name = invocation.caller, invocation.members["EndpointName"]
    endpoints = invocation.routing.endpoints
    if (caller.account, caller.region, name) not in endpoints and _token(invocation) is not None:
        elsewhere = sorted(region for account, region, other in endpoints if (account, other) == (caller.account, name))
        if elsewhere:
            message = f"The bearer token is for the region {caller.region}; endpoint {name} is in {elsewhere[0]}."
            raise ClientFault("AccessDeniedException", message, status=403)
    stages.find_endpoint(invocation)


CHAT_ADMISSION: tuple[Callable[[Invocation], None], ...] = (
    find_endpoint_of_path,
    authenticate,
    authorize_token,
    stages.read_members,
    find_endpoint,
    stages.authorize,
    stages.refuse_what_is_not_built,
    stages.check_targets,
)


class ChatHandling(StreamHandling):
    """One chat completion."""

    ADMISSION: ClassVar[Sequence[Callable[[Invocation], None]]] = CHAT_ADMISSION

    _tail = b"\n\n"
    """The last bytes that were sent; at first as behind an event."""

    def _is_streamed(self, head: AnswerHead) -> bool:
        media_type = (head.field(b"content-type") or b"").partition(b";")[0]
        return media_type.strip().lower() == b"text/event-stream"

    def _headers(self, head: AnswerHead) -> list[tuple[bytes, bytes]]:
        return [(b"Content-Type", head.field(b"content-type") or b"text/event-stream"), (b"Cache-Control", b"no-cache")]

    def _encode(self, data: bytes) -> Iterable[bytes]:
        self._tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
        return (data,)

    def _encode_fault(self, fault: ServiceError) -> bytes | None:
        """Write an event that OpenAI's clients raise; inside of an event of the container nothing can be said."""
        if not self._tail.endswith((b"\n\n", b"\r\n\r\n")):
            return None
        code = str(fault.members.get("ErrorCode", fault.code))
        return b"data: %b\n\n" % _error(fault.message, "server_error", code)

    def _error_response(self, fault: ServiceError) -> Response:
        response = super()._error_response(fault)
        if fault.status not in {401, 403, 404}:
            return response
        more = (("WWW-Authenticate", "Bearer"),) if fault.status == 401 else ()
        body = _error(fault.message, "invalid_request_error", _code_of(fault))
        return Response(fault.status, (*response.headers, *more), body)


def _error(message: str, kind: str, code: str | None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _code_of(fault: ServiceError) -> str | None:
    if fault.status == 404:
        return None
    return "insufficient_permissions" if fault.code == "AccessDeniedException" else "invalid_api_key"


def _token(invocation: Invocation) -> str | None:
    return token_of(invocation.head.fields.get("authorization"))


def _require_some_identity(invocation: Invocation) -> None:
    """Refuse who says nothing of himself as OpenAI does, so that its clients say what is missing."""
    head = invocation.head
    if "authorization" not in head.fields and "X-Amz-Algorithm=" not in head.query:
        message = "You did not provide an API key: send Authorization: Bearer with a SageMaker API key, or sign."
        raise as_json_error(AuthenticationFailed(AuthFailure.MISSING, message), 401)
