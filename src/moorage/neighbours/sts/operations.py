"""The operations of STS. Decisions are pure: the new key's id and the time are arguments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage.aws.credentials import Credential, Session
from moorage.aws.errors import ClientFault
from moorage.iam.authenticate import Caller, Keys
from moorage.iam.context import make_context, user_id
from moorage.iam.documents import MalformedPolicy, read_policy
from moorage.iam.evaluate import Access, permissions_of
from moorage.iam.sessions import TokenTooLong, make_token

Members = Mapping[str, Any]

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/([\w+=,.@/-]+)", re.ASCII)
_ROLE_SECONDS = 3_600
_SESSION_SECONDS = 43_200
_LONGEST_CHAINED_SECONDS = 3_600
"""Of a role that is assumed with the credentials of a role: AWS's limit."""

_NOT_BUILT = (
    "PolicyArns",
    "Tags",
    "TransitiveTagKeys",
    "SerialNumber",
    "TokenCode",
    "SourceIdentity",
    "ProvidedContexts",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    caller: Caller
    keys: Keys
    now: float
    source_ip: str | None
    secure: bool
    new_key_id: str
    """Of the temporary key, should one be made."""


def get_caller_identity(call: Call, _members: Members) -> dict[str, Any]:
    """Say who asks; no policy can forbid it."""
    credential = call.caller.credential
    return {"UserId": user_id(credential), "Account": credential.account_id, "Arn": credential.user_arn}


def assume_role(call: Call, members: Members) -> dict[str, Any]:
    """Begin a session as a role of the caller's own account."""
    _refuse_unbuilt("AssumeRole", members)
    credential, text = call.caller.credential, members["RoleArn"]
    found = _ROLE.fullmatch(text)
    if found is None:
        raise _validation_error(f"{text[:200]} is invalid")
    _check_allowed(call, text, members, found[1])
    role = found[2]
    seconds = members.get("DurationSeconds", _ROLE_SECONDS)
    before = credential.session
    if before is not None and before.role is not None and seconds > _LONGEST_CHAINED_SECONDS:
        raise _validation_error(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    # Who has been limited once stays so: the policies of the session that asks go on with the new one.
    policies = (*(before.policies if before else ()), *_session_policy(members))
    session = Session(
        parent_key_id=before.parent_key_id if before else credential.access_key_id,
        issued_at=call.now,
        expires_at=_end(call, seconds),
        role=role,
        name=members["RoleSessionName"],
        policies=policies,
    )
    made = Credential(call.new_key_id, "", credential.account_id, credential.user_name, None, session)
    return {
        "Credentials": _issue(call, session),
        "AssumedRoleUser": {"AssumedRoleId": user_id(made), "Arn": made.user_arn},
        "PackedPolicySize": None if not policies else 100 * sum(map(len, policies)) // 10_240,
    }


def get_session_token(call: Call, members: Members) -> dict[str, Any]:
    """Begin a session in which the user goes on as himself."""
    _refuse_unbuilt("GetSessionToken", members)
    credential = call.caller.credential
    if credential.session is not None:
        raise ClientFault("AccessDenied", "Cannot call GetSessionToken with session credentials", status=403)
    end = _end(call, members.get("DurationSeconds", _SESSION_SECONDS))
    return {"Credentials": _issue(call, Session(credential.access_key_id, call.now, end))}


def _end(call: Call, seconds: int) -> float:
    """Give the end of a new session: never later than the end of the one that it is begun in."""
    before = call.caller.credential.session
    wanted = float(int(call.now) + seconds)
    return wanted if before is None else min(wanted, before.expires_at)


def _check_allowed(call: Call, role_arn: str, members: Members, account: str) -> None:
    credential = call.caller.credential
    more = {"sts:rolesessionname": (members["RoleSessionName"],)}
    if "ExternalId" in members:
        more["sts:externalid"] = (members["ExternalId"],)
    context = make_context(call.caller, now=call.now, source_ip=call.source_ip, secure=call.secure, more=more)
    access = Access("sts:AssumeRole", role_arn, context)
    denial = permissions_of(credential).refuse(access)
    if denial is not None:
        raise ClientFault("AccessDenied", denial.text(credential.user_arn, access), status=403)
    if account != credential.account_id:
        # AWS's words for a role whose trust policy does not name the caller, or that is not there.
        message = f"User: {credential.user_arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        raise ClientFault("AccessDenied", message, status=403)


def _session_policy(members: Members) -> tuple[str, ...]:
    text = members.get("Policy")
    if text is None:
        return ()
    try:
        read_policy(text)
    except MalformedPolicy as fault:
        raise ClientFault("MalformedPolicyDocument", fault.message) from fault
    return (text,)


def _issue(call: Call, session: Session) -> dict[str, Any]:
    try:
        secret_access_key, token = make_token(call.keys.token_secret, call.new_key_id, session)
    except TokenTooLong as fault:
        message = "Packed policy consumes more than 100% of allotted space, please use smaller policy."
        raise ClientFault("PackedPolicyTooLarge", message) from fault
    return {
        "AccessKeyId": call.new_key_id,
        "SecretAccessKey": secret_access_key,
        "SessionToken": token,
        "Expiration": session.expires_at,
    }


def _refuse_unbuilt(operation: str, members: Members) -> None:
    for name in _NOT_BUILT:
        if name in members:
            raise _validation_error(f"Moorage does not have {name} of {operation} yet.")


def _validation_error(message: str) -> ClientFault:
    return ClientFault("ValidationError", message)
