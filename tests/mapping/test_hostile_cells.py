from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.core.paths import FieldPath
from speclab.mapping import Mapper, MappingFailure, compile_mapping
from speclab.mapping.compiler import write_function
from speclab.mapping.language import quote
from speclab.mapping.steps import STEPS
from speclab.spec.integration import MappingRow
from speclab.spec.problems import Problem
from speclab.spec.settings import MappingSettings

MakeMapper = Callable[..., Mapper]
CODE = re.compile(
    r"(?:\b(?:k[0-9]+|v[0-9]+|out)(?:_[0-9]+)*\b|\b(?:def|make|map_record|record|get|return|if|elif|else|is|not|None|and|or|in)\b"
    r"|\b(?:type|str|dict|list|len|strip|upper|lower|append)\b|[\s().,:={}\[\]>\"])*"
)


def of(source: str, target: str, cell: str, text: str) -> Mapper:
    row = MappingRow((source,), target, cell, "", 1, (1,), 20, 40)
    lookups: dict[str, Json] = {text or "t": {text: text}}
    return compile_mapping([row], MappingSettings.model_validate({"lookups": lookups}), "x")


def code(mapper: Mapper) -> str:
    return write_function(mapper.rows, mapper._shape).source()


@given(
    st.one_of(
        st.text(),
        st.sampled_from(['"; import os; "', "'''", "{v}", "{0}", "\\", "k0", "\n    raise", "__import__('os')"]),
    )
)
def test_no_text_of_the_spec_is_in_the_generated_code(text: str) -> None:
    path = str(FieldPath((text, text)))
    cell = f"Default({quote(text)}), Lookup({quote(text or 't')}), Trim, Concat({quote(text)}), NullIf({quote(text)})"
    mapper, harmless = (
        of(path, path, cell, text),
        of("a.b", "a.b", 'Default("a"), Lookup("a"), Trim, Concat("a"), NullIf("a")', "a"),
    )
    assert code(mapper) == code(harmless)
    assert CODE.fullmatch(code(mapper))
    value = None if text.strip() == text else text.strip()
    assert mapper.map({text: {text: None}}) == {text: {text: value}}


def test_all_steps_together_are_still_only_fragments(mapper_of: MakeMapper) -> None:
    names = [name for name, step in STEPS.items() if not step.starts and not step.ends]
    examples = [(f"a, f{at}.x[0]", f"t{at}.x", f"{STEPS[name].example.cell}, Concat") for at, name in enumerate(names)]
    lookups: dict[str, Json] = {"status": {"A": "active"}}
    mapper = mapper_of(*examples, ("", "u[0]", "= source.a"), ("a", "u[1].v", "Drop"), lookups=lookups)
    assert CODE.fullmatch(code(mapper))


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').system('true')",
        "eval(1)",
        "= __import__('os')",
        "= source.__class__.__mro__",
        "= open('/etc/passwd')",
        "Trim; DROP TABLE contacts",
        "${env:HOME}",
        "{{ 7 * 7 }}",
    ],
)
def test_text_that_looks_like_code_is_a_problem_or_data(cell: str, problems_of: Callable[..., list[Problem]]) -> None:
    if cell == "= source.__class__.__mro__":
        assert not problems_of(("a", "b", cell))  # a field that no record has
    else:
        assert next(problem.code for problem in problems_of(("a", "b", cell))) in {"M101", "M102", "M107"}


def test_expression_sees_only_the_record(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(("a", "b", "= source.__class__"))
    with pytest.raises(MappingFailure, match="there is no field '__class__'"):
        mapper.map({"a": 1})


@pytest.mark.parametrize(
    "cell",
    [
        "(" * 50_000,
        "Trim(" * 20_000,
        "= " + "(" * 50_000,
        "= " + "[" * 1_000,
        "Trim, " * 20_000,
        '"' * 50_001,
        "= " + "-" * 1_999 + "1",
    ],
)
def test_huge_cell_parses_or_is_rejected(cell: str, problems_of: Callable[..., list[Problem]]) -> None:
    assert all(problem.line == 41 for problem in problems_of(("a", "b", cell)))


@pytest.mark.parametrize("cell", ["", "Drop"])
def test_deep_target_compiles_or_is_rejected(
    mapper_of: MakeMapper, problems_of: Callable[..., list[Problem]], cell: str
) -> None:
    assert str(mapper_of(("a", ".".join("a" * 100), cell)).map({"a": 1})).count("{") == 100
    for levels in (101, 5_000):
        (problem,) = problems_of(("a", ".".join("a" * levels), cell))
        assert (problem.code, problem.message) == ("D303", f"a target path has at most 100 levels, not {levels}")


def test_two_thousand_rows_compile(mapper_of: MakeMapper) -> None:
    mapper = mapper_of(*[(f"a{at}", f"b{at}", "Trim, Lowercase") for at in range(2_000)])
    assert mapper.map({"a1999": " X "})["b1999"] == "x"


@pytest.mark.parametrize("depth", [200, 1_000, 50_000])
@pytest.mark.parametrize(
    "cell", [step.example.cell for step in STEPS.values() if not step.starts] + ["= source.a", "= source.a / 2"]
)
def test_deeply_nested_record_fails_alone(mapper_of: MakeMapper, cell: str, depth: int) -> None:
    value: Json = 1
    for _ in range(depth):
        value = {"a": value}
    lookups: dict[str, Json] = {"status": {"A": "a"}} if "status" in cell else {}
    mapper = mapper_of(
        ("" if cell.startswith("=") else "a", "b", cell), check={"b": {"type": "object"}}, lookups=lookups
    )
    record = {"a": value}
    try:
        failures = mapper.check(mapper.map(record))
    except MappingFailure as failure:
        failures = failure.failures
    assert all(failure.row == "b" for failure in failures)
    mapper.explain(record)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "URL/schema.json"},
        {"$ref": "FILE"},
        {"$id": "URL/", "$ref": "schema.json"},
        {"$schema": "URL/schema.json"},
        {"$schema": "FILE"},
        {"properties": {"a": {"$dynamicRef": "URL/schema.json#a"}}},
        {"anyOf": [{"$ref": "FILE"}]},
    ],
)
def test_check_that_references_another_document_is_rejected_unread(
    schema: dict[str, Json], tmp_path: Path, problems_of: Callable[..., list[Problem]]
) -> None:
    file = tmp_path / "schema.json"
    os.mkfifo(file)  # opening it would block
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        text = json.dumps(schema).replace("URL", url).replace("FILE", file.as_uri())
        (problem,) = problems_of(("a", "a", ""), check={"a": json.loads(text)})
        assert problem.code == "M113"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_pattern_of_the_spec_takes_linear_time(mapper_of: MakeMapper) -> None:
    text = "a" * 50_000 + "!"
    mapper = mapper_of(
        ("a", "b", 'RegexReplace("(a+)+$", "")'),
        ("", "c", '= source.a.matches("^(a+)+$")'),
        ("a", "d", ""),
        check={"d": {"pattern": "^(a+)+$"}},
    )
    mapped = mapper.map({"a": text})
    assert mapped["c"] is False
    assert json.dumps(mapped["b"]) == json.dumps(text)
    assert [failure.row for failure in mapper.check(mapped)] == ["d"]
