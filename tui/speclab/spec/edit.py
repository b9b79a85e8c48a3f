"""Edits: one splice each, parsed again and verified; an edit that would change anything else is rejected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

import yaml

from speclab.core.errors import EditRejected
from speclab.spec.front_matter import FrontMatter, Settable, Splice, iterate_spellings, read_front_matter
from speclab.spec.outline import BlockKind, LineSpan, Section, TextLines, read_blocks, split_line_ends
from speclab.spec.parsed_document import ParsedDocument
from speclab.spec.table import MarkdownTable, aligned_rows, row_like, row_with_cell, with_outer_pipes

D = TypeVar("D", bound=ParsedDocument)


def verify_sections(before: ParsedDocument, after: ParsedDocument, but: int | None) -> None:
    """Verify titles, levels and own texts of all headings, except the text of the one at index `but`."""
    was, now = before.outline, after.outline
    if _titles(before) != _titles(after):
        raise _outline_error(before, after)
    # A new front matter is set apart by a blank line.
    if was.preamble.of(before.text).lstrip("\r\n") != now.preamble.of(after.text).lstrip("\r\n"):
        raise EditRejected("the edit would change the text before the first heading")
    for at, (old, new) in enumerate(zip(was.headings, now.headings, strict=True)):
        same = old.own.of(before.text) == new.own.of(after.text) or at == but
        if not same or old.heading.of(before.text) != new.heading.of(after.text):
            raise EditRejected(f"the edit would also change the section {old.title!r}")


def verify_front_matter(before: ParsedDocument, after: ParsedDocument) -> None:
    """Verify that the front matter is unchanged, and that text has not become front matter."""
    old, new = before.front_matter, after.front_matter
    if (old.end, old.span.of(before.text)) != (new.end, new.span.of(after.text)):
        raise EditRejected("a line of --- or ... would turn text into front matter")


def verify_entries(old: FrontMatter, new: FrontMatter, key: str) -> None:
    """Verify all entries but the effective one of `key`, as YAML trees: they may refer to anchors elsewhere."""
    was, now = _pairs(old), _pairs(new)
    keys = [entry.key for entry in old.entries]
    at = len(keys) - 1 - keys[::-1].index(key) if key in keys else len(keys)
    del was[at : at + 1], now[at : at + 1]
    seen: set[tuple[int, int]] = set()
    if len(was) != len(now) or not all(
        _same_node(a, b, seen) for x, y in zip(was, now, strict=True) for a, b in zip(x, y, strict=True)
    ):
        raise EditRejected(f"setting {key!r} would change other keys of the front matter")


def is_same_value(one: object, other: object) -> bool:
    """Whether two values are equal and of the same type: 1 is neither true nor "1"."""
    return type(one) is type(other) and one == other


def _titles(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in document.outline.headings]


def _outline_error(before: ParsedDocument, after: ParsedDocument) -> EditRejected:
    """Return the error for a changed outline: the heading that was lost, or the new one."""
    lost = Counter(_titles(before)) - Counter(_titles(after))
    for heading in before.outline.headings:
        if (heading.level, heading.title) in lost:
            moved = (
                0 if after.text.startswith(before.text[: heading.heading.end]) else len(after.text) - len(before.text)
            )
            return _swallowed_error(after, heading.heading.start + moved, heading.title)
    new = Counter(_titles(after)) - Counter(_titles(before))
    for heading in after.outline.headings:
        if (heading.level, heading.title) in new:
            return EditRejected(
                f"the text contains a heading, {heading.title!r}, which would start a section",
                hint=r"add sections in the file itself, or write \# for a # at the start of a line",
            )
    return EditRejected("the edit would reorder the sections")


def _swallowed_error(after: ParsedDocument, offset: int, title: str) -> EditRejected:
    line = after.lines.index(offset)
    blocks = read_blocks(after.lines, after.front_matter.end)
    block = next((block for block in blocks if block.first <= line < block.end), None)
    opening = after.lines.content(block.first).lstrip() if block else ""
    if block and block.kind is BlockKind.FENCE:
        marks = opening[: len(opening) - len(opening.lstrip(opening[0]))]
        return EditRejected(f"an open {marks} fence would swallow the section {title!r}", hint=f"close it with {marks}")
    if block and block.kind is BlockKind.HTML:
        mark = re.match(r"<!--|<!\[CDATA\[|<[?!/]?[\w-]*>?", opening)
        return EditRejected(
            f"an open {mark[0] if mark else '<'} would swallow the section {title!r}",
            hint="close it, or leave a blank line after it",
        )
    return EditRejected(f"the text would run into the heading {title!r}", hint="leave a blank line between them")


def _pairs(front_matter: FrontMatter) -> list[tuple[yaml.Node, yaml.Node]]:
    return list(front_matter.root.value) if isinstance(front_matter.root, yaml.MappingNode) else []


def _same_node(one: yaml.Node, other: yaml.Node, seen: set[tuple[int, int]]) -> bool:
    if (id(one), id(other)) in seen:  # an alias; without this check, nested aliases take exponential time
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


def with_body(before: D, section: Section, body: str) -> D:
    """Replace the section's own text by `body`, with the file's line ends and without blank lines around it."""
    at = _find_heading(before, section)
    here = before.outline.headings[at]
    if body == before.body(here):
        return before
    body = _adapt_line_ends(_trim_blank_lines(body), before.body(here), before.newline)

    def check(after: ParsedDocument) -> None:
        verify_front_matter(before, after)
        verify_sections(before, after, at)
        if after.body(after.outline.headings[at]) != body:
            raise EditRejected(f"the text would not be read back as the section {here.title!r}")

    return _apply_first_valid(before, _body_splices(before, here, body), check)


def with_splices(before: D, section: Section, splices: Sequence[Splice]) -> D:
    """Apply `splices`, which do not overlap, inside the section's own text; every other byte stays the same."""
    at = _find_heading(before, section)
    own, text, end = before.outline.headings[at].own, before.text, len(before.text)
    for splice in sorted(splices, key=lambda one: (one.span.start, one.span.end), reverse=True):
        if not own.start <= splice.span.start <= splice.span.end <= min(own.end, end):
            raise EditRejected(f"the edit would change more than the section {section.title!r}")
        text, end = _apply(text, splice), splice.span.start

    def check(after: ParsedDocument) -> None:
        verify_front_matter(before, after)
        verify_sections(before, after, at)

    return _apply_checked(before, text, check)


