"""The mapping sheet: rows evaluated for sample records, and target fields without a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from speclab.core.errors import EditRejected
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.mapping import Mapper, RowFailure, RowResult
from speclab.mapping.fields import Field, Suggestion, find_unmapped, suggest
from speclab.mapping.lint import check_and_compile, check_samples
from speclab.mapping.problems import HeadingLocation
from speclab.mapping.types import kind_label
from speclab.spec.document import FIELD_MAPPING, Document
from speclab.spec.integration import MappingRow
from speclab.spec.parser import ParseResult, read
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.rules import read_rows
from speclab.spec.settings import MappingSettings
from speclab.spec.table import NOTES, SOURCE, TARGET, TRANSFORMATION, MarkdownTable, TableRow, row_with_cell

COLUMNS: Final = (SOURCE, TARGET, TRANSFORMATION, NOTES)


@dataclass(frozen=True, slots=True)
class CellProblem:
    """A problem in one cell: `start` to `end` are offsets in its text."""

    column: str
    start: int
    end: int
    message: str
    code: str = ""
    fix: str | None = None
    level: Level = Level.ERROR


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of a row for one record, with the failure (of a step or of the contract), if any."""

    result: RowResult
    failure: RowFailure | None


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row of the table: its cells by column, and its mapper, if it can be compiled."""

    index: int
    line: int
    texts: Mapping[str, str]
    written: MappingRow | None
    mapper: Mapper | None
    problems: tuple[CellProblem, ...] = ()

    @property
    def target(self) -> str:
        """The target path, which identifies the row; the text of its cell if that is not a path."""
        return self.written.target if self.written is not None else self.texts[TARGET]

    @property
    def blank(self) -> bool:
        """Whether all cells are empty."""
        return not any(self.texts.values())

    def outcome(self, record: Record) -> RowOutcome | None:
        """Return the outcome for `record`; None if the row cannot run."""
        if self.mapper is None:
            return None
        (result,) = self.mapper.explain(record)
        if result.failure is not None:
            return RowOutcome(result, result.failure)
        failures = self.mapper.evaluate(record).failures
        return RowOutcome(result, failures[0] if failures else None)

    def full_value(self, record: Record) -> Json:
        """Return the whole value that the row makes of `record`; `outcome` shortens long ones for the screen.

        Raises `MappingFailure` if the record fails on the row, and `KeyError` if the row leaves its field out.
        """
        if self.mapper is None:
            raise KeyError(self.target)
        return FieldPath.parse(self.target).get(self.mapper.map(record))


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """How many sample records pass, and which fail: the indices of the records by row.

    Records that the filter cannot decide fail on the row "" of `failing`; `undecided` has the reason. `missing` are
    problems of source fields that no record has.
    """

    passed: int
    filtered: frozenset[int]
    failing: Mapping[str, tuple[int, ...]]
    undecided: Mapping[int, str]
    missing: tuple[Problem, ...]

    @property
    def failed(self) -> int:
        """The number of records that fail on at least one row."""
        return len({number for numbers in self.failing.values() for number in numbers})


@dataclass(frozen=True, slots=True)
class MappingSheet:
    """All rows of a document's Field Mapping, and the settings beside them."""

    document: Document
    table: MarkdownTable | None
    reading: ParseResult
    settings: MappingSettings
    rows: tuple[SheetRow, ...] = ()

    @classmethod
    def of(cls, document: Document, before: MappingSheet | None = None) -> MappingSheet:
        """Build the sheet of `document`; rows that are unchanged since `before` are not compiled again."""
        table, reading = document.mapping, read(document, Level.INFO)
        settings = reading.mapping or MappingSettings.model_validate({})
        if table is None:
            return cls(document, None, reading, settings)
        known: dict[tuple[int, str], SheetRow] = {}
        if before is not None and before.settings == settings:
            known = {(row.line, before.document.lines.content(row.line - 1)): row for row in before.rows}
        written = {row.line: row for row in reading.rows}
        rows, checks = [], _checks_by_path(settings)
        for index, row in enumerate(table.rows):
            made, mine = known.get((row.line, document.lines.content(row.line - 1))), written.get(row.line)
            if made is None or made.index != index or made.written != mine:
                made = _row(table, index, mine, settings, checks, document.text)
            rows.append(made)
        return cls(document, table, reading, settings, tuple(rows))

    def row(self, target: str) -> SheetRow | None:
        """Return the row with that target path."""
        return next((row for row in self.rows if row.target == target), None)

    def trial(self, index: int, column: str, text: str) -> SheetRow:
        """Return the row `index` as it would be with `text` in that column; the document is not changed."""
        if self.table is None:
            raise EditRejected("there is no Field Mapping table")
        lines, first = self.document.lines, self.table.first
        header = lines.content(first)
        line = row_with_cell(lines.content(first + 2 + index), self.table.column(column), text, header)
        small = Document.parse(f"## {FIELD_MAPPING}\n\n{header}\n{lines.content(first + 1)}\n{line}\n")
        table = small.mapping
        if table is None or len(table.rows) != 1:
            raise EditRejected("the cell would not be read back as one row of the table")
        findings = ProblemCollector("", small.text, small.position)
        rows = read_rows(small, small.sections[0], findings)
        made = _row(table, 0, rows[0] if rows else None, self.settings, _checks_by_path(self.settings), small.text)
        problems = [*made.problems, *_cell_problems(findings.in_order(), table, 0, small.text)]
        return SheetRow(index, made.line, made.texts, made.written, made.mapper, tuple(dict.fromkeys(problems)))

    def problems(self, row: SheetRow, found: Iterable[Problem]) -> tuple[CellProblem, ...]:
        """Return the problems of `row`: its own, and those of `found` on its line."""
        if self.table is None:
            return row.problems
        more = _cell_problems(found, self.table, row.index, self.document.text)
        return tuple(dict.fromkeys((*row.problems, *more)))

    def check_records(self, records: Sequence[Record]) -> SampleCheck:
        """Check all `records` against the rows that can run."""
        mapper = self._whole()
        passed, filtered, failing, undecided = 0, set(), dict[str, list[int]](), dict[int, str]()
        for number, record in enumerate(records):
            failures: tuple[RowFailure, ...] = ()
            if mapper is not None:
                evaluation = mapper.evaluate(record)
                if evaluation.is_filtered:
                    filtered.add(number)
                    continue
                failures = evaluation.failures
            for row in dict.fromkeys(failure.row or "" for failure in failures):
                failing.setdefault(row, []).append(number)
            if failures and failures[0].row is None:
                undecided[number] = str(failures[0])
            passed += not failures
        by_row = {row: tuple(numbers) for row, numbers in failing.items()}
        missing = check_samples(mapper, records, "") if mapper is not None else []
        return SampleCheck(passed, frozenset(filtered), by_row, undecided, tuple(missing))

    def _whole(self) -> Mapper | None:
        """Return a mapper of the rows that can run, with the filter and the checks that can be used."""
        rows = [row.written for row in self.rows if row.written is not None and row.mapper is not None]
        targets = {row.target for row in rows}
        checks = {target: schema for target, schema in self.settings.check.items() if target in targets}
        kept = self.settings.model_copy(update={"check": checks})
        for settings in (kept, kept.model_copy(update={"filter": None}), _no_check(kept)):
            if rows and (mapper := check_and_compile(rows, settings, "", HeadingLocation(1)).mapper) is not None:
                return mapper
        return None


