"""A review report of a spec for the owners of both systems, as Markdown or as one HTML file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from speclab.core.errors import SpecError
from speclab.core.masking import MASKED, FieldPolicy, FieldRule, Masker
from speclab.core.text import UNPRINTABLE, escape_controls, format_count
from speclab.spec import document as sections
from speclab.spec.approval import is_changed, read_approval
from speclab.spec.document import Document, Section
from speclab.spec.guide import is_template_text
from speclab.spec.outline import BlockKind
from speclab.spec.task_list import read_tasks
from speclab.workbench.lifecycle import find_criteria, find_open_problems, get_spec_id

if TYPE_CHECKING:
    from speclab.core.json import Json, Record
    from speclab.mapping import Mapper, RowResult
    from speclab.spec.parser import ParseResult
    from speclab.spec.problems import Problem

_SECRETS: Final = frozenset({"A101", "A104"})
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_TITLE_PREFIX: Final = re.compile(r"\A\s*spec\s*:\s*", re.IGNORECASE)
_LONGEST: Final = 60  # characters of a sample value
_NOTHING: Final = "Not described yet."


@dataclass(frozen=True, slots=True)
class ReviewHeading:
    """A heading of level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class ReviewProse:
    """Markdown from the spec."""

    text: str


@dataclass(frozen=True, slots=True)
class ReviewCode:
    """Text that is shown as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class ReviewTable:
    """A table; the columns in `code` are shown in a fixed-width font. `signature` leaves room to write by hand."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    code: frozenset[int] = frozenset()
    signature: bool = False


@dataclass(frozen=True, slots=True)
class ReviewList:
    """A list; with `boxes`, each entry is ticked or not."""

    entries: Sequence[str]
    boxes: Sequence[bool] = ()


ReviewBlock: TypeAlias = ReviewHeading | ReviewProse | ReviewCode | ReviewTable | ReviewList


@dataclass(frozen=True, slots=True)
class Review:
    """A report: its title and its blocks, in order."""

    title: str
    blocks: Sequence[ReviewBlock]

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        return _clean("\n\n".join([f"# {self.title}", *map(_render_markdown, self.blocks)]) + "\n")

    def to_html(self) -> str:
        """Return the report as one HTML file without scripts or references to other files."""
        body = "\n".join([f"<h1>{escape(self.title)}</h1>", *map(_render_html, self.blocks)])
        return _clean(f"{_HEAD.replace('{title}', escape(self.title))}{body}\n</body>\n</html>\n")


def build_review(document: Document, path: Path, samples: Sequence[Record], now: datetime) -> Review:
    """Build the report of the spec at `path`; the mapping is shown with the first of `samples` that passes.

    Sensitive fields of samples are masked as in the run log. A settings block with a secret is left out.
    """
    from speclab.spec.parser import examine

    builder = _Builder(document, find_open_problems(document), examine(document))
    title = _TITLE_PREFIX.sub("", document.title) or get_spec_id(document, path)
    return Review(f"Review: {title}", list(builder.build(path, samples, now)))


