"""Size limits of a mapping: the result of a step, a mapped record, and the values of an explanation."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from speclab.core.json import Json
from speclab.mapping import Mapper, MappingFailure

MakeMapper = Callable[..., Mapper]
GROWING = 'Replace("a", "aaaaaaaaaa")'
REGEX_GROWING = 'RegexReplace("^(a+)$", "' + r"\\1" * 10 + '")'


def reason(mapper: Mapper, record: dict[str, Json]) -> tuple[str | None, str]:
    with pytest.raises(MappingFailure) as caught:
        mapper.map(record)
    (failure,) = caught.value.failures
    return failure.step, failure.reason


@pytest.mark.parametrize(
    ("cell", "step", "sizes"),
    [
        (", ".join([GROWING] * 9), GROWING, "result too long: 10,000,000 characters from 1,000,000"),
        (
            ", ".join([REGEX_GROWING] * 9),
            REGEX_GROWING,
            "result too long: 10,000,000 characters from 1,000,000",
        ),
        (
            f'{", ".join([GROWING] * 5)}, Split("a"), Concat("{"b" * 100}")',
            f'Concat("{"b" * 100}")',
            "result too long: 10,000,000 characters from 0",
        ),
        (
            f'{", ".join([GROWING] * 6)}, Split("a")',
            'Split("a")',
            "result too long: a list of 1,000,001 items; the limit is 100,000",
        ),
    ],
    ids=["Replace", "RegexReplace", "Concat", "Split"],
)
def test_step_with_too_large_a_result_fails_with_the_sizes(
    mapper_of: MakeMapper, cell: str, step: str, sizes: str
) -> None:
    mapper = mapper_of(("a", "b", cell))
    tracemalloc.start()
    found = reason(mapper, {"a": "a"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0] == step
    assert found[1].startswith(sizes)
    assert peak < 150_000_000


def test_long_source_text_passes_and_can_shrink(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "b", 'Replace("aa", "a"), RegexReplace("a$", "b"), Trim'))
    mapped = mapper.map({"a": "a" * 3_000_000})
    assert isinstance(mapped["b"], str)
    assert len(mapped["b"]) == 1_500_000


@pytest.mark.parametrize("cell", ["", ", ".join([GROWING] * 6)], ids=["copied", "grown"])
def test_too_large_mapped_record_fails_at_the_row_that_exceeds_the_limit(mapper_of: MakeMapper, cell: str) -> None:
    mapper = mapper_of(*[("a", f"b{number}", cell) for number in range(2_000)])
    record: dict[str, Json] = {"a": "a" if cell else "a" * 1_000_000}
    with pytest.raises(MappingFailure) as caught:
        mapper.map(record)
    (failure,) = caught.value.failures
    assert failure.row == "b16"
    assert failure.reason == "mapped record too large: 17,000,000 characters or more; the limit is 16,000,000"


def test_copies_of_overlapping_fields_count_for_the_size_of_a_record(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "all", ""), *[(f"a[{number}]", f"b{number}", "") for number in range(20)])
    items: list[Json] = ["x" * 900_000 for _ in range(10)]
    with pytest.raises(MappingFailure, match="mapped record too large"):
        mapper.map({"a": items})


def test_mapping_that_copies_each_field_once_accepts_any_size(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(*[(f"a{number}", f"b{number}", "Trim") for number in range(30)])
    record: dict[str, Json] = {f"a{number}": "x" * 1_000_000 for number in range(30)}
    assert len(mapper.map(record)) == 30


def test_explanation_keeps_the_beginning_of_long_values(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "b", ", ".join([GROWING] * 6)))
    (result,) = mapper.explain({"a": "a"})
    assert isinstance(result.value, str)
    assert result.value.endswith("… (1,000,000 characters)")
    assert max(len(str(step.values[0])) for step in result.steps) < 11_000
