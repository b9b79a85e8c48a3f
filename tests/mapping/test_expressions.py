from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json, Record
from speclab.mapping import MappingFailure
from speclab.mapping.cel import CelExpression, EvaluationError, RecordExpression
from speclab.mapping.cel.functions import BUILT_IN, MAX_LENGTH, MAX_NESTING, ExpressionSyntaxError

MapperOf = Callable[..., object]


def evaluate(text: str, record: Record) -> Json:
    return RecordExpression(text).evaluate(record)


@pytest.mark.parametrize(
    ("text", "record", "expected"),
    [
        ("source.a", {"a": None}, None),
        ("source.a.b[1]", {"a": {"b": [1, 2]}}, 2),
        ('source["odd key"]', {"odd key": 1}, 1),
        ('has(source.a) ? source.a : "none"', {}, "none"),
        ("source.a == null", {"a": None}, True),
        ("source.a.exists(x, x > 1) && !source.b", {"a": [1, 2], "b": False}, True),
        ("source", {"a": [1]}, {"a": [1]}),
        ("source.size()", {"a": 1, "b": 2}, 2),
        ("{'x': [source.a]}", {"a": 1}, {"x": [1]}),
        ('timestamp(source.a) + duration("1h")', {"a": "2024-01-01T10:00:00+01:00"}, "2024-01-01T10:00:00Z"),
        ("type(source.a) == int", {"a": 1}, True),
        ("source.a in [1, 2]", {"a": 2}, True),
    ],
)
def test_expression_reads_the_record(text: str, record: Record, expected: Json) -> None:
    assert evaluate(text, record) == expected


@pytest.mark.parametrize(
    ("text", "record", "expected"),
    [
        ("source.qty * source.price", {"qty": 2, "price": 9.99}, 19.98),
        ("source.qty * source.price", {"qty": 2, "price": 10}, 20),
        ("source.turnover * 100", {"turnover": 1234.5}, 123450),
        ("source.cents / 100", {"cents": 1999}, 19.99),
        ("source.cents / 100", {"cents": 2000}, 20),
        ("source.total / size(source.items)", {"total": 10, "items": [1, 2, 3, 4]}, 2.5),
        ("source.items[0] / 2", {"items": [5]}, 2.5),
        ("source.a % 2", {"a": 5}, 1),
        ("int(source.a / 2)", {"a": 5}, 2),
        ("source.a > 1.5", {"a": 2}, True),
        ("source.a + 1", {"a": 2**53}, 2**53 + 1),
        ("sum(source.l.map(x, x.q * x.p))", {"l": [{"q": 2, "p": 1.5}, {"q": 1, "p": 3}]}, 6),
        ("math.round(source.a * 10)", {"a": 0.25}, 3),
        ("math.greatest(source.a, 2.5)", {"a": 3}, 3),
        ("[1, 2.5]", {}, [1, 2.5]),
    ],
)
def test_integers_and_fractions_mix(text: str, record: Record, expected: Json) -> None:
    result = evaluate(text, record)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('size("héé")', 3),
        ('"héé".size() == 3', True),
        ('" a ".trim()', "a"),
        ('"aÉ".upperAscii() + "Bé".lowerAscii()', "AÉbé"),
        ('"a-b".replace("-", "")', "ab"),
        ('"a,b".split(",")', ["a", "b"]),
        ('["a", "b"].join("+")', "a+b"),
        ('"abc".substring(1)', "bc"),
        ('"abc".substring(0, 2)', "ab"),
        ('"abc".charAt(1)', "b"),
        ('"abc".indexOf("c")', 2),
        ("math.floor(-1.5)", -2),
        ("math.ceil(1.2)", 2),
        ("math.abs(-3)", 3),
        ("math.least(1, 2)", 1),
    ],
)
def test_functions_beside_those_of_cel(text: str, expected: Json) -> None:
    assert evaluate(text, {}) == expected


