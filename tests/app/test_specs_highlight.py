"""What the characters of a section are, line by line."""

import pytest

from speclab.app.specs.highlight import Kind, State, states, tokens

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


def told() -> list[list[tuple[str, Kind]]]:
    lines = SECTION.split("\n")
    return [
        [(line[start:end], kind) for start, end, kind in tokens(line, state)]
        for line, state in zip(lines, states(lines), strict=True)
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (0, [("`code`", Kind.CODE), ("<!-- and a", Kind.COMMENT)]),
        (1, [("hint -->", Kind.COMMENT)]),
        (2, [("```yaml", Kind.FENCE)]),
        (3, [("type", Kind.KEY), ("# the way in", Kind.COMMENT)]),
        (4, [("token", Kind.KEY), ("${env:CRM_TOKEN}", Kind.REFERENCE)]),
        (5, [("read", Kind.KEY), ("path", Kind.KEY), ('"odd"', Kind.KEY)]),
        (6, [("```", Kind.FENCE)]),
        (7, [("- [ ]", Kind.MARK), ("|", Kind.MARK)]),
        (8, [("~~~", Kind.FENCE)]),
        (9, [("type: text", Kind.CODE)]),
        (10, [("~~~", Kind.FENCE)]),
    ],
)
def test_every_line_is_told_by_what_it_is(line: int, found: list[tuple[str, Kind]]) -> None:
    assert told()[line] == found


def test_a_fence_ends_only_with_as_many_marks() -> None:
    assert states(["````", "```", "````", "x"]) == [State(), State("````"), State("````"), State()]


def test_prose_has_no_tokens() -> None:
    assert tokens("Two lists of customers drift apart.", State()) == []