def with_front_matter(before: D, key: str, value: Settable) -> D:
    """Set a key of the front matter to `value`; a missing key is added on a new line."""
    old = before.front_matter
    if old.root is None and old.problems:
        line = old.problems[0].line
        raise EditRejected(f"line {line}: {old.problems[0].message}", hint="fix the front matter first")
    if key in old.values and is_same_value(old.values[key], value):
        return before

    def reads_back(splice: Splice) -> bool:
        found = read_front_matter(TextLines.of_file(_apply(before.text, splice)), "")
        return key in found.values and is_same_value(found.values[key], value)

    def check(after: ParsedDocument) -> None:
        verify_entries(old, after.front_matter, key)
        verify_sections(before, after, None)

    splices = [
        splice for splice in iterate_spellings(before.text, old, key, value, before.newline) if reads_back(splice)
    ]
    if not splices:
        raise EditRejected(f"{key!r} cannot be set to {value!r} at its position", hint="edit the front matter by hand")
    return _apply_first_valid(before, splices, check)


def with_cell(before: D, table: MarkdownTable, row: int, column: str, text: str) -> D:
    """Set the text of a cell of `table`, stripped; outer pipes are added if necessary."""
    here = _find_table_heading(before, table)
    at = table.column(column)
    index = table.first + 2 + row
    line, header = before.lines.content(index), before.lines.content(table.first)
    texts = [list(other.texts) for other in table.rows]
    texts[row][at] = text.strip()
    lines = [row_with_cell(line, at, text, header), row_with_cell(with_outer_pipes(line), at, text, header)]
    span = before.lines.span(index, index + 1)
    return _with_rows(before, table, here, [Splice(span, written) for written in lines], texts)


