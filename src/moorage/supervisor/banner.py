"""What ``moorage up`` prints when it is ready. Pure."""

from collections.abc import Mapping
from typing import Any

from moorage.base.data_dir import exports

_NOT_LOOPBACK = """\
  WARNING: other machines can reach this port. Requests need a valid signature, but nothing is encrypted:
  start with --tls-cert and --tls-key, put TLS in front of it, or start without --host.
"""


def banner(server: Mapping[str, Any], key: Mapping[str, str], *, warn: bool, style: bool) -> str:
    """Make the text; ``warn`` says that others could listen, ``style`` asks for bold print."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if style else ("", "")
    lines = [
        f"{bold}Moorage {server['version']} is ready at {server['url']}{plain}",
        "",
        *(f"  {line}" for line in exports(server, key)),
        "",
        f"  data    {server['data_dir']}" + (" (removed at the end)" if server["ephemeral"] else ""),
        f"  engine  {server['engine']}"
        + ("" if server["engine"] != "process" else " (less isolation: moorage doctor)"),
        f"  stop    Ctrl-C, or kill {server['pid']}",
        "",
    ]
    return "\n".join(lines) + ("\n" + _NOT_LOOPBACK if warn else "") + "\n"
