r"""The models' regular expressions, which are Java's, in Python's words.

They differ in: ``\p{...}`` (unknown to Python), ``\z`` (here ``\Z``), ``.`` (Java stops at more line ends), and
``\d``, ``\s``, ``\S`` (ASCII only in Java). Translated by hand, as far as the models need it.
"""

import re
from functools import cache

_JAVA_DOT = r"[^\n\r\u0085\u2028\u2029]"
_SEPARATORS = r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CLASSES = {"ASCII": r"\x00-\x7f", "Print": r"\x20-\x7e", "Z": _SEPARATORS}
_TOKENS = re.compile(r"\\p\{(\w+)\}|\\(.)|(.)", re.DOTALL)


class Untranslatable(ValueError):
    """A pattern of a newer model that needs something that is not translated yet."""


@cache
def compile_pattern(java: str) -> re.Pattern[str]:
    """Compile a pattern; use ``fullmatch``, which is Java's ``matches()``."""
    # Python's \w is exactly Unicode's letters and numbers and the underscore.
    letters_and_numbers = r"\p{L}" in java
    text = java.replace(r"\p{L}\p{Z}\p{N}_", rf"\w{_SEPARATORS}") if letters_and_numbers else java
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
