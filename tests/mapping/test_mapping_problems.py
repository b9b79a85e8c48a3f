from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from speclab.core.errors import SpecError
from speclab.core.outcome import Level
from speclab.mapping import Mapper, compile_mapping, lint
from speclab.mapping.problems import CODES
from speclab.spec.document import Document
from speclab.spec.integration import MappingRow
from speclab.spec.problems import Problem
from speclab.spec.settings import MappingSettings

FindProblems = Callable[..., list[Problem]]
MakeMapper = Callable[..., Mapper]

ROW = 41
CELL = 60


@pytest.mark.parametrize(
    ("cell", "code", "offset", "length", "message", "fix"),
    [
        ("Upercase", "M101", 0, 8, "unknown step 'Upercase'. Did you mean 'Uppercase'?", "Uppercase"),
        ("Trim, Qqqq(1)", "M101", 6, 4, "unknown step 'Qqqq'. Press F1 in Mapping for a list of all steps.", None),
        ("Trim | Uppercase", "M102", 4, 3, "separate steps by commas, not by pipes", ","),
        ("Trim(1)", "M103", 5, 1, "Trim takes no arguments: Trim", None),
        ('Replace("a")', "M103", 0, 12, "Replace needs the argument new: Replace(old, new)", None),
        ('Hash("md5", 1, 2)', "M103", 12, 4, "Hash takes 1 argument: Hash([algorithm])", None),
        ('Truncate("5")', "M103", 9, 3, 'Truncate takes a whole number from 0 as length, got "5"', "5"),
        ("Truncate(-1)", "M103", 9, 2, "Truncate takes a whole number from 0 as length, got -1", None),
        (
            "Concat(x)",
            "M103",
            7,
            1,
            'Concat takes text in quotes as separator, got x; put text in quotes: "x"',
            '"x"',
        ),
        (
            "Default(True)",
            "M103",
            8,
            4,
            "Default takes text in quotes, a number, true or false as value, got True; write true",
            "true",
        ),
        ("Date(5)", "M103", 5, 1, "Date takes text in quotes as format, got 5", '"5"'),
        ("Default(null)", "M103", 8, 4, "Default: value must not be null", None),
        ('Hash("sha-256")', "M103", 5, 9, "unknown algorithm 'sha-256' of Hash. Did you mean 'sha256'?", '"sha256"'),
        ('Split("")', "M103", 6, 2, "Split: separator must not be empty", None),
        (
            'Boolean("J")',
            "M103",
            0,
            12,
            'Boolean: expected two different words, as in Boolean("J", "N"), or none',
            None,
        ),
        (
            'RegexReplace("(", "")',
            "M103",
            13,
            3,
            "RegexReplace: pattern is not a valid RE2 pattern: missing ): (",
            None,
        ),
        ('RegexExtract("a", 1)', "M103", 0, 20, "RegexExtract: the pattern has 0 groups, no group 1", None),
        ('Date("%d/%m")', "M103", 5, 7, "Date: format lacks the year, %Y", None),
        ('Date("%d/%Y/%q")', "M103", 5, 10, "Date: format has the unknown directive %q", None),
        ('Date("%Y%Y-%m-%d")', "M103", 5, 12, "Date: format repeats a directive", None),
        ('Date("%Y-%m-%d", "iso")', "M103", 17, 5, "Date: out has no directive such as %Y", None),
        ('DateTime("iso", "UTC", "unix")', "M103", 23, 6, "DateTime: out has no directive such as %Y", None),
        (
            'Date("%Y-%m-%d %V")',
            "M103",
            5,
            13,
            (
                "Date: format is inconsistent: ISO week directive '%V' must be used with the ISO year directive "
                "'%G' and a weekday directive ('%A', '%a', '%w', or '%u')"
            ),
            None,
        ),
        (
            "Date, DateTime",
            "M104",
            6,
            8,
            "DateTime takes a number or text or a time, but Date returns a date",
            None,
        ),
        ("Boolean, Integer", "M104", 9, 7, "Integer takes text or a number, but Boolean returns true or false", None),
        ('Date("%x")', "M103", 5, 4, "Date: format has the unknown directive %x", None),
        (
            'Date("%Y-%m-%d", "%H")',
            "M103",
            17,
            4,
            "Date: out has a directive for a time of day, which a date does not have: %H",
            None,
        ),
        (
            'DateTime("%Y-%m-%d")',
            "M103",
            9,
            10,
            "DateTime: format lacks the hour, %H; use Date for dates without a time of day",
            None,
        ),
        (
            'DateTime("iso", "Berlin")',
            "M103",
            16,
            8,
            "DateTime: zone is not an IANA time zone such as Europe/Berlin",
            None,
        ),
        (
            "Uppercase, Round(2)",
            "M104",
            11,
            8,
            "Round takes a number, but Uppercase returns text; put Decimal or Integer before it",
            None,
        ),
        (
            "Integer, Trim",
            "M104",
            9,
            4,
            "Trim takes text, but Integer returns a whole number; put Text before it",
            None,
        ),
        ('Split(","), Trim', "M104", 12, 4, "Trim takes text, but Split returns a list; put Concat before it", None),
        ("Lookup(statsu)", "M105", 7, 6, "unknown lookup 'statsu'. Did you mean 'status'?", "status"),
        ("Lookup(none)", "M106", 7, 4, "the lookup 'none' has no entries, so every value would fail", None),
        ("= sorce.a, Trim", "M107", 2, 5, "unknown name 'sorce'. Did you mean 'source'?", "source"),
        ("Trim, = source.a", "M102", 6, 1, 'an expression must come first: "= ..., Round(2)"', None),
        ('Trim, Constant("x")', "M108", 6, 13, "Constant reads no field and must be the first step", None),
        ("Drop, Trim", "M108", 0, 4, "Drop omits the field and must be the last step", None),
    ],
)
def test_cell_with_a_problem_says_where_what_and_what_to_do(
    problems_of: FindProblems, cell: str, code: str, offset: int, length: int, message: str, fix: str | None
) -> None:
    settings = {"status": {"a": "b"}, "none": {}}
    (problem,) = [one for one in problems_of(("a", "b", cell), lookups=settings) if one.level is Level.ERROR]
    assert (problem.code, problem.message, problem.fix) == (code, message, fix)
    assert (problem.file, problem.line, problem.column, problem.length) == ("spec.md", ROW, CELL + offset, length)
    assert problem.code in CODES


