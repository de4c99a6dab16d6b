"""What happens to an invocation before it is forwarded: THE list, in order (data-plane.md section 1.10).

Each stage looks at the invocation, adds one thing to it, or raises the ServiceError that the client is to see.
Nothing here waits; ``invocation`` does what was decided.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from moorage.aws import rest_json
from moorage.aws.errors import ClientFault, OurFault, ServiceError, validation_error
from moorage.aws.shapes import Operation, load_service
from moorage.aws.sigv4 import HttpRequest
from moorage.base.chance import Chance
from moorage.gateway import model_errors
from moorage.gateway.requests import RequestHead
from moorage.iam.authenticate import AuthenticationFailed, Caller, Keys, as_json_error, identify
from moorage.iam.context import make_context, resource_tags
from moorage.iam.evaluate import Access, permissions_of
from moorage.iam.patterns import Context
from moorage.routing.decide import Choice, Refusal, Routes, Routing, decide

SKEW_SECONDS = 300.0
SERVICE = load_service("sagemaker-runtime")


@dataclass(eq=False, slots=True)
class Invocation:
    """One call to a model. The stages fill in what follows ``now``."""

    head: RequestHead
    size: int
    """Bytes of the body."""
    payload_sha256: str
    source_ip: str
    """The client's address, as the socket says."""
    secure: bool
    """Whether the client speaks TLS to us."""
    request_id: str
    routing: Routing
    """The snapshot of this invocation, whatever comes later."""
    chance: Chance
    suspects: Mapping[str, float]
    now: float
    operation: Operation = field(init=False)
    labels: dict[str, str] = field(init=False)
    caller: Caller = field(init=False)
    members: dict[str, Any] = field(init=False)
    routes: Routes = field(init=False)
    choice: Choice = field(init=False)
    tried: set[str] = field(default_factory=set)
    """Instances that refused it."""


def find_operation(invocation: Invocation) -> None:
    """Which operation is it? An unknown path is 404."""
    head = invocation.head
    invocation.operation, invocation.labels = rest_json.find_operation(SERVICE, head.method, head.path)


def authenticate(invocation: Invocation) -> None:
    """Who calls? The signature covers the body as it came."""
    head = invocation.head
    request = HttpRequest(head.method, head.path, head.query, head.headers)
    try:
        caller = identify(
            request,
            invocation.payload_sha256,
            Keys(invocation.routing.keys, invocation.routing.token_secret),
            now=invocation.now,
            skew_seconds=SKEW_SECONDS,
        )
    except AuthenticationFailed as failure:
        raise as_json_error(failure, 403) from failure
    if caller.service != "sagemaker":
        raise ClientFault(
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'sagemaker'. ",
            status=403,
        )
    invocation.caller = caller


def refuse_other_operations(invocation: Invocation) -> None:
    """Only InvokeEndpoint is here so far."""
    name = invocation.operation.name
    if name != "InvokeEndpoint":
        raise validation_error(f"Moorage does not have the operation {name} yet.")


def read_members(invocation: Invocation) -> None:
    """Read the headers of the API, check the modelled constraints."""
    members = rest_json.read_headers(invocation.operation, invocation.head.headers)
    members.update(invocation.labels)
    _check(invocation.operation, tuple(members.items()))
    invocation.members = members


def find_endpoint(invocation: Invocation) -> None:
    """Find the endpoint of the caller's account and region; names are case-sensitive."""
    caller, name = invocation.caller, invocation.members["EndpointName"]
    routes = invocation.routing.endpoints.get((caller.account, caller.region, name))
    if routes is None:
        raise validation_error(f"Endpoint {name} of account {caller.account} not found.")
    invocation.routes = routes


def authorize(invocation: Invocation) -> None:
    """May the caller invoke it? Only a key with policies of its own is asked about."""
    caller, endpoint = invocation.caller, invocation.routes.endpoint
    permissions = permissions_of(caller.credential)
    if permissions.unlimited:
        return
    context = make_context(
        caller,
        now=invocation.now,
        source_ip=invocation.source_ip,
        secure=invocation.secure,
        more=_targets(invocation),
    )
    if permissions.look_at_resource_tags:
        key = (endpoint.account, endpoint.region, endpoint.name)
        context = {**context, **resource_tags(invocation.routing.tags.get(key, {}))}
    # Names in what policies are asked about are in lower case (data-plane.md section 1.6).
    arn = endpoint.arn.removesuffix(endpoint.name) + endpoint.name.lower()
    access = Access(f"sagemaker:{invocation.operation.name}", arn, context)
    if (denial := permissions.refuse(access)) is not None:
        message = denial.text(caller.credential.user_arn, access)
        raise ClientFault("AccessDeniedException", message, status=403)