_Checks: TypeAlias = "Mapping[FieldPath | str, dict[str, dict[str, Json]]]"


def _checks_by_path(settings: MappingSettings) -> _Checks:
    """Group the checks by the path of their target field."""
    checks: dict[FieldPath | str, dict[str, dict[str, Json]]] = {}
    for target, schema in settings.check.items():
        checks.setdefault(_path(target), {})[target] = schema
    return checks


def _row(
    table: MarkdownTable, index: int, written: MappingRow | None, settings: MappingSettings, checks: _Checks, text: str
) -> SheetRow:
    row = table.rows[index]
    texts = {name: _text(table, row, name) for name in COLUMNS}
    if written is None:
        return SheetRow(index, row.line, texts, None, None)
    own = checks.get(_path(written.target), {})
    for alone in (settings.model_copy(update={"filter": None, "check": own}), _no_check(settings)):
        assembly = check_and_compile([written], alone, "", HeadingLocation(1))
        if assembly.mapper is not None:
            break
    # problems of the settings belong to the settings, not to a row
    problems = [problem for problem in assembly.problems if problem.line == row.line]
    return SheetRow(index, row.line, texts, written, assembly.mapper, _cell_problems(problems, table, index, text))


def _no_check(settings: MappingSettings) -> MappingSettings:
    return settings.model_copy(update={"filter": None, "check": {}})


