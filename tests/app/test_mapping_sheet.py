"""The mapping sheet: each row is evaluated alone, and each problem has a position in its cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speclab.app.views.mapping.rows import Fails, failing_fields, grid_row, mapped_lines, record_lines, step_lines
from speclab.app.widgets.grid import GridCell
from speclab.core.errors import EditRejected, UsageError
from speclab.core.json import Record
from speclab.mapping import lint
from speclab.spec.document import Document
from speclab.workbench.mapping_sheet import CellProblem, MappingSheet
from speclab.workbench.samples import SampleRecords, kept_sample_path, read_records, save_sample

ROWS = """| source.id | target.external_id | Direct | |
| source.name.given, source.name.family | target.full_name | Trim, Concat(" ") | |
| source.born | target.birth_date | Date("%d/%m/%Y") | as people typed it |
| | target.cents | = double(source.turnover) * 100.0, Integer | |
| source.email | target.email | Lowercase | |"""
SETTINGS = """filter: source.test != true
check:
  email: {format: email}"""

ADA: Record = {
    "id": "c_1",
    "name": {"given": "Ada ", "family": "Lovelace"},
    "born": "10/12/1815",
    "turnover": "12",
    "email": "Ada@Example.org",
    "test": False,
}


def document(rows: str = ROWS, settings: str = SETTINGS) -> Document:
    table = f"| Source Field | Target Field | Transformation | Notes |\n|---|---|---|---|\n{rows}"
    return Document.parse(
        f"---\ntype: integration\n---\n\n# Spec\n\n## Field Mapping\n\n{table}\n\n```yaml\n{settings}\n```\n"
    )


def results(sheet: MappingSheet, record: Record) -> list[object]:
    found = [row.outcome(record) for row in sheet.rows]
    return [each and (each.failure.reason if each.failure else each.result.value) for each in found]


def test_every_row_shows_its_result_for_a_record() -> None:
    assert results(MappingSheet.of(document()), ADA) == ["c_1", "Ada Lovelace", "1815-12-10", 1200, "ada@example.org"]


def test_invalid_row_does_not_affect_others() -> None:
    sheet = MappingSheet.of(document(ROWS.replace("Trim, Concat", "Trimm, Concat")))
    assert results(sheet, ADA) == ["c_1", None, "1815-12-10", 1200, "ada@example.org"]
    assert sheet.rows[1].problems == (
        CellProblem("Transformation", 0, 5, "unknown step 'Trimm'. Did you mean 'Trim'?", "M101", "Trim"),
    )


def test_row_fails_by_its_steps_or_by_the_contract() -> None:
    reasons = results(MappingSheet.of(document()), {**ADA, "born": "1815-12-10", "email": "nobody"})
    assert 'expected a date like %d/%m/%Y, got "1815-12-10"' in str(reasons[2])
    assert "email" in str(reasons[4])


def test_unchanged_rows_are_not_compiled_again() -> None:
    before = MappingSheet.of(document())
    after = MappingSheet.of(document(ROWS.replace("Lowercase", "Uppercase")), before)
    assert [old is new for old, new in zip(before.rows, after.rows, strict=True)] == [True, True, True, True, False]


def test_changed_settings_compile_all_rows_again() -> None:
    before = MappingSheet.of(document())
    after = MappingSheet.of(document(settings="check:\n  email: {minLength: 100}"), before)
    assert results(before, ADA)[4] == "ada@example.org"
    assert "100" in str(results(after, ADA)[4])


def test_trial_shows_the_result_of_a_cell_without_changing_the_document() -> None:
    sheet = MappingSheet.of(document())
    trial = sheet.trial(4, "Transformation", "Uppercase")
    outcome = trial.outcome(ADA)
    assert outcome is not None
    assert outcome.result.value == "ADA@EXAMPLE.ORG"
    assert sheet.rows[4].texts["Transformation"] == "Lowercase"


@pytest.mark.parametrize(
    ("column", "text", "problems"),
    [
        ("Transformation", "Trim, Uppercas", "Uppercas"),
        ("Transformation", 'Replace("|", ""), Uppercas', "Uppercas"),
        ("Transformation", 'Date("%d', '"%d'),
        ("Source Field", "source.a, source.b..c", "."),
        ("Target Field", "target.a b", " "),
    ],
)
def test_problem_in_a_cell_has_an_exact_position(column: str, text: str, problems: str) -> None:
    (found,) = [each for each in MappingSheet.of(document()).trial(4, column, text).problems if each.column == column]
    assert text[found.start : found.end].startswith(problems)


def test_cell_with_two_lines_is_rejected() -> None:
    with pytest.raises(EditRejected):
        MappingSheet.of(document()).trial(0, "Notes", "one\ntwo")


def test_row_has_the_problems_of_the_whole_spec() -> None:
    twice = document(ROWS + "\n| source.id | target.email | Direct | |")
    sheet = MappingSheet.of(twice)
    (problems,) = sheet.problems(sheet.rows[5], lint(twice))
    assert (problems.column, problems.code) == ("Target Field", "D301")


def test_document_without_a_table_has_no_rows() -> None:
    assert MappingSheet.of(Document.parse("# Spec\n\n## Field Mapping\n\nNone yet.\n")).rows == ()


def test_grid_shows_source_fields_as_written_without_the_system() -> None:
    (row,) = MappingSheet.of(document('| source["a,b"],source.c, d | target.x | First | |', "")).rows
    cell = grid_row("x", row, row.problems, None, Fails(None, 0), sampled=False).cells[1]
    assert isinstance(cell, GridCell)
    assert cell.text == 'source["a,b"],c, d'


# Many records


def test_all_records_are_evaluated_by_row() -> None:
    records: list[Record] = [
        ADA,
        {**ADA, "test": True},
        {**ADA, "born": "1815-12-10"},
        {**ADA, "born": "x", "email": "nobody"},
        {**ADA, "email": "nobody"},
    ]
    check = MappingSheet.of(document()).check_records(records)
    assert check.passed == 1
    assert check.filtered == {1}
    assert check.failing == {"birth_date": (2, 3), "email": (4,)}
    assert check.failed == 3


def test_records_are_evaluated_by_the_valid_rows() -> None:
    sheet = MappingSheet.of(document(ROWS.replace("Date(", "Dote("), "filter: source.test ==\nlookups: 3"))
    assert sheet.check_records([ADA, {**ADA, "turnover": "much"}]).failing == {"cents": (1,)}


# The panes


def test_source_record_marks_the_fields_of_a_failing_row() -> None:
    sheet = MappingSheet.of(document())
    record: Record = {**ADA, "born": "1815-12-10"}
    failing = failing_fields(sheet.rows, [row.outcome(record) for row in sheet.rows])
    lines = [cell.text for cell in record_lines(record, 60, failing, set())]
    assert lines[1] == 'name: {given: "Ada ", family: Lovelace}'
    assert lines[2] == 'born: "1815-12-10"   ◀ row birth_date'


def test_mark_is_at_the_field_itself_in_an_expanded_record() -> None:
    record: Record = {"name": {"given": "Ada " * 10, "family": "Lovelace " * 10}}
    lines = [cell.text for cell in record_lines(record, 30, {("name", "family"): "row x"}, set())]
    assert [line.endswith("◀ row x") for line in lines] == [False, False, True]


def test_mapped_record_shows_where_it_fails() -> None:
    sheet = MappingSheet.of(document())
    record: Record = {**ADA, "born": "1815-12-10"}
    lines = [cell.text for cell in mapped_lines(sheet.rows, [row.outcome(record) for row in sheet.rows], "email")]
    assert lines == [
        "external_id: c_1",
        "full_name: Ada Lovelace",
        "birth_date: ✖",
        "cents: 1200",
        "email: ada@example.org",
    ]


def test_steps_of_a_row_are_explained_one_by_one() -> None:
    lines = [cell.text for cell in step_lines(MappingSheet.of(document()).rows[1].outcome(ADA))]
    assert lines == ["sample       Ada , Lovelace", "Trim         Ada, Lovelace", 'Concat(" ")  Ada Lovelace']


def test_failing_step_shows_its_reason() -> None:
    lines = [cell.text for cell in step_lines(MappingSheet.of(document()).rows[2].outcome({"born": "soon"}))]
    assert lines[0] == "sample            soon"
    assert lines[1].startswith('Date("%d/%m/%Y")  expected a date like %d/%m/%Y, got "soon"')


# Samples


def test_saved_sample_is_read_again(tmp_path: Path) -> None:
    spec = tmp_path / "crm.md"
    spec.write_text(document().text)
    path = save_sample([ADA, {"id": 12345678901234567890}], spec, "crm")
    assert path == kept_sample_path(spec, "crm")
    assert read_records(path) == SampleRecords((ADA, {"id": 12345678901234567890}), "crm.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 1}\n\n{"id": 2\n', ":3: not JSON"),
        ("[1]\n", ":1: expected a record, got a JSON list"),
        ("\n", "the file has no records"),
    ],
)
def test_invalid_sample_file_is_reported_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_records(path)
    assert message in error.value.message
    assert "JSON object" in error.value.hint


def test_sample_file_that_would_fill_the_memory_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    with path.open("wb") as file:
        file.truncate(10**10)  # sparse
    with pytest.raises(UsageError, match="a sample of more than 8,000,000 bytes"):
        read_records(path)


def test_sample_file_may_have_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text(f"\n{json.dumps(ADA)}\n\n")
    assert read_records(path).records == (ADA,)
