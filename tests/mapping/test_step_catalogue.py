from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.mapping import Mapper
from speclab.mapping.completion import complete_step
from speclab.mapping.steps import STEPS, find_similar_step, find_step
from speclab.mapping.types import ParameterType, Step, get_types

Apply = Callable[..., Json]

EXPECTED = (
    "Direct Trim Uppercase Lowercase Title Text Integer Decimal Boolean Date DateTime Lookup Default Concat Split "
    "Replace Truncate Hash Constant Required Drop Round"
)


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_example_of_every_step_is_correct(step: Step, mapper_of: Callable[..., Mapper]) -> None:
    example = step.example
    values = example.given if step.joins and isinstance(example.given, list) else [example.given]
    names = [] if step.starts else [f"f{number}" for number, _ in enumerate(values)]
    lookups: dict[str, Json] = {name: dict(entries) for name, entries in example.lookups.items()}
    mapper = mapper_of((", ".join(names), "result", example.cell), lookups=lookups)
    mapped = mapper.map(dict(zip(names, values, strict=bool(names))))
    assert mapped == ({} if step.ends else {"result": example.result})
    assert step.name in example.cell


OF_TYPE: dict[type, st.SearchStrategy[Json]] = {
    str: st.text(),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    list: st.lists(st.text(), max_size=2),
    dict: st.dictionaries(st.text(), st.integers(), max_size=2),
}
SURE = [step for step in STEPS.values() if not step.may_fail and not step.starts]


@pytest.mark.parametrize("step", SURE, ids=lambda step: step.name)
def test_steps_that_cannot_fail_accept_all_values_of_their_types(step: Step, mapper_of: Callable[..., Mapper]) -> None:
    mapper = mapper_of(("a", "b", step.example.cell))

    @given(st.one_of(*(OF_TYPE[cls] for cls in OF_TYPE if cls in get_types(step.takes))))
    def check(value: Json) -> None:
        mapper.map({"a": value})

    check()


def test_steps_of_the_design_exist() -> None:
    assert set(EXPECTED.split()) <= set(STEPS)


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_every_step_has_a_summary_of_one_sentence(step: Step) -> None:
    assert step.summary.endswith(".")
    assert step.signature.startswith(step.name)
    assert not any(
        first.optional and not second.optional
        for first, second in zip(step.parameters, step.parameters[1:], strict=False)
    )


def test_signature_shows_optional_parameters() -> None:
    assert STEPS["Trim"].signature == "Trim"
    assert STEPS["Replace"].signature == "Replace(old, new)"
    assert STEPS["Date"].signature == "Date([format[, out]])"
    assert STEPS["Split"].signature == "Split(separator[, index])"


@pytest.mark.parametrize("name", ["Trim", "trim", "TRIM"])
def test_step_names_ignore_case(name: str) -> None:
    assert find_step(name) is STEPS["Trim"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Upercase", "Uppercase"),
        ("upper", "Uppercase"),
        ("to_lower", "Lowercase"),
        ("Trimm", "Trim"),
        ("coalesce", "First"),
        ("join", "Concat"),
        ("int", "Integer"),
        ("Vlookup", "Lookup"),
        ("qqqqqq", None),
    ],
)
def test_misspelled_or_foreign_name_suggests_the_step(written: str, meant: str | None) -> None:
    step = find_similar_step(written)
    assert (step.name if step else None) == meant


def test_alias_is_never_the_name_of_a_step() -> None:
    own = {name.lower() for name in STEPS}
    assert not [(step.name, other) for step in STEPS.values() for other in step.other_names if other in own]


def test_closed_choices_are_all_valid_arguments() -> None:
    for step in STEPS.values():
        for parameter in step.parameters:
            if parameter.type is ParameterType.TEXT and parameter.check:
                assert not [choice for choice in parameter.choices if parameter.check(choice)]  # type: ignore[arg-type]


@pytest.mark.parametrize("typed", ["Tr", "Tri", "Upp", "Con", "dat"])
def test_step_that_is_suggested_is_the_first_completion(typed: str) -> None:
    step = find_similar_step(typed)
    assert step is not None
    assert complete_step(typed, len(typed))[0].text.rstrip("(") == step.name
