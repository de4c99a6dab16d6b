"""May this caller do that? The decision, as a function of policies and request.

A request is allowed when no statement denies it and each layer of policies has a statement that allows it. There is
one layer of the user's own policies and one for each session policy that a role was assumed with: a session never may
more than the one who began it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from moorage.aws.credentials import Credential
from moorage.iam.documents import Effect, Policy, Statement, read_policy
from moorage.iam.patterns import Context


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller wants to do, to what, under which circumstances."""

    action: str
    """``sagemaker:CreateEndpoint``."""
    resource: str
    """An ARN, or ``*`` for actions that are not about one resource."""
    context: Context


class Source(StrEnum):
    """Where a layer of policies comes from, in AWS's words."""

    IDENTITY = "identity-based"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not allowed."""

    source: Source
    explicit: bool
    """A statement denies it; otherwise none allows it."""

    def text(self, user_arn: str, access: Access) -> str:
        """Say it in AWS's words (control-plane.md section 1.4)."""
        return self.text_about(user_arn, access.action, access.resource)

    def text_about(self, user_arn: str, action: str, resource: str) -> str:
        """Say it in AWS's words, with the resource written as the service writes it."""
        article = "an" if self.source is Source.IDENTITY else "a"
        reason = (
            f"with an explicit deny in {article} {self.source} policy"
            if self.explicit
            else f"because no {self.source} policy allows the {action} action"
        )
        return f"User: {user_arn} is not authorized to perform: {action} on resource: {resource} {reason}"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The policies of one caller, by layer; a layer that is not there allows everything."""

    layers: tuple[tuple[Source, tuple[Policy, ...]], ...]

    @property
    def unlimited(self) -> bool:
        """Say whether there is nothing to decide: everything in the caller's account is allowed."""
        return not self.layers

    @property
    def look_at_resource_tags(self) -> bool:
        """Say whether the decision depends on the tags of the resource."""
        return any(policy.looks_at_resource_tags for _, policies in self.layers for policy in policies)

    def refuse(self, access: Access) -> Denial | None:
        """Decide; None: it is allowed."""
        verdicts = [(source, _verdict(policies, access)) for source, policies in self.layers]
        for source, effect in verdicts:
            if effect is Effect.DENY:
                return Denial(source, explicit=True)
        for source, effect in verdicts:
            if effect is None:
                return Denial(source, explicit=False)
        return None


def permissions_of(credential: Credential) -> Permissions:
    """Give what a caller may do."""
    own = [] if credential.policies is None else [(Source.IDENTITY, _read_all(credential.policies))]
    session = credential.session.policies if credential.session is not None else ()
    return Permissions((*own, *((Source.SESSION, (read_policy(text),)) for text in session)))


def _read_all(texts: Sequence[str]) -> tuple[Policy, ...]:
    return tuple(read_policy(text) for text in texts)


def _verdict(policies: Sequence[Policy], access: Access) -> Effect | None:
    found = None
    for policy in policies:
        for statement in policy.statements:
            if statement.effect is found or not _applies(statement, access):
                continue
            if statement.effect is Effect.DENY:
                return Effect.DENY
            found = Effect.ALLOW
    return found


def _applies(statement: Statement, access: Access) -> bool:
    context = access.context
    named = any(pattern.matches(access.action, context) for pattern in statement.actions)
    if named is statement.all_other_actions or not _is_about(statement, access):
        return False
    return all(condition.holds(context) for condition in statement.conditions)


def _is_about(statement: Statement, access: Access) -> bool:
    context = access.context
    if not statement.all_other_resources:
        return any(pattern.matches(access.resource, context) for pattern in statement.resources)
    globs = [pattern.resolve(context) for pattern in statement.resources]
    if None in globs:
        # Nobody can say what the exception is: it is none for a Deny, and everything for an Allow.
        return statement.effect is Effect.DENY
    return not any(glob is not None and glob.matches(access.resource) for glob in globs)
