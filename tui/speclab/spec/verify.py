"""What an edit must not change: sections and front matter of the text before and after it, compared as they read.

Each check raises `EditRefused` with a reason in terms of the spec.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import yaml

from speclab.errors import EditRefused
from speclab.spec.front_matter import FrontMatter
from speclab.spec.outline import BlockKind, read_blocks

if TYPE_CHECKING:
    from speclab.spec.document import Document


def same_sections(before: Document, after: Document, but: int | None) -> None:
    """Titles and levels in order, and every own text except that of the heading at index `but`."""
    was, now = before.outline, after.outline
    if _titles(before) != _titles(after):
        raise _outline_changes(before, after)
    # A new front matter is set apart by a blank line.
    if was.preamble.of(before.text).lstrip("\r\n") != now.preamble.of(after.text).lstrip("\r\n"):
        raise EditRefused("the text before the first heading would change")
    for at, (old, new) in enumerate(zip(was.headings, now.headings, strict=True)):
        same = old.own.of(before.text) == new.own.of(after.text) or at == but
        if not same or old.heading.of(before.text) != new.heading.of(after.text):
            raise EditRefused(f"the section {old.title!r} would change too")


def same_front_matter(before: Document, after: Document) -> None:
    """The front matter, by the letter; prose must not become one."""
    old, new = before.front_matter, after.front_matter
    if (old.end, old.span.of(before.text)) != (new.end, new.span.of(after.text)):
        raise EditRefused("a line of --- or ... would make front matter of what is none")


def same_entries(old: FrontMatter, new: FrontMatter, key: str) -> None:
    """All entries but the one of `key` that counts, compared as YAML trees: an anchor's value may stand elsewhere."""
    was, now = _pairs(old), _pairs(new)
    keys = [entry.key for entry in old.entries]
    at = len(keys) - 1 - keys[::-1].index(key) if key in keys else len(keys)
    del was[at : at + 1], now[at : at + 1]
    seen: set[tuple[int, int]] = set()
    if len(was) != len(now) or not all(
        _same_node(a, b, seen) for x, y in zip(was, now, strict=True) for a, b in zip(x, y, strict=True)
    ):
        raise EditRefused(f"setting {key!r} would change other keys of the front matter")


def same_value(one: object, other: object) -> bool:
    """Whether two values are the same and of one type: 1 is not true, nor "1"."""
    return type(one) is type(other) and one == other


def _titles(document: Document) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in document.outline.headings]


def _outline_changes(before: Document, after: Document) -> EditRefused:
    """Why the outline is another: which heading was lost and to what, or which is new."""
    lost = Counter(_titles(before)) - Counter(_titles(after))
    for heading in before.outline.headings:
        if (heading.level, heading.title) in lost:
            moved = (
                0 if after.text.startswith(before.text[: heading.heading.end]) else len(after.text) - len(before.text)
            )
            return _swallowed(after, heading.heading.start + moved, heading.title)
    new = Counter(_titles(after)) - Counter(_titles(before))
    for heading in after.outline.headings:
        if (heading.level, heading.title) in new:
            return EditRefused(
                f"the text has a heading of its own, {heading.title!r}, which would begin a section",
                hint=r"add sections in the file itself; \# at the start of a line is no heading",
            )
    return EditRefused("the sections would change their order")


def _swallowed(after: Document, offset: int, title: str) -> EditRefused:
    line = after.lines.index(offset)
    blocks = read_blocks(after.lines, after.front_matter.end)
    block = next((block for block in blocks if block.first <= line < block.end), None)
    opening = after.lines.content(block.first).lstrip() if block else ""
    if block and block.kind is BlockKind.FENCE:
        marks = opening[: len(opening) - len(opening.lstrip(opening[0]))]
        return EditRefused(f"an open {marks} fence would swallow the section {title!r}", hint=f"close it with {marks}")
    if block and block.kind is BlockKind.HTML:
        mark = re.match(r"<!--|<!\[CDATA\[|<[?!/]?[\w-]*>?", opening)
        return EditRefused(
            f"an open {mark[0] if mark else '<'} would swallow the section {title!r}",
            hint="close it, or leave a blank line behind it",
        )
    return EditRefused(f"the text would run into the heading {title!r}", hint="leave a blank line between them")


def _pairs(front_matter: FrontMatter) -> list[tuple[yaml.Node, yaml.Node]]:
    return list(front_matter.root.value) if isinstance(front_matter.root, yaml.MappingNode) else []


def _same_node(one: yaml.Node, other: yaml.Node, seen: set[tuple[int, int]]) -> bool:
    if (id(one), id(other)) in seen:  # an alias; without this, aliases of aliases take for ever
        return True
    seen.add((id(one), id(other)))
    if type(one) is not type(other) or one.tag != other.tag:
        return False
    if isinstance(one, yaml.ScalarNode):
        return bool(one.value == other.value)
    return len(one.value) == len(other.value) and all(
        _same_node(a, b, seen)
        for x, y in zip(one.value, other.value, strict=True)
        for a, b in (zip(x, y, strict=True) if isinstance(one, yaml.MappingNode) else [(x, y)])
    )