def test_several_sources_need_a_step_that_joins_them(problems_of: FindProblems) -> None:
    (problem,) = problems_of(("a, b", "c", "Trim, Uppercase"))
    assert problem.code == "M109"
    assert problem.message == '2 source fields are not joined into one value: end with Concat(" "), First or List'
    assert problem.length == len("Trim, Uppercase")
    assert not problems_of(("a, b", "c", "Trim, First, Uppercase"))


@pytest.mark.parametrize("cell", ['Conkat(" ")', "Concat(x)"])
def test_joining_step_with_a_problem_is_one_problem(problems_of: FindProblems, cell: str) -> None:
    assert len(problems_of(("a, b", "c", cell))) == 1


def test_row_needs_a_source(problems_of: FindProblems) -> None:
    assert [one.code for one in problems_of(("", "c", ""))] == ["M110"]
    assert not problems_of(("", "c", "Constant(1)"))
    assert not problems_of(("", "c", "= 1"))


def test_constant_with_a_source_field_is_a_warning(problems_of: FindProblems) -> None:
    (problem,) = problems_of(("a", "c", "Constant(1)"))
    assert (problem.code, problem.level, problem.column) == ("M115", Level.WARNING, 3)


@pytest.mark.parametrize(
    ("targets", "code", "message"),
    [
        (["a", "a"], "D301", "a is written twice: see line 41"),
        (["a", "a.b"], "M111", "a.b and row a in line 41 write to the same field"),
        (["a.b", "a"], "M111", "a and row a.b in line 41 write to the same field"),
        (["a[0]", "a.b"], "M111", "a.b and row a[0] in line 41 write to the same field"),
        (["a[0].c", "a.b.d"], "M111", "a.b.d and row a[0].c in line 41 write to the same field"),
        (["a[0]", "a[2]"], "M111", "no row writes a[1]: a list's items have no gaps"),
        (["b", "a[1]"], "M111", "no row writes a[0]: a list's items have no gaps"),
    ],
)
def test_conflicting_targets_are_a_problem(
    problems_of: FindProblems, targets: list[str], code: str, message: str
) -> None:
    (problem,) = problems_of(*[("s", target, "") for target in targets])
    assert (problem.code, problem.message, problem.line, problem.column) == (code, message, 42, 40)


def test_separate_targets_are_not_a_problem(problems_of: FindProblems) -> None:
    assert not problems_of(*[("s", target, "") for target in ["a.b", "a.c", "d[1]", "d[0].x", "e", "d[0].y"]])


@pytest.mark.parametrize(("source", "target"), [("a b", "c"), ("a", "c..d"), ("a", "[0]"), ("a", "")])
def test_invalid_paths_are_a_problem(problems_of: FindProblems, source: str, target: str) -> None:
    assert [problem.code for problem in problems_of((source, target, ""))] == ["D303"]


def test_invalid_filter_is_a_problem(problems_of: FindProblems) -> None:
    (problem,) = problems_of(("a", "b", ""), filter="email != ''")
    assert (problem.code, problem.fix) == ("M114", None)
    assert problem.message == "filter: unknown name 'email'. Write fields of the record as source.email."


def test_unused_lookup_is_a_warning(problems_of: FindProblems) -> None:
    (problem,) = problems_of(("a", "b", ""), lookups={"status": {"a": 1}})
    assert (problem.code, problem.level) == ("M116", Level.WARNING)


def test_all_problems_are_reported_sorted_by_location(problems_of: FindProblems) -> None:
    found = problems_of(("a", "b", "Upercase, Trim(1), Truncate(x)"), ("c", "d", "Lookup(x)"), ("e", "b", "Trimm"))
    assert [(problem.line, problem.column) for problem in found] == [(41, 60), (41, 75), (41, 88), (42, 67), (43, 60)]


