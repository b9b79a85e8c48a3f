"""Edits: one splice into the text, a new reading of all of it, and a proof that nothing else reads otherwise.

Each edit knows one or more ways to be written; the first whose result holds is the one. If none does, `EditRefused`
says why, in terms of the spec, and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from speclab.errors import EditRefused
from speclab.spec import rows
from speclab.spec.front_matter import Settable, Splice, read_front_matter, spellings
from speclab.spec.lines import Lines, Span, split_line_ends
from speclab.spec.outline import Section
from speclab.spec.table import Table
from speclab.spec.verify import same_entries, same_front_matter, same_sections, same_value

if TYPE_CHECKING:
    from speclab.spec.document import Document


def with_body(before: Document, section: Section, body: str) -> Document:
    """`before` with `body` as the section's own text, in the file's line ends and without blank lines around it."""
    at = _heading_at(before, section)
    here = before.outline.headings[at]
    if body == before.body(here):
        return before
    body = _adapted(_trimmed(body), before.body(here), before.newline)

    def check(after: Document) -> None:
        same_front_matter(before, after)
        same_sections(before, after, at)
        if after.body(after.outline.headings[at]) != body:
            raise EditRefused(f"the text would not be read back as the section {here.title!r}")

    return _first_that_holds(before, _body_splices(before, here, body), check)


def with_front_matter(before: Document, key: str, value: Settable) -> Document:
    """`before` with `value` for that key of its front matter, on a new line where the key is not there yet."""
    old = before.front_matter
    if old.root is None and old.problems:
        line = old.problems[0].line
        raise EditRefused(f"line {line}: {old.problems[0].message}", hint="mend the front matter first")
    if key in old.values and same_value(old.values[key], value):
        return before

    def reads_back(splice: Splice) -> bool:
        found = read_front_matter(Lines.of_file(_spliced(before.text, splice)), "")
        return key in found.values and same_value(found.values[key], value)

    def check(after: Document) -> None:
        same_entries(old, after.front_matter, key)
        same_sections(before, after, None)

    splices = [splice for splice in spellings(before.text, old, key, value, before.newline) if reads_back(splice)]
    if not splices:
        raise EditRefused(f"{key!r} cannot be set to {value!r} where it stands", hint="edit the front matter by hand")
    return _first_that_holds(before, splices, check)


def with_cell(before: Document, table: Table, row: int, column: str, text: str) -> Document:
    """`before` with `text`, blanks around it left out, in one cell of `table`; between outer pipes if it needs them."""
    here = _heading_of(before, table)
    at = table.column(column)
    index = table.first + 2 + row
    line, header = before.lines.content(index), before.lines.content(table.first)
    texts = [list(other.texts) for other in table.rows]
    texts[row][at] = text.strip()
    lines = [rows.with_cell(line, at, text, header), rows.with_cell(rows.with_outer_pipes(line), at, text, header)]
    span = before.lines.span(index, index + 1)
    return _with_rows(before, table, here, [Splice(span, written) for written in lines], texts)


def with_row_added(before: Document, table: Table, at: int, cells: Sequence[str]) -> Document:
    """`before` with a new row of `cells`, in the header's order, as the row `at` of `table`."""
    here = _heading_of(before, table)
    at = min(at, len(table.rows))
    header = before.lines.content(table.first)
    neighbour = before.lines.content(table.first + 2 + max(at - 1, 0)) if table.rows else header
    texts = [list(row.texts) for row in table.rows]
    texts.insert(at, [cell.strip() for cell in cells])
    lines = [rows.like(neighbour, header, cells), rows.like(neighbour, header, cells, piped=True)]
    return _with_rows(before, table, here, [_line_added(before, table.first + 2 + at, line) for line in lines], texts)


def with_row_duplicated(before: Document, table: Table, row: int) -> Document:
    """`before` with that row of `table` twice, one below the other."""
    here = _heading_of(before, table)
    texts = [list(other.texts) for other in table.rows]
    texts.insert(row + 1, texts[row])
    index = table.first + 2 + row
    return _with_rows(before, table, here, [_line_added(before, index + 1, before.lines.content(index))], texts)


def with_row_deleted(before: Document, table: Table, row: int) -> Document:
    """`before` without that row of `table`."""
    here = _heading_of(before, table)
    texts = [list(other.texts) for at, other in enumerate(table.rows) if at != row]
    lines, index = before.lines, table.first + 2 + row
    last = index + 1 == len(lines)
    span = (
        Span(lines.ends[index - 1], lines.ends[index]) if last else Span(lines.starts[index], lines.starts[index + 1])
    )
    return _with_rows(before, table, here, [Splice(span, "")], texts)


def with_row_moved(before: Document, table: Table, row: int, to: int) -> Document:
    """`before` with that row of `table` as its row `to`; line ends stay where they are."""
    here = _heading_of(before, table)
    order = [at for at in range(len(table.rows)) if at != row]
    order.insert(to, row)
    texts = [list(table.rows[at].texts) for at in order]
    body = table.first + 2
    low, high = sorted((row, to))
    moved = [before.lines.content(body + at) for at in order[low : high + 1]]
    return _with_rows(before, table, here, [_lines_replaced(before, body + low, moved)], texts)