def _targets(invocation: Invocation) -> Context:
    members = invocation.members
    return {
        f"sagemaker:{name.lower()}": (str(members[name]),)
        for name in ("TargetModel", "TargetContainerHostname")
        if name in members
    }


def refuse_what_is_not_built(invocation: Invocation) -> None:
    """Refuse members that would change what the invocation means and that nothing here looks at."""
    for member, make in _NOT_BUILT.items():
        if member in invocation.members:
            raise make(invocation.routes.endpoint.name, str(invocation.members[member]))


def choose(invocation: Invocation) -> None:
    """Choose variant and instance; called again for another attempt when an instance has refused."""
    again = bool(invocation.tried)
    decision = decide(
        invocation.routes,
        invocation.members.get("TargetVariant"),
        invocation.chance,
        tried=invocation.tried,
        suspects=invocation.suspects,
        stay_with=invocation.choice.variant if again else None,
    )
    if not isinstance(decision, Choice):
        raise _refused(invocation, decision)
    invocation.choice = decision


STAGES: tuple[Callable[[Invocation], None], ...] = (
    find_operation,
    authenticate,
    # Behind authenticate: strangers learn nothing about what is there.
    refuse_other_operations,
    read_members,
    find_endpoint,
    authorize,
    refuse_what_is_not_built,
    choose,
)


@lru_cache(maxsize=1024)
def _check(operation: Operation, members: tuple[tuple[str, Any], ...]) -> None:
    """Check the modelled constraints; most invocations have the same members as one before (a failure is not kept)."""
    rest_json.check(operation, dict(members))


def oversize(request_id: str) -> ClientFault:
    """Make the error of a body that is too large."""
    return validation_error(f"Request {request_id} has oversize body.")


def starting() -> OurFault:
    """Make the error of a gateway that has no snapshot yet."""
    return OurFault("ServiceUnavailable", "Moorage is starting. Try your call again.", status=503)


def _refused(invocation: Invocation, refusal: Refusal) -> ServiceError:
    endpoint = invocation.routes.endpoint
    match refusal:
        case Refusal.UNKNOWN_VARIANT:
            variant = invocation.members["TargetVariant"]
            return validation_error(f"Variant {variant} not found for endpoint {endpoint.name}.", "VARIANT_NOT_FOUND")
        case Refusal.NO_WEIGHT:
            return validation_error(
                f"All variants of endpoint {endpoint.name} have a weight of 0: name one with TargetVariant."
            )
        case Refusal.NO_INSTANCE:
            return OurFault(
                "ServiceUnavailable",
                f"Endpoint {endpoint.name} has no instance that is ready. Try your call again.",
                status=503,
            )
        case Refusal.NONE_LEFT:
            return model_errors.no_response(endpoint, invocation.choice.variant.container)


def _no_target_model(endpoint: str, _: str) -> ClientFault:
    return validation_error(
        f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model header.",
        "TARGET_MODEL_HEADER_NOT_SUPPORTED",
    )


def _no_target_container(endpoint: str, _: str) -> ClientFault:
    return validation_error(
        f"Endpoint {endpoint} does not support target container hostname header.",
        "TARGET_CONTAINER_HOSTNAME_NOT_SUPPORTED",
    )


def _no_component(endpoint: str, component: str) -> ClientFault:
    return validation_error(
        f"Inference Component {component} not found for endpoint {endpoint}.", "INFERENCE_COMPONENT_NOT_FOUND"
    )


def _no_session(endpoint: str, _: str) -> ClientFault:
    return validation_error(f"Endpoint {endpoint} does not support SessionId: Moorage does not have it yet.")


def _no_explanations(endpoint: str, _: str) -> ClientFault:
    return validation_error(f"Endpoint {endpoint} does not support EnableExplanations: Moorage does not have it yet.")


_NOT_BUILT: Mapping[str, Callable[[str, str], ClientFault]] = {
    "TargetModel": _no_target_model,
    "TargetContainerHostname": _no_target_container,
    "InferenceComponentName": _no_component,
    "SessionId": _no_session,
    "EnableExplanations": _no_explanations,
}
