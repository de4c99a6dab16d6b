"""What ``~/.docker/config.json`` says of registries that want to know who asks (``docker login`` writes it).

``auths`` holds a name and a password, or a token, per registry; ``credHelpers`` and ``credsStore`` name a program
``docker-credential-NAME`` that is asked for them (https://github.com/docker/docker-credential-helpers).
"""

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.engine.references import HUB

_HUB_KEY = "https://index.docker.io/v1/"
"""Under which Docker Hub is known in the file, for historical reasons."""

_HELPER_SECONDS = 30.0
_TOKEN_USER = "<token>"  # noqa: S105 - by which a helper says that its secret is a token


class UnusableCredentials(Exception):
    """The configuration cannot be read or its helper does not answer; the text is for people."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks."""

    user: str = ""
    password: str = ""
    token: str = ""
    """An identity token, in place of both."""


def config_file(environment: Mapping[str, str]) -> Path:
    """Say where Docker's configuration is."""
    folder = environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def find_credentials(registry: str, file: Path) -> Credentials | None:
    """Give what is known of a registry, None where that is nothing. Blocks; raises UnusableCredentials."""
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        raise UnusableCredentials(f"{file} cannot be read: {fault}.") from fault
    if not isinstance(config, dict):
        raise UnusableCredentials(f"{file} is not an object of JSON.")
    keys = _keys_of(registry)
    helpers = config.get("credHelpers") or {}
    helper = next((helpers[key] for key in keys if key in helpers), config.get("credsStore"))
    if helper:
        found = _ask_helper(helper, keys[0])
        if found is not None:
            return found
    entries = config.get("auths") or {}
    entry = next((entries[key] for key in keys if key in entries), None)
    return _read_entry(entry, registry, file) if entry else None


def _keys_of(registry: str) -> tuple[str, ...]:
    if registry == HUB:
        return (_HUB_KEY, "index.docker.io", "docker.io")
    return (registry, f"https://{registry}", f"https://{registry}/", f"http://{registry}")


def _read_entry(entry: Mapping[str, Any], registry: str, file: Path) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(token=token)
    if "auth" not in entry:
        return None
    try:
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except ValueError as fault:
        raise UnusableCredentials(f"{file} has an unreadable password for {registry}: docker login again.") from fault
    return Credentials(user, password.rstrip("\0"))


def _ask_helper(name: str, key: str) -> Credentials | None:
    program = f"docker-credential-{name}"
    try:
        said = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False,
            env=dict(os.environ),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise UnusableCredentials(f"{program}, which Docker's configuration names, did not answer: {fault}.") from fault
    if said.returncode:
        # It has none for this registry, or it is broken: then the registry will say what it misses.
        return None
    try:
        answer = json.loads(said.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError) as fault:
        raise UnusableCredentials(f"{program} gave an answer that is none of a credential helper.") from fault
    return Credentials(token=secret) if user == _TOKEN_USER else Credentials(user, secret)
