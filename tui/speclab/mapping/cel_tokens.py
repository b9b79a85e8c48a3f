"""The tokens of CEL: enough to find an expression's end, its depth, and the fields and functions it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class TokenKind(StrEnum):
    """What a token is."""

    TEXT = "text"
    FLOAT = "float"
    INTEGER = "integer"
    NAME = "name"
    SIGN = "sign"
    OPEN = "open"
    CLOSE = "close"
    COMMENT = "comment"
    BROKEN = "broken"  # a quote that is never closed, or a character CEL does not know


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its place; blanks are none."""

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset after its last character."""
        return self.start + len(self.text)


# https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
_TOKEN: Final = re.compile(
    r'''(?P<text>
            [bB]?[rR][bB]?(?:"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'|"[^"\n\r]*"|'[^'\n\r]*')
          | [bB]?(?:"""(?s:\\.|[^\\])*?"""|\'\'\'(?s:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n\r])*"|'(?:\\.|[^'\\\n\r])*'))
      | (?P<float>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
      | (?P<integer>(?:0[xX][0-9a-fA-F]+|[0-9]+)[uU]?)
      | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
      | (?P<comment>//[^\n]*)
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<sign>\|\||&&|[<>=!]=|[-+*/%<>!?:.,])
      | (?P<blank>\s+)
      | (?P<broken>.)
    ''',
    re.VERBOSE,
)


_VALUES: Final = frozenset({TokenKind.TEXT, TokenKind.FLOAT, TokenKind.INTEGER, TokenKind.NAME, TokenKind.CLOSE})


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The tokens of `text` from `start`, as far as they are asked for."""
    for found in _TOKEN.finditer(text, start):
        if found.lastgroup and found.lastgroup != "blank":
            yield Token(TokenKind(found.lastgroup), found[0], found.start())


def expression_end(text: str, start: int = 0) -> int:
    """Where the expression at `start` ends: at the first comma outside brackets and texts, or at the end."""
    depth = 0
    for token in tokens(text, start):
        if token.kind is TokenKind.OPEN:
            depth += 1
        elif token.kind is TokenKind.CLOSE:
            depth -= 1
        elif token.text == "," and depth <= 0 and token.kind is TokenKind.SIGN:
            return token.start
    return len(text)


def is_value(token: Token) -> bool:
    """Whether `token` can be the end of a value."""
    return token.kind in _VALUES and token.text != "in"


def deepest(found: Sequence[Token]) -> int:
    """How many brackets are open at once where most are."""
    depth = most = 0
    for token in found:
        depth += (token.kind is TokenKind.OPEN) - (token.kind is TokenKind.CLOSE)
        most = max(most, depth)
    return most