def with_table_aligned(before: Document, table: Table) -> Document:
    """`before` with every column of `table` as wide as its widest cell."""
    here = _heading_of(before, table)
    lines = before.lines.contents(table.first, table.first + 2 + len(table.rows))
    texts = [list(row.texts) for row in table.rows]
    return _with_rows(before, table, here, [_lines_replaced(before, table.first, rows.aligned(lines))], texts)


def _first_that_holds(before: Document, splices: Iterable[Splice], check: Callable[[Document], None]) -> Document:
    refusal: EditRefused | None = None
    for splice in splices:
        text = _spliced(before.text, splice)
        try:
            return _checked(before, text, check)
        except EditRefused as error:
            refusal = refusal or error  # of the plainest way
    if refusal is None:
        raise AssertionError("an edit has at least one way to be written")
    raise refusal


def _checked(before: Document, text: str, check: Callable[[Document], None]) -> Document:
    if text == before.text:
        return before
    try:
        lossless = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        lossless = False
    if not lossless:
        raise EditRefused("the text has half a character in it, which no file can hold")
    after = type(before).parse(text, before.path)
    check(after)
    return after


def _spliced(text: str, splice: Splice) -> str:
    return text[: splice.span.start] + splice.text + text[splice.span.end :]


# --- bodies


def _body_splices(before: Document, here: Section, body: str) -> list[Splice]:
    text, newline, own, span = before.text, before.newline, here.own, here.body
    ends_in_heading = own.end < len(text)
    if span.start < span.end:
        after = split_line_ends(text[span.end : own.end])
        if not body:  # with its line end, so that no blank line is left in its place
            return [Splice(Span(span.start, span.end + len(after[0]) if after else span.end), "")]
        runs_on = ends_in_heading and len(after) < 2
        return [Splice(span, body), *([Splice(span, body + newline)] if runs_on else [])]
    if own.start == here.heading.end:  # the heading is the file's last line and has no line end
        return [Splice(span, newline + body)]
    blank = [line for line in split_line_ends(own.of(text)) if line.endswith(("\r", "\n"))]
    at = own.start + (len(blank[0]) if blank else 0)
    apart = newline if ends_in_heading and len(blank) < 2 else ""
    return [Splice(Span(at, at), body + newline + apart)]


def _trimmed(body: str) -> str:
    lines = Lines.of(body)
    filled = [at for at in range(len(lines)) if lines.content(at).strip(" \t")]
    return lines.span(filled[0], filled[-1] + 1).of(body) if filled else ""


def _adapted(body: str, old: str, newline: str) -> str:
    """`body` with the file's line end, but each line that was there with the line end it had."""
    new, was = Lines.of(body), Lines.of(old)
    lines, known = new.contents(0, len(new)), was.contents(0, len(was))
    ends = [newline] * (len(lines) - 1)
    if newline.join(known) != old:
        for there, here, count in SequenceMatcher(None, known, lines, autojunk=False).get_matching_blocks():
            for step in range(min(count, len(known) - 1 - there, len(lines) - 1 - here)):
                ends[here + step] = old[was.ends[there + step] : was.starts[there + step + 1]]
    return "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True))


# --- tables


def _line_added(before: Document, index: int, line: str) -> Splice:
    lines, newline = before.lines, before.newline
    if index < len(lines):
        return Splice(Span(lines.starts[index], lines.starts[index]), line + newline)
    return Splice(Span(lines.ends[index - 1], lines.ends[index - 1]), newline + line)


def _lines_replaced(before: Document, first: int, contents: Sequence[str]) -> Splice:
    """A splice of whole lines from index `first` on, each with the line end that stands there."""
    lines, last = before.lines, first + len(contents) - 1
    ends = [before.text[lines.ends[at] : lines.starts[at + 1]] for at in range(first, last)]
    text = "".join(line + end for line, end in zip(contents, [*ends, ""], strict=True))
    return Splice(lines.span(first, last + 1), text)


def _with_rows(
    before: Document, table: Table, at: int, splices: Sequence[Splice], texts: Sequence[Sequence[str]]
) -> Document:
    def check(after: Document) -> None:
        same_front_matter(before, after)
        same_sections(before, after, at)
        there = after.outline.headings[at]
        now = next((other for other in after.tables(there) if other.first == table.first), None)
        if now is None or [list(row.texts) for row in now.rows] != [list(row) for row in texts]:
            raise EditRefused(
                "the table would not be read back as meant: its rows would be others",
                hint="give the rows outer pipes: | a | b |",
            )
        if now.header.texts != table.header.texts:
            raise EditRefused("the table's header would be read otherwise")

    return _first_that_holds(before, splices, check)


def _heading_of(document: Document, table: Table) -> int:
    """The place in the outline of the heading over a table, which must be of this version of the file."""
    for at, heading in enumerate(document.outline.headings):
        if heading.own.start <= table.header.span.start < heading.own.end and table in document.tables(heading):
            return at
    raise EditRefused("the table is not in this version of the file", hint="read it again")


def _heading_at(document: Document, section: Section) -> int:
    """The place of a section in the outline; it may be of an older version of the file."""
    for at, here in enumerate(document.outline.headings):
        if (here.path, here.index) == (section.path, section.index):
            return at
    raise EditRefused(f"the section {section.address!r} is not in this version of the file", hint="read it again")
