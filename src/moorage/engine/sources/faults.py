"""What is wrong with model data."""

MOST_DEPTH = 100
"""Folders in each other: what walks through them does so by recursion."""


class SourceRefused(Exception):
    """The model data is not there, or not what it should be; the text is one sentence for people."""


def shown(name: str) -> str:
    """Make a name of any bytes fit for one line of text."""
    return ascii(name if len(name) <= 200 else name[:200] + "...")[1:-1]
