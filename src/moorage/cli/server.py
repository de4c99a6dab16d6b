"""Which server the command line talks to."""

import shlex
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from moorage.aws.credentials import Credential
from moorage.base.clock import SystemClock
from moorage.base.data_dir import ephemeral_folders, is_between, read_json, running_server
from moorage.base.settings import default_data_dir

_STARTS_WITHIN_SECONDS = 2.0

Command = TypeVar("Command", bound=Callable[..., Any])


def data_dir_option(command: Command) -> Command:
    """Add ``--data-dir``."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="The server's data folder.  [default: $MOORAGE_DATA_DIR or ~/.local/share/moorage]",
    )(command)


def output_option(command: Command) -> Command:
    """Add ``--output text|json``."""
    return click.option(
        "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="A table, or JSON."
    )(command)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, as it describes itself."""

    url: str
    pid: int
    region: str
    account: str
    version: str
    data_dir: Path
    run_dir: Path
    description: dict[str, Any]
    key: dict[str, str]

    @property
    def trusted(self) -> ssl.SSLContext | None:
        """What to trust: the server's own certificate, under whatever name it is reached; None without TLS.

        Whoever has its key at the address that ``server.json`` names is the server.
        """
        if self.description.get("certificate") is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(self.description["certificate"])
        except OSError as fault:
            raise click.ClickException(f"{self.description['certificate']} cannot be read: {fault}") from fault
        return context

    @property
    def credential(self) -> Credential:
        """The first key."""
        key = self.key
        return Credential(key["access_key_id"], key["secret_access_key"], key["account"], key["user_name"])


def chosen_data_dir(data_dir: Path | None) -> Path:
    """Give the data folder that was named, or else the user's own."""
    return (data_dir or default_data_dir()).absolute()


def find_server(data_dir: Path | None) -> Server | None:
    """Give the server that runs on a data folder; None when none does."""
    folder = chosen_data_dir(data_dir)
    try:
        found = running_server(folder)
        key = read_json(folder / "credentials.json")
    except PermissionError as fault:
        raise click.ClickException(f"The data folder {folder} belongs to another user.") from fault
    if found is None or key is None:
        return None
    return Server(
        url=found["url"],
        pid=found["pid"],
        region=found["region"],
        account=found["account"],
        version=found["version"],
        data_dir=folder,
        run_dir=Path(found["run_dir"]),
        description=found,
        key=key,
    )


def need_server(data_dir: Path | None) -> Server:
    """Give the server that runs on a data folder, or end with a clear error."""
    # Its port answers a moment before it is ready: a script that has waited for the one may ask for the other.
    clock = SystemClock()
    deadline = clock.monotonic() + _STARTS_WITHIN_SECONDS
    while is_between(chosen_data_dir(data_dir)) and clock.monotonic() < deadline:
        clock.pause(0.02)
    if server := find_server(data_dir):
        return server
    others = [folder for folder in ephemeral_folders() if running_server(folder)]
    hint = f"\nOne runs elsewhere; add --data-dir {others[0]}" if others else ""
    start = f"moorage up --data-dir {shlex.quote(str(data_dir))}" if data_dir else "moorage up"
    raise click.ClickException(f"No Moorage runs on {chosen_data_dir(data_dir)}. Start one: {start}{hint}")
