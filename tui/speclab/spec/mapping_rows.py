"""Rows of the Field Mapping table: paths without their system prefix, with their location in the file."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import find_likely_name
from speclab.spec.document import Document
from speclab.spec.integration import MappingRow
from speclab.spec.outline import LineSpan, Section
from speclab.spec.problems import ProblemCollector
from speclab.spec.table import NOTES, SOURCE, TARGET, TRANSFORMATION, MarkdownTable, TableCell, TableRow

_EXAMPLES: Final = frozenset(
    {("source.field1", "target.field1", "Direct"), ("source.field2", "target.field2", "Uppercase")}
)
_NOTHING: Final = frozenset({"", "-", "\u2013", "\u2014"})
_SEPARATOR: Final = re.compile(r'\["(?:[^"\\]|\\.)*"\]|(?P<comma>,)')
_ESCAPED_PIPE: Final = re.compile(r"\\\|")


def read_rows(document: Document, section: Section, findings: ProblemCollector) -> tuple[MappingRow, ...]:
    """Return the rows of the Field Mapping, without invalid rows, which are reported."""
    table = document.mapping
    if table is None:
        _report_no_table(document, section, findings)
        return ()
    if TRANSFORMATION not in table.columns:
        findings.warning("D202", table.header.span, f"no column {TRANSFORMATION}; every row is treated as Direct")
    written = [row for row in table.rows if any(row.texts)]
    if all(_texts(table, row)[:3] in _EXAMPLES for row in written):
        what = "still has the template's example rows" if written else "has no rows"
        findings.need("D201", section.heading, f"the Field Mapping {what}; a run needs one row per target field")
        return ()
    rows: list[MappingRow] = []
    lines: dict[str, int] = {}
    for row in written:
        read = _row(table, row, findings)
        if read is None:
            continue
        target = str(FieldPath.parse(read.target))
        if target in lines:
            message = f"{read.target!r} is already the target on line {lines[target]}"
            findings.error("D301", row.cells[table.columns[TARGET]].span, message)
            continue
        lines[target] = read.line
        rows.append(read)
    return tuple(rows)


def _report_no_table(document: Document, section: Section, findings: ProblemCollector) -> None:
    table = document.table(section)
    if table is None:
        findings.need("D201", section.heading, "the Field Mapping has no table; a run needs one row per target field")
        return
    headers = list(table.header.texts)
    for name in (SOURCE, TARGET):
        if name not in headers:
            cell = table.header.cells[headers.index(meant)] if (meant := find_likely_name(name, headers)) else None
            message = f"the Field Mapping has no column {name!r}" + (
                f"; did you mean {meant!r} to be it?" if meant else ""
            )
            findings.error("D202", cell.span if cell else table.header.span, message, name if cell else None)


@dataclass(frozen=True, slots=True)
class _Text:
    """The text of a cell without the backticks of a code span, with the location of each character."""

    text: str
    start: int  # offset in the file
    column: int
    escapes: tuple[int, ...]  # offsets in `text` of characters with a backslash before them

    @classmethod
    def of(cls, cell: TableCell, source: str) -> _Text:
        raw = cell.span.of(source)
        escapes = [match.start() - nth for nth, match in enumerate(_ESCAPED_PIPE.finditer(raw))]
        whole = cls(cell.text, cell.span.start, cell.column, tuple(escapes))
        inner = cell.text[1:-1]
        coded = len(cell.text) > 2 and cell.text[0] == cell.text[-1] == "`" and "`" not in inner
        return whole.part(1, len(cell.text) - 1) if coded else whole

    def part(self, start: int, end: int) -> _Text:
        """Return the characters from `start` to `end`, stripped."""
        text = self.text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        before = start + bisect_left(self.escapes, start)
        inside = tuple(at - start for at in self.escapes if start <= at < start + len(text))
        return _Text(text, self.start + before, self.column + before, inside)

    def span(self, start: int = 0, end: int | None = None) -> LineSpan:
        """Return the span of these characters in the file."""
        end = len(self.text) if end is None else end
        return LineSpan(
            self.start + start + bisect_left(self.escapes, start), self.start + end + bisect_left(self.escapes, end)
        )

    def without(self, prefix: str) -> _Text:
        """Return the text without the system prefix."""
        for written in (f"{prefix}.", f"{prefix}["):
            if self.text.startswith(written):
                return self.part(len(prefix) + written.endswith("."), len(self.text))
        return self


def _texts(table: MarkdownTable, row: TableRow) -> tuple[str, ...]:
    return tuple(
        row.cells[table.columns[name]].text if name in table.columns else ""
        for name in (SOURCE, TARGET, TRANSFORMATION, NOTES)
    )


def _row(table: MarkdownTable, row: TableRow, findings: ProblemCollector) -> MappingRow | None:
    if row.surplus:
        at = LineSpan(row.cells[-1].span.end, row.span.end)
        findings.warning("D304", at, r"more cells than the table has columns; write a pipe inside a cell as \|")
    target_cell = row.cells[table.columns[TARGET]]
    target = _Text.of(target_cell, findings.text).without("target")
    sources = list(_sources(_Text.of(row.cells[table.columns[SOURCE]], findings.text)))
    good = [_check_path(source, "source", findings) for source in sources]
    if target.text in _NOTHING:
        findings.error("D302", target_cell.span, "this row has no target; name the field it fills, or delete the row")
        return None
    if not _check_path(target, "target", findings) or not all(good):
        return None
    transformation = _Text("", row.span.end, row.cells[-1].column, ())
    if TRANSFORMATION in table.columns:
        transformation = _Text.of(row.cells[table.columns[TRANSFORMATION]], findings.text)
    return MappingRow(
        sources=tuple(source.text for source in sources),
        target=target.text,
        transformation=transformation.text,
        notes=_texts(table, row)[3],
        line=row.line,
        source_columns=tuple(source.column for source in sources),
        target_column=target.column,
        transformation_column=transformation.column,
        escapes=transformation.escapes,
    )


def _sources(cell: _Text) -> Iterator[_Text]:
    """Yield the source fields of a cell, without their prefix; none if the cell is blank or a dash."""
    if cell.text in _NOTHING:
        return
    commas = [match.start() for match in _SEPARATOR.finditer(cell.text) if match["comma"]]
    if cell.text.startswith("="):
        commas = []
    for start, end in zip([0, *(at + 1 for at in commas)], [*commas, len(cell.text)], strict=True):
        part = cell.part(start, end)
        if len(part.text) > 2 and part.text[0] == part.text[-1] == "`":
            part = part.part(1, len(part.text) - 1)
        yield part.without("source")


def _check_path(path: _Text, what: str, findings: ProblemCollector) -> bool:
    try:
        FieldPath.parse(path.text)
    except PathSyntaxError as error:
        offset = min(error.offset, max(len(path.text) - 1, 0))
        message = f"{path.text!r} is not a valid {what} path: {error}"
        if path.text.startswith("="):
            message, offset = f"{path.text!r} is not a valid {what} path; write expressions in {TRANSFORMATION}", 0
        findings.error("D303", path.span(offset), message)
        return False
    return True