def test_mapping_with_problems_does_not_compile() -> None:
    rows = [
        MappingRow(("a",), "b", "Trimm", "", 7, (1,), 9, 12),
        MappingRow(("a",), "c", "Upercase", "", 8, (1,), 9, 12),
    ]
    with pytest.raises(SpecError) as caught:
        compile_mapping(rows, MappingSettings.model_validate({}), "x.md")
    assert str(caught.value) == "x.md:7:12: M101 unknown step 'Trimm'. Did you mean 'Trim'? (and 1 more)"
    assert len(caught.value.problems) == 2
    assert caught.value.exit_code == 3


def test_mapping_with_warnings_compiles(mapper_of: MakeMapper) -> None:
    assert mapper_of(("a", "b", "Constant(1)"), lookups={"x": {"a": 1}}).map({}) == {"b": 1}


SPEC = r"""---
spec_id: x
type: integration
status: draft
---

# Spec: X

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| source.name | target.name | Trim, Upercase | |
| source.state | target.state | Lookup(stat) | |
| source.a, source.b | target.ok | Trim, Replace("\|", "/"), Concat(), Foo | |
| | target.both | = source.x \|\| sorce.y | |

```yaml
filter: "source.email != '' && mail"
lookups:
  state: {A: active}
check:
  nme: {minLength: 1}
  state: {minLength: x}
```

## Monitoring & Alerting

### Alerts

| Alert | When | For | Notify |
|---|---|---|---|
| Bad | error_count("1h") > 1 \|\| sucess_rate("1h") < 0.9 | 5m | |

## Acceptance Criteria

- [ ] Nearly all arrive `success_rat("24h") >= 0.995`
"""


def test_lint_locates_every_problem_in_the_file() -> None:
    found = lint(Document.parse(SPEC, Path("specs/x.md")))
    errors = [problem for problem in found if problem.level is Level.ERROR]
    lines = SPEC.split("\n")
    assert [(one.code, lines[one.line - 1][one.column - 1 :][: one.length]) for one in errors] == [
        ("M101", "Upercase"),
        ("M105", "stat"),
        ("M101", "Foo"),
        ("M107", "sorce"),
        ("M114", "mail"),
        ("M112", "nme"),
        ("M113", "minLength"),
        ("C401", "sucess_rate"),
        ("C401", "success_rat"),
    ]
    assert found == sorted(found, key=lambda one: (one.line, one.column))
    assert {one.file for one in found} == {str(Path("specs/x.md"))}


def test_applying_a_fix_removes_the_problem() -> None:
    text = SPEC
    for _ in range(10):
        fixable = [one for one in lint(Document.parse(text)) if one.fix is not None]
        if not fixable:
            break
        lines = text.split("\n")
        line = lines[fixable[0].line - 1]
        start = fixable[0].column - 1
        lines[fixable[0].line - 1] = line[:start] + str(fixable[0].fix) + line[start + fixable[0].length :]
        text = "\n".join(lines)
    assert [one.code for one in lint(Document.parse(text)) if one.level is Level.ERROR] == ["M101", "M113"]


FILTER = '''filter: "source.email != '' && mail"'''


@pytest.mark.parametrize(
    "written",
    [
        r'''filter: "source.email != \"\" && mail"''',
        """filter: 'source.email != '''' && mail'""",
        'filter: >\n  source.email != "" &&\n  mail',
        "filter: source.email != null &&\n  mail",
    ],
)
def test_no_fix_is_offered_for_a_part_without_exact_position(written: str) -> None:
    (found,) = [one for one in lint(Document.parse(SPEC.replace(FILTER, written))) if one.code == "M114"]
    assert "unknown name 'mail'" in found.message
    assert found.fix is None


def test_no_fix_is_offered_for_an_expression_without_exact_position() -> None:
    block = '```yaml\nconnector: http\nread: {path: /a, deleted: "sorce.x == \\"\\""}\n```'
    text = SPEC.replace("## Field", f"## Integration Overview\n\n### Source System\n\n{block}\n\n## Field")
    (found,) = [
        one for one in lint(Document.parse(text)) if "unknown name 'sorce'" in one.message and one.code == "C401"
    ]
    assert found.fix is None


def test_invalid_settings_block_makes_no_lookup_unknown() -> None:
    text = SPEC.replace("lookups:", "lookups: [").replace("Lookup(stat)", "Lookup(state)")
    codes = {one.code for one in lint(Document.parse(text))}
    assert "S101" in codes
    assert "M105" not in codes
    assert "M101" in codes


def test_untouched_template_has_no_mapping_problem() -> None:
    from datetime import date

    from speclab.spec.guide import build_spec

    assert not [one for one in lint(Document.parse(build_spec("x", date(2026, 1, 1)))) if one.level is Level.ERROR]


def test_file_of_another_type_is_not_linted() -> None:
    assert lint(Document.parse(SPEC.replace("type: integration", "type: dev"))) == []