def with_row_added(before: D, table: MarkdownTable, at: int, cells: Sequence[str]) -> D:
    """Insert a row of `cells`, in the header's order, as the row `at` of `table`."""
    here = _find_table_heading(before, table)
    at = min(at, len(table.rows))
    header = before.lines.content(table.first)
    neighbour = before.lines.content(table.first + 2 + max(at - 1, 0)) if table.rows else header
    texts = [list(row.texts) for row in table.rows]
    texts.insert(at, [cell.strip() for cell in cells])
    lines = [row_like(neighbour, header, cells), row_like(neighbour, header, cells, piped=True)]
    return _with_rows(before, table, here, [_insert_line(before, table.first + 2 + at, line) for line in lines], texts)


def with_row_duplicated(before: D, table: MarkdownTable, row: int) -> D:
    """Duplicate a row of `table` below itself."""
    here = _find_table_heading(before, table)
    texts = [list(other.texts) for other in table.rows]
    texts.insert(row + 1, texts[row])
    index = table.first + 2 + row
    return _with_rows(before, table, here, [_insert_line(before, index + 1, before.lines.content(index))], texts)


def with_row_deleted(before: D, table: MarkdownTable, row: int) -> D:
    """Delete a row of `table`."""
    here = _find_table_heading(before, table)
    texts = [list(other.texts) for at, other in enumerate(table.rows) if at != row]
    lines, index = before.lines, table.first + 2 + row
    last = index + 1 == len(lines)
    span = (
        LineSpan(lines.ends[index - 1], lines.ends[index])
        if last
        else LineSpan(lines.starts[index], lines.starts[index + 1])
    )
    return _with_rows(before, table, here, [Splice(span, "")], texts)


def with_row_moved(before: D, table: MarkdownTable, row: int, to: int) -> D:
    """Move a row of `table` to the index `to`; line ends stay in place."""
    here = _find_table_heading(before, table)
    order = [at for at in range(len(table.rows)) if at != row]
    order.insert(to, row)
    texts = [list(table.rows[at].texts) for at in order]
    body = table.first + 2
    low, high = sorted((row, to))
    moved = [before.lines.content(body + at) for at in order[low : high + 1]]
    return _with_rows(before, table, here, [_replace_lines(before, body + low, moved)], texts)


def with_table_aligned(before: D, table: MarkdownTable) -> D:
    """Pad every column of `table` to the width of its widest cell."""
    here = _find_table_heading(before, table)
    lines = before.lines.contents(table.first, table.first + 2 + len(table.rows))
    texts = [list(row.texts) for row in table.rows]
    return _with_rows(before, table, here, [_replace_lines(before, table.first, aligned_rows(lines))], texts)


def _apply_first_valid(before: D, splices: Iterable[Splice], check: Callable[[D], None]) -> D:
    rejection: EditRejected | None = None
    for splice in splices:
        text = _apply(before.text, splice)
        try:
            return _apply_checked(before, text, check)
        except EditRejected as error:
            rejection = rejection or error  # of the simplest splice
    if rejection is None:
        raise AssertionError("expected at least one splice")
    raise rejection


def _apply_checked(before: D, text: str, check: Callable[[D], None]) -> D:
    if text == before.text:
        return before
    try:
        lossless = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        lossless = False
    if not lossless:
        raise EditRejected("the text has an unpaired surrogate, which cannot be encoded")
    after = type(before).parse(text, before.path)
    check(after)
    return after


def _apply(text: str, splice: Splice) -> str:
    return text[: splice.span.start] + splice.text + text[splice.span.end :]


# --- bodies