@dataclass(frozen=True, slots=True)
class _Builder:
    document: Document
    problems: Sequence[Problem]
    reading: ParseResult

    def build(self, path: Path, samples: Sequence[Record], now: datetime) -> Iterator[ReviewBlock]:
        yield self._describe_spec(path, now)
        yield ReviewHeading("Overview")
        yield from self._show("Problem Statement", "")
        for address in (sections.INTEGRATION_TYPE, sections.DIRECTION):
            yield from self._show(address)
        yield ReviewHeading("Systems")
        for address in (sections.SOURCE_SYSTEM, sections.SOURCE_AUTH, sections.TARGET_SYSTEM, sections.TARGET_AUTH):
            yield from self._show(address)
        yield from self._show(sections.CREDENTIALS)
        yield ReviewHeading("Field mapping")
        yield from self._show_mapping(samples)
        yield ReviewHeading("Schedule")
        for address in (sections.FREQUENCY, sections.VOLUME):
            yield from self._show(address)
        yield ReviewHeading("Error handling")
        for address in (sections.ERROR_TYPES, sections.RETRY_LOGIC, sections.NOTIFICATIONS, sections.ALERTS):
            yield from self._show(address)
        yield ReviewHeading("Dependencies and risks")
        for address in (sections.API_DEPENDENCIES, sections.DATA_DEPENDENCIES, sections.RISKS, "Out of Scope"):
            yield from self._show(address)
        yield from self._show_plan()
        yield ReviewHeading("Open problems")
        found = [f"Line {one.line}: {one.message} ({one.code})" for one in self.problems]
        yield ReviewList(found) if found else ReviewProse("None.")
        yield ReviewHeading("Acceptance criteria")
        yield from self._show_criteria()
        yield ReviewHeading("Signatures")
        owners = ("Owner of the source system", "Owner of the target system", "Owner of the integration")
        yield ReviewTable(
            ("Role", "Name", "Date", "Signature"), [(name, "", "", "") for name in owners], signature=True
        )

    def _describe_spec(self, path: Path, now: datetime) -> ReviewTable:
        document, approval = self.document, read_approval(self.document)
        decision = "not approved yet"
        if approval is not None:
            parts = (("by", approval.by), ("on", approval.at[:10]))
            decision = "approved " + " ".join(f"{word} {value}" for word, value in parts if value)
            decision += "; the spec changed since" if is_changed(document) else ""
        return ReviewTable(
            ("Spec", get_spec_id(document, path)),
            [
                ("Status", document.front_matter.get_text("status", document.text) or "none"),
                ("Approval", decision),
                ("File", path.name),
                ("Version (SHA-256)", document.hash[:16]),
                ("Report of", f"{now:%Y-%m-%d}"),
            ],
        )

    # Sections

    def _find(self, address: str) -> Section | None:
        return next(iter(self.document.outline.at(address)), None)

    def _show(self, address: str, title: str | None = None) -> Iterator[ReviewBlock]:
        """Yield a section: its text, tables and settings, without comments and example text of the template."""
        section = self._find(address)
        if title is None:
            yield ReviewHeading(address.rpartition(" > ")[2], 3)
        if section is None or section.empty or is_template_text(self.document, section):
            yield ReviewProse(_NOTHING)
            return
        yield from self._show_blocks(section)

    def _show_blocks(self, section: Section, *, without: BlockKind | None = None) -> Iterator[ReviewBlock]:
        secret = next((one.line for one in self.problems if one.code in _SECRETS and self._is_in(one, section)), None)
        tables = iter(self.document.tables(section))
        for block in section.blocks:
            if block.kind is without:
                continue
            if block.kind is BlockKind.FENCE and block.content is not None:
                hidden = secret is not None and block.first < secret <= block.end
                text = f"(left out: it contains a secret on line {secret})" if hidden else ""
                yield ReviewCode(text or block.content.of(self.document.text))
            elif block.kind is BlockKind.TABLE:
                table = next(tables)
                yield ReviewTable(table.header.texts, [row.texts for row in table.rows])
            elif text := _COMMENT.sub("", block.span.of(self.document.text)).strip():
                yield ReviewProse(text)

    def _is_in(self, problem: Problem, section: Section) -> bool:
        first, last = (self.document.position(at)[0] for at in (section.body.start, section.body.end))
        return first <= problem.line <= last

    def _show_criteria(self) -> Iterator[ReviewBlock]:
        criteria = find_criteria(self.document)
        if not criteria:
            yield ReviewProse(_NOTHING)
            return
        names = [f"{one.text} (measured: {one.expression.text})" if one.expression else one.text for one in criteria]
        yield ReviewList(names, [one.ticked for one in criteria])

    def _show_plan(self) -> Iterator[ReviewBlock]:
        yield ReviewHeading("Plan")
        above = self._find(sections.PHASES)
        for section in self.document.sections:
            if above is not None and section.path[:-1] == above.path:
                yield from self._show(section.address)
        tasks = [task for task in read_tasks(self.document) if not task.obsolete]
        if tasks:
            yield ReviewHeading("Tasks", 3)
            prefix = f"{self.document.front_matter.get_text('spec_id', self.document.text)}-"
            rows = [
                (
                    task.id.removeprefix(prefix),
                    task.title,
                    task.effort or "",
                    ", ".join(name.removeprefix(prefix) for name in task.blocked_by),
                    "done" if task.done else "",
                )
                for task in tasks
            ]
            yield ReviewTable(("Task", "Title", "Effort", "Blocked by", "State"), rows)

    # The mapping

    def _show_mapping(self, samples: Sequence[Record]) -> Iterator[ReviewBlock]:
        section = self._find(sections.FIELD_MAPPING)
        rows = self.reading.rows
        if section is None or not rows:
            yield ReviewProse(_NOTHING)
            return
        yield from self._show_blocks(section, without=BlockKind.TABLE)
        mapper = self._compile() if samples else None
        results, note = _evaluate(mapper, samples)
        masked = _MaskedSample.of(results[0], self.reading) if results else None
        header = ["Target field", "Source fields", "Transformation", "Notes"]
        if masked is not None:
            header += ["Sample before", "Sample after"]
        lines = []
        for row in rows:
            cells = [row.target, ", ".join(row.sources), row.transformation or "Direct", row.notes]
            lines.append([*cells, *masked.show(row.line)] if masked is not None else cells)
        yield ReviewTable(header, lines, frozenset({0, 1, 2, 4, 5}))
        yield ReviewProse(note)

    def _compile(self) -> Mapper | None:
        from speclab.sync.prepare import prepare_mapping

        try:
            return prepare_mapping(self.document)
        except SpecError:
            return None  # the problems are listed


