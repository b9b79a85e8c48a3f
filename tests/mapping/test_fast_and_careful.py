from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.core.json import Json, Record
from speclab.mapping import Mapper, MappingFailure, compile_mapping
from speclab.mapping.types import Dropped, StepError
from speclab.spec.integration import MappingRow
from speclab.spec.settings import MappingSettings

LOOKUPS: dict[str, Json] = {"t": {"a": "one", "1": 1, "true": None, " b": {"x": 1}}}

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", " b", "12", "-7", "1.50", "12abc", "31/12/2024", "2024-12-31", "true", "x,y", "1e5", "[1]"]
    ),
    st.text(max_size=4),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([0.5, 2.0, -0.0, 0.1, 1e300, 5e-324, 2.675, 2**63, -(2**70), float("nan"), float("inf"), "\ud800"]),
    st.sampled_from(
        ["2024-02-29T12:00:00Z", "0001-01-01", "9999-12-31T23:59:59-12:00", "2024-10-27T02:30", "E\u0301A"]
    ),
    TEXTS,
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2))
RECORDS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(VALUES, st.dictionaries(st.sampled_from(["x", "y"]), VALUES), st.lists(VALUES, max_size=2)),
)
PATHS = st.sampled_from(["a", "b", "c", "a.x", "b.y", "c[0]", "c[1].x", "a.x.y"])
STEPS = st.sampled_from(
    [
        "Direct", "Trim", "Uppercase", "Title", 'Default("a")', "Default(5)", 'NullIf("")', "NullIf(1)", "Required",
        "Lookup(t)", "Text", "Json", "ParseJson", 'Replace("a", "")', 'RegexReplace("[0-9]", "")', 'RegexExtract("a")',
        "Truncate(2)", "Pad(3)", 'Split(",")', 'Split(",", 0)', "Hash", "Integer", "Decimal", "Decimal(1)", "Round(1)",
        "Boolean", 'Date("%d/%m/%Y")', "Date", 'DateTime("unix")', 'Concat("-")', "First", "List", "Lowercase",
        "NullIf(0.1)", "Decimal(2)", "Round", 'Boolean("a", "12")', 'Date("%Y-%m-%d", "%d.%m.%Y")', "Default(true)",
        'DateTime("iso", "Europe/Berlin")', 'DateTime("iso", "UTC", "%H %Y")', 'RegexReplace("$", "!")',
    ]
)  # fmt: skip
STARTS = st.sampled_from(
    ["", "", "", 'Constant("a"), ', "Constant(null), ", "= source.a, ", "= source.b == source.c, "]
)
ENDS = st.sampled_from(["", "", 'Concat(" ")', "First", "List"])


@st.composite
def mapping_rows(draw: st.DrawFn) -> list[MappingRow]:
    """Return valid rows, one per target."""
    targets = draw(st.lists(st.sampled_from(["p", "q", "r.s", "r.t", "u[0]", "u[1].v"]), unique=True, min_size=1))
    rows: list[MappingRow] = []
    for line, target in enumerate(targets, 1):
        sources = draw(st.lists(PATHS, min_size=1, max_size=3))
        cell = draw(STARTS) + ", ".join(draw(st.lists(STEPS, min_size=1, max_size=4)))
        end = draw(ENDS)
        cell += f", {end}" if end else ""
        cell += ", Drop" if draw(st.booleans()) else ""
        columns = tuple(range(1, len(sources) + 1))
        rows.append(MappingRow(tuple(sources), target, cell, "", line, columns, 10, 20))
    return rows


def compiled(rows: list[MappingRow]) -> Mapper | None:
    """Compile the `rows` without problems."""
    from speclab.core.errors import SpecError

    good: list[MappingRow] = []
    for row in rows:
        try:
            compile_mapping([*good, row], MappingSettings.model_validate({"lookups": LOOKUPS}), "x")
        except SpecError:
            continue
        good.append(row)
    if not good:
        return None
    return compile_mapping(good, MappingSettings.model_validate({"lookups": LOOKUPS}), "x")


def outcome(run: Callable[[Record], Record], record: Record) -> object:
    try:
        return repr(run(record))
    except MappingFailure as failure:
        return failure.failures


@settings(max_examples=300, deadline=None)
@given(mapping_rows(), st.lists(RECORDS, min_size=1, max_size=5))
def test_compiled_function_agrees_with_row_by_row_mapping(rows: list[MappingRow], records: list[Record]) -> None:
    mapper = compiled(rows)
    if mapper is None:
        return
    for record in records:
        careful = outcome(mapper._map_carefully, record)
        assert outcome(mapper.map, record) == careful
        with suppress(StepError, KeyError):  # it fell back, which is always right
            assert repr(mapper._map(record)) == careful


@settings(max_examples=100, deadline=None)
@given(mapping_rows(), RECORDS)
def test_explanation_agrees_with_the_mapping(rows: list[MappingRow], record: Record) -> None:
    mapper = compiled(rows)
    if mapper is None:
        return
    results = mapper.explain(record)
    failures = tuple(result.failure for result in results if result.failure)
    if failures:
        assert outcome(mapper.map, record) == failures
        return
    mapped = mapper.map(record)
    for row, result in zip(mapper.rows, results, strict=True):
        if result.dropped:
            assert result.value is None
        elif not any(isinstance(other.run(record, []), Dropped) for other in mapper.rows):
            assert repr(row.target.get(mapped)) == repr(result.value)


@pytest.mark.parametrize(
    "record",
    [
        {"born": "31/12/2024", "state": "a"},
        {"born": "1/2/2024", "state": 1},
        {"born": None},
        {"born": "x", "state": "?"},
    ],
)
def test_compiled_function_falls_back_only_in_unusual_cases(mapper_of: Callable[..., Mapper], record: Record) -> None:
    mapper = mapper_of(("born", "born", 'Date("%d/%m/%Y")'), ("state", "state", "Lookup(t)"), lookups=LOOKUPS)
    gives_up = record.get("state") == "?"
    try:
        assert mapper._map(record) == mapper.map(record)
        assert not gives_up
    except (StepError, KeyError):
        assert gives_up