def _body_splices(before: ParsedDocument, here: Section, body: str) -> list[Splice]:
    text, newline, own, span = before.text, before.newline, here.own, here.body
    ends_in_heading = own.end < len(text)
    if span.start < span.end:
        after = split_line_ends(text[span.end : own.end])
        if not body:  # including its line end, so that no blank line remains
            return [Splice(LineSpan(span.start, span.end + len(after[0]) if after else span.end), "")]
        runs_on = ends_in_heading and len(after) < 2
        return [Splice(span, body), *([Splice(span, body + newline)] if runs_on else [])]
    if own.start == here.heading.end:  # the heading is the last line and has no line end
        return [Splice(span, newline + body)]
    blank = [line for line in split_line_ends(own.of(text)) if line.endswith(("\r", "\n"))]
    at = own.start + (len(blank[0]) if blank else 0)
    apart = newline if ends_in_heading and len(blank) < 2 else ""
    return [Splice(LineSpan(at, at), body + newline + apart)]


def _trim_blank_lines(body: str) -> str:
    lines = TextLines.of(body)
    filled = [at for at in range(len(lines)) if lines.content(at).strip(" \t")]
    return lines.span(filled[0], filled[-1] + 1).of(body) if filled else ""


def _adapt_line_ends(body: str, old: str, newline: str) -> str:
    """Return `body` with the file's line end, except that existing lines keep theirs."""
    new, was = TextLines.of(body), TextLines.of(old)
    lines, known = new.contents(0, len(new)), was.contents(0, len(was))
    ends = [newline] * (len(lines) - 1)
    if newline.join(known) != old:
        for there, here, count in SequenceMatcher(None, known, lines, autojunk=False).get_matching_blocks():
            for step in range(min(count, len(known) - 1 - there, len(lines) - 1 - here)):
                ends[here + step] = old[was.ends[there + step] : was.starts[there + step + 1]]
    return "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True))


# --- tables


def _insert_line(before: ParsedDocument, index: int, line: str) -> Splice:
    lines, newline = before.lines, before.newline
    if index < len(lines):
        return Splice(LineSpan(lines.starts[index], lines.starts[index]), line + newline)
    return Splice(LineSpan(lines.ends[index - 1], lines.ends[index - 1]), newline + line)


def _replace_lines(before: ParsedDocument, first: int, contents: Sequence[str]) -> Splice:
    """Return a splice that replaces whole lines from index `first` on and keeps their line ends."""
    lines, last = before.lines, first + len(contents) - 1
    ends = [before.text[lines.ends[at] : lines.starts[at + 1]] for at in range(first, last)]
    text = "".join(line + end for line, end in zip(contents, [*ends, ""], strict=True))
    return Splice(lines.span(first, last + 1), text)


def _with_rows(
    before: D,
    table: MarkdownTable,
    at: int,
    splices: Sequence[Splice],
    texts: Sequence[Sequence[str]],
) -> D:
    def check(after: ParsedDocument) -> None:
        verify_front_matter(before, after)
        verify_sections(before, after, at)
        there = after.outline.headings[at]
        now = next((other for other in after.tables(there) if other.first == table.first), None)
        if now is None or [list(row.texts) for row in now.rows] != [list(row) for row in texts]:
            raise EditRejected(
                "the edit would change other rows of the table",
                hint="add outer pipes to the rows: | a | b |",
            )
        if now.header.texts != table.header.texts:
            raise EditRejected("the edit would change the header of the table")

    return _apply_first_valid(before, splices, check)


def _find_table_heading(document: ParsedDocument, table: MarkdownTable) -> int:
    """Return the outline index of the heading above a table, which must be of this version of the file."""
    for at, heading in enumerate(document.outline.headings):
        if heading.own.start <= table.header.span.start < heading.own.end and table in document.tables(heading):
            return at
    raise EditRejected("the table is not in this version of the file", hint="reload it")


def _find_heading(document: ParsedDocument, section: Section) -> int:
    """Return the outline index of a section, which may be of an older version of the file."""
    for at, here in enumerate(document.outline.headings):
        if (here.path, here.index) == (section.path, section.index):
            return at
    raise EditRejected(f"the section {section.address!r} is not in this version of the file", hint="reload it")
