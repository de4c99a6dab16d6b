"""An access key, whose it is and what it may be used for."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Session:
    """What makes credentials temporary."""

    parent_key_id: str
    """The key that the session was begun with, and whose policies it has."""
    issued_at: float
    """Seconds since the epoch, as is the next."""
    expires_at: float
    role: str | None = None
    """Path and name of the role that was assumed; None: the user goes on as himself (GetSessionToken)."""
    name: str = ""
    """RoleSessionName."""
    policies: tuple[str, ...] = ()
    """Session policies as JSON; each of them must allow what is done."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that Moorage has issued."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    account_id: str
    user_name: str
    policies: tuple[str, ...] | None = None
    """IAM policies as JSON; None: everything in its own account."""
    session: Session | None = None
    """None: the key is good until it is deleted."""

    @property
    def user_arn(self) -> str:
        """The identity that error messages name."""
        if self.session is not None and self.session.role is not None:
            role = self.session.role.rpartition("/")[2]
            return f"arn:aws:sts::{self.account_id}:assumed-role/{role}/{self.session.name}"
        return self.principal_arn

    @property
    def principal_arn(self) -> str:
        """The identity that policies belong to: the user, or the role that was assumed."""
        if self.session is not None and self.session.role is not None:
            return f"arn:aws:iam::{self.account_id}:role/{self.session.role}"
        return f"arn:aws:iam::{self.account_id}:user/{self.user_name}"
