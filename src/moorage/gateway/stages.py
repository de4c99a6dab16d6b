"""What happens to an invocation before it is forwarded: THE lists, in order (data-plane.md section 1.10).

Each stage looks at the invocation, adds one thing to it, or raises the ServiceError that the client is to see.
Nothing here waits; ``invocation`` does what was decided. ``ADMISSION`` says who may call what; ``familiar`` remembers
its answers. Behind it come ``follow_session`` and ``choose``, for each invocation anew.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moorage.aws import rest_json
from moorage.aws.errors import ClientFault, OurFault, ServiceError, validation_error
from moorage.aws.shapes import Operation, load_service
from moorage.aws.sigv4 import HttpRequest, Signature, read_signature
from moorage.base.chance import Chance
from moorage.gateway import model_errors
from moorage.gateway.requests import RequestHead
from moorage.gateway.session_stages import choose_bound, find_session
from moorage.gateway.sessions import Sessions
from moorage.iam.authenticate import AuthenticationFailed, Caller, Keys, as_json_error, identify
from moorage.iam.context import make_context, resource_tags
from moorage.iam.evaluate import Access, permissions_of
from moorage.iam.patterns import Context
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Choice, Refusal, Routes, Routing, decide
from moorage.routing.prompt import Prompt
from moorage.routing.sessions import Binding
from moorage.routing.snapshot import Endpoint, Mode, Variant

SKEW_SECONDS = 300.0
SERVICE = load_service("sagemaker-runtime")

_SESSION = "X-Amzn-SageMaker-Session-Id"
_FORWARDED = (
    "Content-Type",
    "Accept",
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id",
    _SESSION,
    # Only where there is a front: it keeps the one to itself, and gives the other to the container that it is for.
    "X-Amzn-SageMaker-Target-Container-Hostname",
    "X-Amzn-SageMaker-Target-Model",
)
"""What the container sees of the client's headers."""
_TARGETS = frozenset({"TargetContainerHostname", "TargetModel"})
_ACTIONS: Mapping[str, str] = {
    "InvokeEndpoint": "sagemaker:InvokeEndpoint",
    "InvokeEndpointWithResponseStream": "sagemaker:InvokeEndpoint",
}
"""What a caller must be allowed, by operation (data-plane.md section 1.1)."""


class Invocation:
    """One call to a model. The stages fill in what has no value at first."""

    __slots__ = (
        "binding",
        "body",
        "caller",
        "chance",
        "chat",
        "choice",
        "conditions",
        "forwarded",
        "head",
        "labels",
        "members",
        "now",
        "operation",
        "payload_sha256",
        "request_id",
        "routes",
        "routing",
        "secure",
        "sessions",
        "source_ip",
        "tried",
    )

    caller: Caller
    choice: Choice
    forwarded: bytes
    """The lines of the client's headers that the container sees."""
    labels: dict[str, str]
    members: dict[str, Any]
    operation: Operation
    routes: Routes

    def __init__(  # noqa: PLR0913 - that much is known of it
        self,
        head: RequestHead,
        body: Sequence[bytes],
        *,
        payload_sha256: str,
        source_ip: str,
        secure: bool,
        request_id: str,
        routing: Routing,
        chance: Chance,
        conditions: Conditions,
        sessions: Sessions,
        now: float,
    ) -> None:
        self.head = head
        self.body = body
        """In the pieces in which it came."""
        self.payload_sha256 = payload_sha256
        self.source_ip = source_ip
        """The client's address, as the socket says."""
        self.secure = secure
        """Whether it came through TLS."""
        self.request_id = request_id
        self.routing = routing
        """The snapshot of this invocation; a held one goes on by a newer one."""
        self.chance = chance
        self.conditions = conditions
        self.sessions = sessions
        self.now = now
        self.binding: Binding | None = None
        """Of the session that it belongs to."""
        self.chat = False
        """Whether the body is a chat, whose prompt is the text of its messages."""
        self.tried: set[str] = set()
        """Instances that refused it."""

    def prompt(self) -> Prompt:
        """Give what strategies look at."""
        members = self.members
        return Prompt(
            self.body,
            chat=self.chat,
            prefix_id=members.get("PrefixAwareId", ""),
            target_model=members.get("TargetModel", ""),
        )


def find_operation(invocation: Invocation) -> None:
    """Which operation is it? An unknown path is 404."""
    head = invocation.head
    invocation.operation, invocation.labels = rest_json.find_operation(SERVICE, head.method, head.path)


