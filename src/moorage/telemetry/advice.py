"""What to do about a failed endpoint, from the text of its FailureReason. Pure.

The text is all that a client has. Its first sentence is AWS's (control-plane.md section 6.6) and says what kind of
failure it is; what follows is this machine's and may say more. The most particular sign wins.
"""

from collections.abc import Sequence

_LOG = "Read what the container has printed: moorage logs {endpoint}"
_ENVIRONMENT = '  eval "$(moorage env)"'
"""Before any ``aws`` line: without it the command would go to the user's account at AWS."""
_AGAIN = (
    "An endpoint that has failed can only be deleted, then created again (moorage run does both):",
    _ENVIRONMENT,
    "  aws sagemaker delete-endpoint --endpoint-name {endpoint}",
)

_PACKAGE = (
    "The model's code wants a package that the image has not: list it in code/requirements.txt of the model.tar.gz."
)
_MEMORY = (
    "The container needs more memory than its instance type has: name a larger InstanceType in the endpoint "
    "configuration."
)
_CAPACITY = (
    "This machine cannot hold what was asked for: fewer instances, a smaller InstanceType, or delete an endpoint that "
    "is not needed (moorage ls)."
)

_ADVICE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ModuleNotFoundError", (_PACKAGE, _LOG)),
    ("memory limit", (_MEMORY, _LOG)),
    (
        "Failed to download model data",
        (
            "Look whether the object is there, and is a .tar.gz:",
            _ENVIRONMENT,
            "  aws s3 ls URL",
            "If it is not: upload it, or create the model with another ModelDataUrl.",
        ),
    ),
    (
        "make sure all images included in the model",
        ("Look whether the image can be had here; this names the built-in ones: moorage images build IMAGE", _LOG),
    ),
    ("CannotStartContainerError", (_LOG, "See what this machine lacks to run containers: moorage doctor")),
    ("ended again and again", ("The container became ready and then died, several times in a row.", _LOG)),
    (
        "did not pass the ping health check",
        (_LOG, "Most often model_fn fails, or loading takes longer than MOORAGE_STARTUP_TIMEOUT_SECONDS (240 s)."),
    ),
    ("InsufficientInstanceCapacity", (_CAPACITY,)),
    (
        "no engine of this machine can promise",
        ("See which promises each engine keeps here, and what it lacks for the others: moorage doctor",),
    ),
)


def advice(failure_reason: str, endpoint: str, *, can_only_be_deleted: bool) -> Sequence[str]:
    """Give what to do, a sentence or two a line.

    ``can_only_be_deleted``: the endpoint's status is Failed; otherwise it serves on as it was before the change.
    """
    found = next((lines for sign, lines in _ADVICE if sign in _where(sign, failure_reason)), (_LOG,))
    lines = (*found, *_AGAIN) if can_only_be_deleted else found
    return [line.format(endpoint=endpoint) for line in lines]


def _where(sign: str, failure_reason: str) -> str:
    """Give the part of the text in which a sign means something: a log may speak of memory for any reason."""
    return failure_reason.partition("\nLast lines of")[0] if sign == "memory limit" else failure_reason
