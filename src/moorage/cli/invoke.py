"""``moorage invoke``: call a model from the shell."""

import sys
from pathlib import Path

import click

from moorage.cli.client import ApiError, Client
from moorage.cli.server import data_dir_option, need_server

_CONTENT_TYPES = {".csv": "text/csv", ".json": "application/json", ".npy": "application/x-npy", ".txt": "text/plain"}
_ONE_ROW = "Expected 2D array, got 1D array"
"""What scikit-learn says then."""


@click.command()
@click.argument("endpoint")
@click.option("--body", required=True, help="The request: @FILE, - for standard input, or the text itself.")
@click.option("--content-type", help="What the body is.  [default: by the file's name, else text/csv]")
@click.option("--accept", help="What the answer shall be.  [default: the model's choice]")
@click.option("--target-variant", help="Ask this production variant, whatever the weights.")
@data_dir_option
def invoke(  # noqa: PLR0913 - the members of InvokeEndpoint
    *,
    endpoint: str,
    body: str,
    content_type: str | None,
    accept: str | None,
    target_variant: str | None,
    data_dir: Path | None,
) -> None:
    """Invoke an endpoint and print the answer."""
    client = Client(need_server(data_dir))
    content, kind = read_body(body)
    try:
        answer = client.invoke(
            endpoint, content, content_type=content_type or kind, accept=accept, target_variant=target_variant
        )
    except ApiError as fault:
        raise _in_the_model_s_words(fault, endpoint) from fault
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty() and not answer.body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def read_body(body: str) -> tuple[bytes, str]:
    """Give the bytes that ``--body`` names and the content type that fits."""
    if body == "-":
        return sys.stdin.buffer.read(), "text/csv"
    if not body.startswith("@"):
        return body.encode(), "application/json" if body[:1] in {"{", "["} else "text/csv"
    path = Path(body[1:])
    try:
        return path.read_bytes(), _CONTENT_TYPES.get(path.suffix.lower(), "text/csv")
    except OSError as fault:
        raise click.ClickException(f"{path} cannot be read: {fault.strerror}") from fault


def _in_the_model_s_words(fault: ApiError, endpoint: str) -> click.ClickException:
    if fault.code != "ModelError":
        return fault
    lines = [fault.message]
    original = fault.members.get("OriginalMessage")
    if original and original not in fault.message:
        lines.append(f"The model answered {fault.members.get('OriginalStatusCode')}: {original}")
    if _ONE_ROW in fault.message:
        lines.append("  one row     the container makes one dimension of a single line of CSV, as AWS's does:")
        lines.append("              send several lines, or JSON: [[...]]")
    return click.ClickException("\n".join([*lines, f"  the log     moorage logs {endpoint}"]))