def _path(target: str) -> FieldPath | str:
    try:
        return FieldPath.parse(target)
    except PathSyntaxError:
        return target


def _text(table: MarkdownTable, row: TableRow, name: str) -> str:
    at = table.columns.get(name)
    return row.cells[at].text if at is not None and at < len(row.cells) else ""


def _cell_problems(problems: Iterable[Problem], table: MarkdownTable, index: int, text: str) -> tuple[CellProblem, ...]:
    """Return the `problems` on the line of row `index`, each in its cell."""
    row = table.rows[index]
    names = {at: name for name, at in table.columns.items()}
    found = []
    for problem in problems:
        if problem.line != row.line:
            continue
        at = max((at for at, cell in enumerate(row.cells) if cell.column <= problem.column), default=0)
        raw = row.cells[at].span.of(text)
        start, end = (_offset(raw, problem.column + length - row.cells[at].column) for length in (0, problem.length))
        name = names.get(at, "")
        found.append(CellProblem(name, start, end, problem.message, problem.code, problem.fix, problem.level))
    return tuple(found)


def _offset(raw: str, offset: int) -> int:
    r"""Return the offset in the text of a cell of the character at `offset` of its source: `\|` is one character."""
    offset = max(0, min(offset, len(raw)))
    return offset - raw.count("\\|", 0, offset)


@dataclass(frozen=True, slots=True)
class UnmappedTarget:
    """A target field that no row writes: its type and whether it is required, if known, and a suggested row."""

    target: str
    type: str
    required: bool
    suggestion: Suggestion | None

    @property
    def key(self) -> str:
        """The key of its row in the grid."""
        return f"+{self.target}"


SuggestionCache: TypeAlias = "dict[tuple[str, str], Suggestion | None]"
"""Suggestions by target and schema: with hundreds of fields on both sides they take a moment to compute."""


def find_unmapped_targets(
    sheet: MappingSheet, fields: Sequence[Field], target_fields: Sequence[Field], cache: SuggestionCache
) -> list[UnmappedTarget]:
    """Return the target fields that no row writes: required ones first, then those of `check`, then `target_fields`.

    `fields` are the source's, from which rows are suggested; `cache` holds suggestions made from the same fields.
    """
    known = {str(field.path): field for field in target_fields}
    required = list(dict.fromkeys([*_required(sheet), *(name for name, field in known.items() if field.required)]))
    written = [row.target for row in sheet.rows if row.target]
    found = []
    for target in find_unmapped(written, [*required, *sheet.settings.check, *known]):
        schema = sheet.settings.check.get(target)
        kind = schema.get("type") if schema else None
        if kind is None and target in known:
            kind = kind_label(known[target].kind)
        key = (target, repr(schema))
        if key not in cache:
            cache[key] = next(iter(suggest(target, fields, schema)), None)
        found.append(UnmappedTarget(target, kind if isinstance(kind, str) else "", target in required, cache[key]))
    return found


def _required(sheet: MappingSheet) -> Iterator[str]:
    """Yield the target's key fields and the fields its paths and queries need."""
    integration = sheet.reading.integration
    if integration is None:
        return
    target = integration.target
    yield from [target.key] if isinstance(target.key, str) else target.key
    for paths in target.get_required_paths().values():
        yield from map(str, paths)
