"""Filter patterns of FilterLogEvents: terms, ``"phrases"``, ``?any ?of ?these``, ``-without``, purely.

A term is found anywhere in the text, in this case of its letters. Terms with a question mark count only when there are
no others (AWS's page "Filter pattern syntax").
"""

import re
from dataclasses import dataclass

from moorage.aws.errors import ClientFault

_TOKEN = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_NOT_BUILT = {
    "{": "patterns for JSON ({ ... })",
    "[": "patterns of fields ([ ... ])",
    "%": "regular expressions (%...%)",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a message must have, and must not, as UTF-8."""

    all_of: tuple[bytes, ...] = ()
    any_of: tuple[bytes, ...] = ()
    none_of: tuple[bytes, ...] = ()

    def matches(self, message: bytes) -> bool:
        """Say whether a message is as the pattern says."""
        return (
            all(term in message for term in self.all_of)
            and not any(term in message for term in self.none_of)
            and (not self.any_of or any(term in message for term in self.any_of))
        )


def read_pattern(text: str) -> Pattern:
    """Read a pattern; raises InvalidParameterException."""
    terms: dict[str, list[bytes]] = {"": [], "?": [], "-": []}
    rest = text.strip()
    if rest[:1] in _NOT_BUILT:
        raise _invalid(f"Moorage does not have {_NOT_BUILT[rest[0]]} in filter patterns yet.")
    while rest:
        found = _TOKEN.match(rest)
        if found is None:
            raise _invalid("Invalid filter pattern: a phrase in quotation marks has no end.")
        sign, phrase, word = found.groups()
        term = _word(word) if phrase is None else _ESCAPED.sub(r"\1", phrase)
        if term:
            terms[sign].append(term.encode())
        rest = rest[found.end() :].lstrip()
    alone = not (terms[""] or terms["-"])
    return Pattern(tuple(terms[""]), tuple(terms["?"]) if alone else (), tuple(terms["-"]))


def _word(word: str) -> str:
    if word.startswith("%"):
        raise _invalid(f"Moorage does not have {_NOT_BUILT['%']} in filter patterns yet.")
    for character in word:
        if not (character.isalnum() or character == "_"):
            raise _invalid(f"Invalid character(s) in term '{character}'")
    return word


def _invalid(message: str) -> ClientFault:
    return ClientFault("InvalidParameterException", message)