def authenticate(invocation: Invocation) -> None:
    """Who calls? The signature covers the body as it came."""
    try:
        caller = identify(
            _signed_parts(invocation.head),
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
    """InvokeEndpointAsync is not here yet."""
    name = invocation.operation.name
    if name not in _ACTIONS:
        raise validation_error(f"Moorage does not have the operation {name} yet.")


def read_members(invocation: Invocation) -> None:
    """Read the headers of the API, check the modelled constraints."""
    members = rest_json.read_headers(invocation.operation, invocation.head.headers)
    members.update(invocation.labels)
    rest_json.check(invocation.operation, members)
    invocation.members = members
    invocation.forwarded = make_forwarded(invocation.operation, invocation.head.fields)


def find_endpoint(invocation: Invocation) -> None:
    """Find the endpoint of the caller's account and region; names are case-sensitive."""
    caller, name = invocation.caller, invocation.members["EndpointName"]
    routes = invocation.routing.endpoints.get((caller.account, caller.region, name))
    if routes is None:
        raise endpoint_not_found(caller.account, name)
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
    access = Access(_ACTIONS[invocation.operation.name], arn, context)
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


def check_targets(invocation: Invocation) -> None:
    """Refuse what no variant that it may go to can do: to name a container or a model, or none (section 8)."""
    check_members(invocation.routes, invocation.members, invocation.request_id)


def check_members(routes: Routes, members: Mapping[str, Any], request_id: str = "") -> None:
    """Refuse members that no variant which they leave can do anything with."""
    named = routes.by_name.get(members.get("TargetVariant", ""))
    variants = routes.endpoint.variants if named is None else (named,)
    faults = [target_fault(routes.endpoint, variant, members, request_id) for variant in variants]
    if faults and None not in faults:
        raise next(filter(None, faults))


def target_fault(
    endpoint: Endpoint, variant: Variant, members: Mapping[str, Any], request_id: str
) -> ClientFault | None:
    """Make the error of an invocation whose target container or model does not fit a variant; None: it fits."""
    return _container_fault(endpoint, variant, members, request_id) or _model_fault(
        endpoint, variant, members, request_id
    )


def _container_fault(
    endpoint: Endpoint, variant: Variant, members: Mapping[str, Any], request_id: str
) -> ClientFault | None:
    hostname = members.get("TargetContainerHostname")
    if variant.mode is not Mode.DIRECT:
        return None if hostname is None else _no_target_container(endpoint.name)
    if hostname is None:
        return validation_error(
            f"Request {request_id} is missing a target container hostname header, which is required to invoke "
            f"multi-container endpoint {endpoint.name} with direct invocation.",
            "TARGET_CONTAINER_HOSTNAME_MISSING",
        )
    if hostname not in variant.containers:
        return validation_error(
            f"Target container hostname {hostname} not found for endpoint {endpoint.name}.",
            "TARGET_CONTAINER_HOSTNAME_NOT_FOUND",
        )
    return None


def _model_fault(
    endpoint: Endpoint, variant: Variant, members: Mapping[str, Any], request_id: str
) -> ClientFault | None:
    target = members.get("TargetModel")
    asked = (members.get("TargetContainerHostname"),) if variant.mode is Mode.DIRECT else variant.containers
    if not any(name in variant.multi_model for name in asked):
        return None if target is None else _no_target_model(endpoint.name)
    if target is None:
        return validation_error(
            f"Request {request_id} is missing a target model header, which is required to invoke multi-model endpoint "
            f"{endpoint.name}.",
            "TARGET_MODEL_HEADER_MISSING",
        )
    if target.startswith("/") or ".." in target.split("/"):
        return validation_error(
            f"Target model {target} is not a key relative to the ModelDataUrl of endpoint {endpoint.name}.",
            "TARGET_MODEL_NOT_VALID",
        )
    return None


def follow_session(invocation: Invocation) -> None:
    """Find the session that it belongs to: then only one instance can answer it."""
    if "SessionId" in invocation.members:
        endpoint = invocation.routes.endpoint
        invocation.binding = find_session(invocation.sessions, endpoint, invocation.members, invocation.now)


ADMISSION: tuple[Callable[[Invocation], None], ...] = (
    find_operation,
    authenticate,
    # Behind authenticate: strangers learn nothing about what is there.
    refuse_other_operations,
    read_members,
    find_endpoint,
    authorize,
    refuse_what_is_not_built,
    check_targets,
)


def choose(invocation: Invocation) -> Refusal | None:
    """Choose variant and instance; called again for another attempt when an instance has refused.

    None: ``invocation.choice`` is made. Raises ValidationError for what no waiting would mend.
    """
    target = invocation.members.get("TargetVariant")
    decision: Choice | Refusal
    if invocation.binding is not None:
        decision = choose_bound(
            invocation.sessions,
            invocation.routes,
            invocation.binding,
            invocation.conditions,
            version=invocation.routing.version,
            target_variant=target,
            tried=invocation.tried,
        )
    else:
        decision = decide(
            invocation.routes,
            target,
            invocation.chance,
            invocation.conditions,
            prompt=invocation.prompt,
            tried=invocation.tried,
            stay_with=invocation.choice.variant if invocation.tried else None,
        )
    if isinstance(decision, Choice):
        invocation.choice = decision
        if decision.variant.has_front or not _TARGETS.isdisjoint(invocation.members):
            _check_choice(invocation, decision.variant)  # the variants of an endpoint may differ
        return None
    if decision is Refusal.UNKNOWN_VARIANT or decision is Refusal.NO_WEIGHT:
        raise refused(invocation, decision)
    return decision


def _check_choice(invocation: Invocation, variant: Variant) -> None:
    fault = target_fault(invocation.routes.endpoint, variant, invocation.members, invocation.request_id)
    if fault is not None:
        raise fault


def expected_variant(invocation: Invocation) -> str:
    """Name the variant that an invocation which nobody takes is counted for: the one it asked for, else the first."""
    return str(invocation.members.get("TargetVariant", invocation.routes.endpoint.variants[0].name))


def capacity_is_coming(invocation: Invocation) -> bool:
    """Say whether an instance that could take the invocation is on its way."""
    if invocation.binding is not None:
        return False
    target = invocation.members.get("TargetVariant")
    routes = invocation.routes
    variants = routes.endpoint.variants if target is None else (routes.by_name[target],)
    only = len(variants) == 1
    return any(variant.coming and (only or variant.weight > 0) for variant in variants)


def make_forwarded(operation: Operation, fields: Mapping[str, str], *, session: bool = True) -> bytes:
    """Make the header lines that the container sees: only those of the API (data-plane.md section 1.3)."""
    lines = []
    for name in _FORWARDED:
        if name == _SESSION and not session:
            continue
        # The plain Accept means nothing where the answer is a stream (section 1.2).
        source = "x-amzn-sagemaker-accept" if name == "Accept" and _streams(operation) else name.lower()
        if value := fields.get(source):  # an empty one counts as absent
            lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def _streams(operation: Operation) -> bool:
    return operation.name == "InvokeEndpointWithResponseStream"


def signature_of(head: RequestHead) -> Signature | None:
    """Read the signature of a head that has been authenticated by it; None when it is in the URL."""
    signature = read_signature(_signed_parts(head))
    return None if signature is None or signature.presigned else signature


def _signed_parts(head: RequestHead) -> HttpRequest:
    return HttpRequest(head.method, head.path, head.query, head.headers)


def endpoint_not_found(account: str, name: str) -> ClientFault:
    """Make the error of an endpoint that is not there, or cannot be invoked yet."""
    return validation_error(f"Endpoint {name} of account {account} not found.")


def oversize(request_id: str) -> ClientFault:
    """Make the error of a body that is too large."""
    return validation_error(f"Request {request_id} has oversize body.")


def starting() -> OurFault:
    """Make the error of a gateway that has no snapshot yet."""
    return OurFault("ServiceUnavailable", "Moorage is starting. Try your call again.", status=503)


def refused(invocation: Invocation, refusal: Refusal) -> ServiceError:
    """Make the error of an invocation that nobody takes."""
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
        case Refusal.FULL:
            return ClientFault("ThrottlingException", "Rate exceeded")
        case Refusal.NONE_LEFT:
            return model_errors.no_response(endpoint, invocation.choice.variant.container)


def _no_target_model(endpoint: str) -> ClientFault:
    return validation_error(
        f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model header.",
        "TARGET_MODEL_HEADER_NOT_SUPPORTED",
    )


def _no_target_container(endpoint: str) -> ClientFault:
    return validation_error(
        f"Endpoint {endpoint} does not support target container hostname header.",
        "TARGET_CONTAINER_HOSTNAME_NOT_SUPPORTED",
    )


def _no_component(endpoint: str, component: str) -> ClientFault:
    return validation_error(
        f"Inference Component {component} not found for endpoint {endpoint}.", "INFERENCE_COMPONENT_NOT_FOUND"
    )


def _no_explanations(endpoint: str, _: str) -> ClientFault:
    return validation_error(f"Endpoint {endpoint} does not support EnableExplanations: Moorage does not have it yet.")


_NOT_BUILT: Mapping[str, Callable[[str, str], ClientFault]] = {
    "InferenceComponentName": _no_component,
    "EnableExplanations": _no_explanations,
}