@dataclass(frozen=True, slots=True)
class _Sample:
    """A source record, the mapped one, and the result of each row."""

    source: Record
    mapped: Record
    results: tuple[RowResult, ...]


def _evaluate(mapper: Mapper | None, samples: Sequence[Record]) -> tuple[list[_Sample], str]:
    """Return the first sample record that passes, if any, and a sentence about all of them."""
    if not samples:
        return [], "No sample records: add them with --sample FILE, or in the Mapping view."
    if mapper is None:
        return [], "The sample records cannot be mapped before the problems below are resolved."
    passed, filtered = 0, 0
    failing: Counter[str] = Counter()
    found: list[_Sample] = []
    for record in samples:
        result = mapper.evaluate(record)
        filtered += result.is_filtered
        failing.update({failure.row or "the filter" for failure in result.failures})
        if result.record is not None and not result.failures:
            passed += 1
            found = found or [_Sample(record, result.record, mapper.explain(record))]
    failed = len(samples) - passed - filtered
    counts = f"{passed:,} mapped, {filtered:,} left out by the filter, {failed:,} failed"
    where = f", at {', '.join(f'{row} ({count:,})' for row, count in failing.most_common())}" if failing else ""
    return found, f"Of {format_count(len(samples), 'sample record')}: {counts}{where}. Private fields are masked."


@dataclass(frozen=True, slots=True)
class _MaskedSample:
    """The values of a sample before and after each row, with sensitive ones masked."""

    before: Record
    after: Record
    results: tuple[RowResult, ...]
    masker: Masker

    @classmethod
    def of(cls, sample: _Sample, reading: ParseResult) -> _MaskedSample:
        rules = reading.integration.logging.fields if reading.integration is not None else {}
        policy = {
            name.casefold(): FieldRule.STORE if rule == "store" else FieldRule.MASK for name, rule in rules.items()
        }
        masker = Masker(FieldPolicy(policy), None)
        return cls(masker.mask_record(sample.source), masker.mask_record(sample.mapped), sample.results, masker)

    def show(self, line: int) -> tuple[str, str]:
        """Return the values before and after the row on `line`."""
        result = next((one for one in self.results if one.line == line), None)
        if result is None:
            return "", ""
        before = [_get(self.before, name, value) for name, value in result.sample]
        if MASKED in before or _get(self.after, result.row, result.value) == MASKED:
            return ", ".join(_shorten(MASKED) for _ in before), _shorten(MASKED)
        after = "(left out)" if result.dropped else _shorten(result.value)
        texts = (", ".join(map(_shorten, before)), after)
        return self.masker.mask_text(texts[0]) or "", self.masker.mask_text(texts[1]) or ""


