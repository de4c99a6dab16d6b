"""What an invocation has to do with sticky sessions: before it is forwarded, and when it is answered.

Nothing here waits; what is promised is the table in ``routing.sessions``.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from moorage.aws.errors import ClientFault, OurFault, validation_error
from moorage.gateway import model_errors
from moorage.gateway.sessions import Sessions, SessionTaken
from moorage.routing.choice import Choice, Refusal
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Routes
from moorage.routing.sessions import NEW_SESSION, Binding, SessionRefusal, closes, decide_bound, read_opened
from moorage.routing.snapshot import Endpoint

log = logging.getLogger(__name__)


def find_session(sessions: Sessions, endpoint: Endpoint, members: Mapping[str, Any], now: float) -> Binding | None:
    """Give the binding that an invocation must follow; None: it goes where it likes.

    Raises ValidationError for a session that is not there, and for a new one when there are as many as may be.
    """
    session_id = members.get("SessionId")
    if session_id is None:
        return None
    if session_id == NEW_SESSION:
        if not sessions.has_room(endpoint):
            raise _too_many(endpoint)
        return None
    binding = sessions.find(endpoint, session_id, now)
    if binding is None:
        raise _not_found(endpoint, session_id)
    return binding


def choose_bound(  # noqa: PLR0913 - the decision depends on this much
    sessions: Sessions,
    routes: Routes,
    binding: Binding,
    conditions: Conditions,
    *,
    version: int,
    target_variant: str | None,
    tried: Collection[str],
) -> Choice | Refusal:
    """Choose the instance of a session, as ``decide`` does for other invocations.

    Raises ValidationError, and forgets the session, when that instance is gone or has refused this invocation.
    """
    decision = decide_bound(routes, binding, conditions, version=version, target_variant=target_variant, tried=tried)
    if decision is SessionRefusal.LOST:
        sessions.close(routes.endpoint, binding.session_id)
        raise _not_found(routes.endpoint, binding.session_id)
    if decision is SessionRefusal.OTHER_VARIANT:
        raise validation_error(
            f"Session {binding.session_id} of endpoint {binding.endpoint} is bound to variant {binding.variant}, "
            f"not to {target_variant}."
        )
    return decision


def settle(  # noqa: PLR0913 - an answer has these sides
    sessions: Sessions,
    endpoint: Endpoint,
    session_id: str,
    *,
    choice: Choice,
    version: int,
    raw_headers: Sequence[tuple[bytes, bytes]],
    now: float,
) -> tuple[tuple[bytes, bytes], ...]:
    """Do what a container's successful answer says of a session, and give the headers for the client.

    ``session_id`` is the member SessionId, ``version`` that of the snapshot by which the choice was made. Raises a
    ServiceError when a new session cannot be kept: the client must not believe in it.
    """
    if session_id != NEW_SESSION:
        if not closes(raw_headers, session_id):
            return ()
        sessions.close(endpoint, session_id)
        return ((b"X-Amzn-SageMaker-Closed-Session-Id", session_id.encode()),)
    opened = read_opened(raw_headers, now, sessions.session_seconds)
    if opened is None:
        return ()
    binding = Binding(
        account=endpoint.account,
        region=endpoint.region,
        endpoint=endpoint.name,
        session_id=opened.session_id,
        variant=choice.variant.name,
        instance_id=choice.instance.instance_id,
        expires=opened.expires,
        version=version,
    )
    try:
        sessions.open(endpoint, binding, now)
    except SessionTaken:
        raise model_errors.session_taken(endpoint, choice.variant.container, opened.session_id) from None
    except OSError as fault:
        log.warning("a session of endpoint %s could not be kept: %s", endpoint.name, fault)
        raise OurFault("InternalFailure", "Moorage could not keep the session; its log says why.") from fault
    return ((b"X-Amzn-SageMaker-New-Session-Id", opened.header),)


def _not_found(endpoint: Endpoint, session_id: str) -> ClientFault:
    return validation_error(f"Session {session_id} not found or expired for endpoint {endpoint.name}.")


def _too_many(endpoint: Endpoint) -> ClientFault:
    return validation_error(
        f"Endpoint {endpoint.name} has as many open sessions as it may have. "
        "Close one, or wait until one expires, and try again."
    )
