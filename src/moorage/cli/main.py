"""The command ``moorage`` and the list of its subcommands."""

import importlib
import sys

import click

import moorage

_COMMANDS = {
    "up": "Start Moorage in the foreground; Ctrl-C stops it.",
    "env": 'Print the exports for AWS clients: eval "$(moorage env)".',
    "run": "Deploy a model.tar.gz as an endpoint in one command.",
    "invoke": "Invoke an endpoint and print the answer.",
    "ls": "List the endpoints, their variants and instances.",
    "top": "Show requests per second, latencies and errors of each variant, live.",
    "events": "Show what has happened to endpoints, and follow it.",
    "logs": "Print the logs of an endpoint's instances.",
    "exec": "Open a shell in an instance, or run a command there.",
    "ps": "List Moorage's processes and instances, with their memory.",
    "keys": "Make, list and delete access keys.",
    "reservations": "Keep capacity for variants that name it.",
    "kms": "Make and disable the keys that data is encrypted with.",
    "images": "Look after the environments of built-in images.",
    "doctor": "Say what works on this machine, and what to do about the rest.",
}
"""In the order of a first day with Moorage. Each is a function of the module of its name."""


class _Commands(click.Group):
    """Loads a command when it is called, and none for the list of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"moorage.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"moorage.cli.{cmd_name} has no command of that name")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(moorage.__version__, prog_name="moorage", message="%(prog)s %(version)s")
def cli() -> None:
    """Model hosting with the Amazon SageMaker Hosting API that you run yourself.

    \b
    moorage up                          start it (Ctrl-C stops it)
    eval "$(moorage env)"               point this shell's AWS clients at it
    moorage run model.tar.gz            or: deploy a model in one command
    """  # noqa: D301 - the character itself tells click to leave the lines as they are


def main() -> None:
    """Run the command line."""
    # An output that is a closed pipe (moorage ls | head) is no error worth a traceback.
    try:
        cli()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
