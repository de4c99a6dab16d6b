"""An access key and whose it is."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that Moorage has issued."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    account_id: str
    user_name: str

    @property
    def user_arn(self) -> str:
        """The identity that error messages name."""
        return f"arn:aws:iam::{self.account_id}:user/{self.user_name}"
