from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.mapping.language import (
    CellSyntaxError,
    ExpressionCell,
    Literal,
    NameArgument,
    StepArgument,
    StepCall,
    parse,
    render,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
LITERALS: st.SearchStrategy[Literal] = st.one_of(
    st.text(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    NAMES.map(NameArgument),
)
CALLS = st.builds(
    lambda name, values: StepCall(name, tuple(StepArgument(value) for value in values)),
    NAMES,
    st.lists(LITERALS, max_size=3),
)
EXPRESSIONS = st.sampled_from(
    ["source.a", "1 + 2", 'f("a, b", [1, 2])', "{'a': [1, 2]}", "source.a == ',' ? 1 : 2", r'r"\" + "x"', "'''a,'b'''"]
).map(ExpressionCell)


def bare(steps: tuple[StepCall | ExpressionCell, ...]) -> list[object]:
    """Return the steps without their positions."""
    return [
        step.text if isinstance(step, ExpressionCell) else (step.name, [argument.value for argument in step.arguments])
        for step in steps
    ]


def test_empty_cell_has_no_steps() -> None:
    assert parse("") == parse("  ") == ()


def test_steps_and_arguments_have_offsets() -> None:
    trim, date = parse(' Trim ,  Date( "%d/%m/%Y" , iso)')
    assert trim == StepCall("Trim", (), 1, 5)
    assert date == StepCall(
        "Date", (StepArgument("%d/%m/%Y", 15, 25), StepArgument(NameArgument("iso"), 28, 31)), 9, 32
    )
    assert isinstance(date, StepCall)
    assert date.name_end == 13


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"a"', "a"),
        ("'a'", "a"),
        (r'"say \"hi\""', 'say "hi"'),
        (r"'it\'s'", "it's"),
        (r'"a\\b"', r"a\b"),
        (r'"\d+\s"', r"\d+\s"),
        (r'"a\nb\tc"', "a\nb\tc"),
        ('"a, b) |"', "a, b) |"),
        ("12", 12),
        ("-3", -3),
        ("1.50", 1.5),
        ("2e3", 2000.0),
        ("status", NameArgument("status")),
        ("true", NameArgument("true")),
    ],
)
def test_argument_is_text_a_number_or_a_name(written: str, value: Literal) -> None:
    (step,) = parse(f"F({written})")
    assert isinstance(step, StepCall)
    (argument,) = step.arguments
    assert argument.value == value
    assert type(argument.value) is type(value)


def test_expression_ends_at_the_first_comma_outside_brackets_and_quotes() -> None:
    cell = """= f(a, [1, 2]) + {"x": ", "}["x"], Round(2)"""
    expression, step = parse(cell)
    assert expression == ExpressionCell('f(a, [1, 2]) + {"x": ", "}["x"]', 2, cell.index(", Round"))
    assert step == StepCall("Round", (StepArgument(2, cell.index("2)", 40), cell.index("2)", 40) + 1),), 35, 43)


@pytest.mark.parametrize(
    ("cell", "message", "location", "fix"),
    [
        ("Trim | Uppercase", "commas, not by pipes", (4, 6), ","),
        ("Trim; Uppercase", "commas, not by semicolons", (4, 5), ","),
        ("Trim Uppercase", "expected a comma between steps, got Uppercase", (5, 14), None),
        ("Trim,", "expected the name of a step, got the end of the cell", (5, 5), None),
        ("Trim,, Title", "expected the name of a step, got ,", (5, 6), None),
        ("Date(", "expected text in quotes, a number or a name, got the end of the cell", (5, 5), None),
        ('Date("x"', "unclosed bracket", (0, 8), None),
        ('Date("x', "unclosed quote", (5, 7), None),
        (r'Split("\")', r"unclosed quote; write a backslash in quotes as \\", (6, 10), None),
        (r'Replace("\", "/")', 'closing bracket, got /"; write a backslash in quotes as \\\\', (14, 16), None),
        ('Date("x" 2)', "expected a comma or a closing bracket, got 2", (9, 10), None),
        ("Date(“x”)", "“ is a curly quote", (5, 6), '"'),
        ("`Trim`", "without backticks", (0, 1), ""),
        ("Trim, = 1", "an expression must come first", (6, 7), None),
        ("=", "an expression is missing after =", (1, 1), None),
        ("= , Trim", "an expression is missing after =", (2, 2), None),
        ('= "a', "unclosed quote", (2, 4), None),
        ("= 1 // one", "comments belong in the Notes column", (4, 10), None),
        ("42", "expected the name of a step, got 42", (0, 2), None),
        ('Trim, RegexReplace("\udce9", "")', "a byte that is not UTF-8", (20, 21), None),
        ('= "caf\udce9"', "a byte that is not UTF-8", (6, 7), None),
        ("Default(1e400)", "this number does not fit into a JSON number; put it in quotes as text", (8, 13), None),
        ("Default(-18446744073709551616)", "this number does not fit into a JSON number", (8, 29), None),
        ("Constant(0.12345678901234567890)", "this number does not fit into a JSON number", (9, 31), None),
        ("Constant(1e99999999999999999999)", "this number does not fit into a JSON number", (9, 31), None),
        (f"Truncate({'9' * 5000})", "this number does not fit into a JSON number", (9, 5009), None),
    ],
)
def test_syntax_error_says_where_and_what_to_do(
    cell: str, message: str, location: tuple[int, int], fix: str | None
) -> None:
    with pytest.raises(CellSyntaxError) as caught:
        parse(cell)
    assert message in caught.value.message
    assert (caught.value.start, caught.value.end) == location
    assert caught.value.fix == fix


@given(st.lists(CALLS, max_size=4), st.one_of(st.none(), EXPRESSIONS))
def test_rendered_steps_parse_back(calls: list[StepCall], expression: ExpressionCell | None) -> None:
    steps: tuple[StepCall | ExpressionCell, ...] = (*([expression] if expression else []), *calls)
    assert bare(parse(render(steps))) == bare(steps)


@given(st.text(alphabet="Trim(), \"'=|\\%a1.;[]{}"))
def test_any_text_parses_or_has_a_located_error(cell: str) -> None:
    rejected: CellSyntaxError | None = None
    steps: tuple[StepCall | ExpressionCell, ...] = ()
    try:
        steps = parse(cell)
    except CellSyntaxError as error:
        rejected = error
    assert rejected is None or 0 <= rejected.start <= rejected.end <= len(cell)
    for step in steps:
        assert cell[step.start : step.end].startswith(step.text if isinstance(step, ExpressionCell) else step.name)
    assert bare(parse(render(steps))) == bare(steps)