@pytest.mark.parametrize(
    ("text", "record", "reason"),
    [
        ("source.a", {}, "there is no field 'a'"),
        ("source.a.b", {"a": None}, "cannot take these values: null"),
        ('source.a + "x"', {"a": 1}, "null, or text and numbers mixed"),
        ("source.a[3]", {"a": []}, "index out of bounds: 3"),
        ("source.a % source.b", {"a": 1, "b": 0}, "modulo by zero"),
        ("source.a / source.b", {"a": 1, "b": 0}, "the result is inf"),
        ("source.a * source.a", {"a": 2**40}, "overflow"),
        ("string(source.a)", {"a": None}, "string\\(\\) cannot take this value"),
        ("int(source.a)", {"a": "12abc"}, "int\\(\\): string parse error"),
        ("source.a.trim()", {"a": 5}, "trim\\(\\) takes text, not a whole number"),
        ("source.a.substring(2, 9)", {"a": "x"}, "not within a text of 1 characters"),
        ('source.a.matches("(")', {"a": "x"}, "'\\(' not a valid regex"),
        ("source.a", {"a": 2**70}, "does not fit into 64 bits"),
        ("source.a[0].b", {"a": [{"b": 2**70}]}, "does not fit into 64 bits"),
        ("source.a / 2", {"a": 2**60}, "too large for calculations with fractions"),
        ("source.a", {"a": float("nan")}, "the result is nan"),
        ("{1: 2}", {}, "keys that are not text"),
        ('duration("1h")', {}, "which is not JSON"),
        ('b"x"', {}, "which is not JSON"),
        ("source.a", {"a": "\ud800"}, "half a surrogate pair"),
        ('"a".replace("", source.a)', {"a": "b" * 10**6}, "more than 1,000,000 characters"),
    ],
)
def test_evaluation_error_has_a_reason(text: str, record: Record, reason: str) -> None:
    expression = RecordExpression(text)
    with pytest.raises(EvaluationError, match=reason):
        expression.evaluate(record)


