r"""The models' regular expressions, which are Java's, in Python's words.

They differ in: ``\p{...}`` (unknown to Python), ``\z`` (here ``\Z``), ``.`` (Java stops at more line ends), and
``\d``, ``\s``, ``\S`` (ASCII only in Java). Translated by hand, as far as the models need it.
"""

import re
import unicodedata
from functools import cache
from typing import Protocol

_JAVA_DOT = r"[^\n\r\u0085\u2028\u2029]"
_SEPARATORS = r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CLASSES = {"ASCII": r"\x00-\x7f", "Print": r"\x20-\x7e", "Z": _SEPARATORS}
_TOKENS = re.compile(r"\\p\{(\w+)\}|\\(.)|(.)", re.DOTALL)


_OF_CATEGORIES = re.compile(r"\[((?:\\p\{[A-Z]\})+)\](?:\*|\{0,(\d+)\})")
"""A pattern that is nothing but one class of Unicode's general categories, any number of times or up to one."""
_REPEATED_END = re.compile(r"\$\{\d+,\d+\}$")
"""A lapse of the model: Java takes the end several times for the end."""


class Matcher(Protocol):
    """What a pattern is compiled to."""

    def fullmatch(self, text: str, /) -> object:
        """Give something true when the whole text is as the pattern says."""


class Untranslatable(ValueError):
    """A pattern of a newer model that needs something that is not translated yet."""


@cache
def compile_pattern(java: str) -> Matcher:
    """Compile a pattern; use ``fullmatch``, which is Java's ``matches()``."""
    if (categories := _OF_CATEGORIES.fullmatch(java)) is not None:
        most = categories[2]
        return _Categories(frozenset(re.findall(r"\{(.)\}", categories[1])), None if most is None else int(most))
    # Python's \w is exactly Unicode's letters and numbers and the underscore.
    letters_and_numbers = r"\p{L}" in java
    text = _REPEATED_END.sub("$", java)
    text = text.replace(r"\p{L}\p{Z}\p{N}_", rf"\w{_SEPARATORS}") if letters_and_numbers else text
    if letters_and_numbers and re.search(r"\\[dDsSbB]|\\p\{L", text):
        raise Untranslatable(java)
    return re.compile(_translate(text), re.NOFLAG if letters_and_numbers else re.ASCII)


def _translate(java: str) -> str:
    made = []
    in_class = False
    for named, escaped, plain in _TOKENS.findall(java):
        if named:
            if named not in _CLASSES:
                raise Untranslatable(java)
            made.append(_CLASSES[named] if in_class else f"[{_CLASSES[named]}]")
        elif escaped:
            made.append(r"\Z" if escaped == "z" else f"\\{escaped}")
        elif plain == "." and not in_class:
            made.append(_JAVA_DOT)
        else:
            in_class = plain == "[" or (in_class and plain != "]")
            made.append(plain)
    return "".join(made)


class _Categories:
    """Texts of characters of some of Unicode's general categories, which Python's expressions do not know."""

    def __init__(self, categories: frozenset[str], most: int | None) -> None:
        self._categories = categories
        self._most = most

    def fullmatch(self, text: str, /) -> bool:
        """Say whether all characters are of these categories, and not too many."""
        if self._most is not None and len(text) > self._most:
            return False
        return all(unicodedata.category(character)[0] in self._categories for character in text)