def _get(record: Record, name: str, value: Json) -> Json:
    """Return the value at the path `name` of a masked record; `value` if the record does not have it."""
    from speclab.core.paths import FieldPath

    try:
        return FieldPath.parse(name).get(record)
    except (KeyError, ValueError):
        return MASKED if isinstance(value, str) and value else value


def _shorten(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _clean(text: str) -> str:
    """Return `text` as it can be printed: control characters and bytes that are not UTF-8 are made visible."""
    lines = escape_controls(text).replace("\r\n", "\n")
    return UNPRINTABLE.sub(lambda match: match[0] if match[0] in "\n\t" else "\ufffd", lines)


# --- Markdown


def _render_markdown(block: ReviewBlock) -> str:
    match block:
        case ReviewHeading(text, level):
            return f"{'#' * level} {text}"
        case ReviewProse(text):
            return text
        case ReviewCode(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case ReviewList(entries, boxes):
            marks = [f"[{'x' if box else ' '}] " for box in boxes] or [""] * len(entries)
            return "\n".join(f"- {mark}{_in_line(entry)}" for mark, entry in zip(marks, entries, strict=True))
        case ReviewTable(header, rows, code):
            lines = [header, ["---"] * len(header)]
            lines += [[_code(cell) if at in code else _in_line(cell) for at, cell in enumerate(row)] for row in rows]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _in_line(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def _code(text: str) -> str:
    text = _in_line(text)
    marks = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{space}{text}{space}{marks}" if text else ""


# --- HTML

_HEAD: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; border-bottom: 2px solid #1c2733; padding-bottom: .4rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .6rem; border-bottom: 1px solid #c4ccd4; padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, ul, ol { margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { border: 1px solid #c4ccd4; padding: .3rem .5rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
th { background: #eef2f5; font-weight: 600; }
table.signature { table-layout: fixed; }
table.signature td { height: 2.8rem; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { background: #f5f7f9; border: 1px solid #dfe5ea; padding: .6rem .8rem; white-space: pre-wrap; }
ul.boxes { list-style: none; padding-left: .2rem; }
@media print {
  @page { margin: 15mm; }
  body { font-size: 9.5pt; max-width: none; margin: 0; padding: 0; }
  pre, code { font-size: 8pt; }
  th, td { padding: .2rem .35rem; }
  h2, h3 { break-after: avoid; }
  tr, pre, li { break-inside: avoid; }
  thead { display: table-header-group; }
  table.signature { break-inside: avoid; }
}
</style>
</head>
<body>
"""


def _render_html(block: ReviewBlock) -> str:
    match block:
        case ReviewHeading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case ReviewProse(text):
            return _render_prose(text)
        case ReviewCode(text):
            return f"<pre>{escape(text)}</pre>"
        case ReviewList(entries, boxes):
            marks = ["☑ " if box else "☐ " for box in boxes] or [""] * len(entries)
            inner = "".join(f"<li>{mark}{escape(entry)}</li>" for mark, entry in zip(marks, entries, strict=True))
            return f'<ul class="boxes">{inner}</ul>' if boxes else f"<ul>{inner}</ul>"
        case ReviewTable(header, rows, code, signature):
            head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
            lines = []
            for row in rows:
                cells = [
                    f"<code>{escape(cell)}</code>" if at in code and cell else escape(cell)
                    for at, cell in enumerate(row)
                ]
                lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
            mark = ' class="signature"' if signature else ""
            return f"<table{mark}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table>"


def _render_prose(text: str) -> str:
    """Render Markdown as HTML; HTML in it is escaped, and images stay links: both could load or hide something."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return str(markdown.render(text)).strip()
