"""Syntax highlighting of a section, line by line."""

import pytest

from speclab.app.views.specs.editor import HighlightState, TokenType, highlight_line, line_states

SECTION = """\
A `code` word <!-- and a
hint --> and text
```yaml
type: bearer  # the way in
token: ${env:CRM_TOKEN}
read: {path: /a, "odd": 1}
```
- [ ] done | not a table
~~~
type: text
~~~"""


def highlighted_lines() -> list[list[tuple[str, TokenType]]]:
    lines = SECTION.split("\n")
    return [
        [(line[start:end], kind) for start, end, kind in highlight_line(line, state)]
        for line, state in zip(lines, line_states(lines), strict=True)
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (0, [("`code`", TokenType.CODE), ("<!-- and a", TokenType.COMMENT)]),
        (1, [("hint -->", TokenType.COMMENT)]),
        (2, [("```yaml", TokenType.FENCE)]),
        (3, [("type", TokenType.KEY), ("# the way in", TokenType.COMMENT)]),
        (4, [("token", TokenType.KEY), ("${env:CRM_TOKEN}", TokenType.REFERENCE)]),
        (5, [("read", TokenType.KEY), ("path", TokenType.KEY), ('"odd"', TokenType.KEY)]),
        (6, [("```", TokenType.FENCE)]),
        (7, [("- [ ]", TokenType.MARK), ("|", TokenType.MARK)]),
        (8, [("~~~", TokenType.FENCE)]),
        (9, [("type: text", TokenType.CODE)]),
        (10, [("~~~", TokenType.FENCE)]),
    ],
)
def test_every_line_is_highlighted_by_its_kind(line: int, found: list[tuple[str, TokenType]]) -> None:
    assert highlighted_lines()[line] == found


def test_fence_ends_only_with_as_many_marks() -> None:
    assert line_states(["````", "```", "````", "x"]) == [
        HighlightState(),
        HighlightState("````"),
        HighlightState("````"),
        HighlightState(),
    ]


def test_prose_has_no_tokens() -> None:
    assert highlight_line("Two lists of customers drift apart.", HighlightState()) == []