@pytest.mark.parametrize(
    ("text", "message", "location", "fix"),
    [
        ("", "the expression is empty", (0, 0), None),
        ("source.a +", "ends too early", (10, 10), None),
        ("source.a ++ 1", "unexpected \\+", (10, 11), None),
        ("(source.a", "\\) is missing here", (9, 9), None),
        ("source.ä", "unexpected ä", (7, 8), None),
        ('"abc', "unclosed quote", (0, 4), None),
        ("total * 2", "unknown name 'total'. Write fields of the record as source.total", (0, 5), "source.total"),
        ("1 + sorce.a", "unknown name 'sorce'. Did you mean 'source'", (4, 9), "source"),
        ("source.a.trm()", "unknown function 'trm'. Did you mean 'trim'", (9, 12), "trim"),
        ("1 + math.rond(1)", "unknown function 'math.rond'. Did you mean 'math.round'", (4, 13), "math.round"),
        ("source.l.map(source, 1)", "source is a variable already", (0, 6), None),
        ("source.l.map(x, y)", "unknown name 'y'", (16, 17), "source.y"),
        ("1 + " * 600 + "1", f"at most {MAX_LENGTH} characters", (0, 2401), None),
        ("(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1), "nested more than", (0, 2 * MAX_NESTING + 3), None),
        ("[1].map(a, [1].map(b, [1].map(c, [1].map(d, 1))))", "loops are nested more than 3 deep", (40, 49), None),
    ],
)
def test_syntax_error_of_an_expression_has_a_position(
    text: str, message: str, location: tuple[int, int], fix: str | None
) -> None:
    with pytest.raises(ExpressionSyntaxError, match=message) as caught:
        RecordExpression(text)
    assert (caught.value.start, caught.value.end) == location
    assert caught.value.fix == fix


def test_fields_of_an_expression_are_known() -> None:
    expression = RecordExpression('source.a.b[0] + source["odd key"] + source.a.b[0] + source.c.size()')
    assert [str(path) for path in expression.fields] == ["a.b[0]", '["odd key"]', "c"]


@pytest.mark.parametrize("text", ["source", 'source["a" + "b"]', "source.exists(k, k == 'a')"])
def test_expression_can_read_the_whole_record(text: str) -> None:
    assert RecordExpression(text).fields == ()


MOMENT = 'timestamp("2024-03-05T01:02:03.456Z")'
BUILT_IN_CALLS: dict[str, tuple[str, Json]] = {
    "all": ("[1].all(x, x == 1)", True),
    "bytes": ('bytes("1") == b"1"', True),
    "contains": ('"abc".contains("b")', True),
    "double": ('double("1.5")', 1.5),
    "duration": ('duration("60s") == duration("1m")', True),
    "dyn": ("dyn(1)", 1),
    "endsWith": ('"abc".endsWith("c")', True),
    "exists": ("[1].exists(x, x == 2)", False),
    "exists_one": ("[1, 1].exists_one(x, x == 1)", False),
    "filter": ("[1, 2].filter(x, x > 1)", [2]),
    "getDate": (f"{MOMENT}.getDate()", 5),
    "getDayOfMonth": (f"{MOMENT}.getDayOfMonth()", 4),
    "getDayOfWeek": (f"{MOMENT}.getDayOfWeek()", 2),
    "getDayOfYear": (f"{MOMENT}.getDayOfYear()", 64),
    "getFullYear": (f"{MOMENT}.getFullYear()", 2024),
    "getHours": (f"{MOMENT}.getHours()", 1),
    "getMilliseconds": (f"{MOMENT}.getMilliseconds()", 456),
    "getMinutes": (f"{MOMENT}.getMinutes()", 2),
    "getMonth": (f"{MOMENT}.getMonth()", 2),
    "getSeconds": (f"{MOMENT}.getSeconds()", 3),
    "has": ("has(source.a)", False),
    "int": ('int("5")', 5),
    "map": ("[1].map(x, x + 1)", [2]),
    "matches": ('"abc".matches("^a.c$")', True),
    "startsWith": ('"abc".startsWith("a")', True),
    "string": ("string(1)", "1"),
    "timestamp": (MOMENT, "2024-03-05T01:02:03.456000Z"),
    "type": ('type("a") == string', True),
    "uint": ("uint(1) == 1u", True),
}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_function_exists_in_the_engine(name: str) -> None:
    text, expected = BUILT_IN_CALLS[name]
    assert evaluate(text, {}) == expected


def test_custom_functions_can_be_called() -> None:
    expression = CelExpression(
        'success_rate("24h") >= 0.995', [], {"success_rate": lambda window: len(str(window)) / 3}
    )
    assert expression.evaluate({}) is True
    with pytest.raises(ExpressionSyntaxError, match="Did you mean 'success_rate'"):
        CelExpression('sucess_rate("24h") >= 0.995', [], {"success_rate": lambda _: 1.0})


def test_function_that_fails_writes_nothing_to_stderr() -> None:
    script = (
        "from speclab.mapping.cel import *\n"
        "try: RecordExpression('source.a.trim()').evaluate({'a': 5})\n"
        "except EvaluationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("trim() takes text, not a whole number\n", "")


def test_engine_loads_without_its_command_line() -> None:
    script = (
        "import sys\nfrom speclab.mapping.cel import *\nRecordExpression('1 + 1').evaluate({})\n"
        "print(sorted(sys.modules.keys() & {'cel', 'cel.cel', 'typer', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['cel.cel']\n"


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(VALUES)
def test_value_passes_through_unchanged(value: Json) -> None:
    try:
        result = evaluate("source.a", {"a": value})
    except EvaluationError as error:
        assert "inf" in str(error) or "surrogate" in str(error)  # noqa: PT017  # not possible in JSON
    else:
        assert result == value


@given(st.integers(-(10**6), 10**6), st.integers(1, 1000))
def test_whole_and_fractional_agree(one: int, other: int) -> None:
    assert evaluate("source.a / source.b", {"a": one, "b": other}) == pytest.approx(one / other)
    assert evaluate("source.a * source.b", {"a": float(one), "b": other}) == one * other


def test_failure_of_a_row_is_located_at_the_expression(mapper_of: MapperOf) -> None:
    from speclab.mapping import Mapper

    mapper = mapper_of(("", "a", "= source.x || source.y, Default(false)"))
    assert isinstance(mapper, Mapper)
    assert mapper.map({"x": False, "y": True}) == {"a": True}
    with pytest.raises(MappingFailure) as caught:
        mapper.map({"x": 5, "y": "b", "z": 1})
    (failure,) = caught.value.failures
    assert (failure.column, failure.length) == (62, len(r"source.x \|\| source.y"))
    assert failure.step == "= source.x || source.y"
    assert failure.value == {"x": 5, "y": "b"}
