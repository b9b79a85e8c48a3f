"""What `cel/engine.py` relies on in common-expression-language. A failure here names what a new version changed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from logging.handlers import BufferingHandler

import pytest

from speclab.core.json import Json
from speclab.mapping.cel.engine import CompiledProgram, describe_error, load_extension, locate_syntax_error


def raised_by(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the engine's classes are under test
        call()
    return caught.value


def run(text: str, **variables: object) -> object:
    return load_extension().compile(text).execute(variables)


def test_extension_has_the_parts_that_are_used() -> None:
    extension = load_extension()
    assert {"Context", "Program", "compile"} <= set(dir(extension))
    assert extension.compile("a + 1").execute({"a": 1}) == 2
    context = extension.Context(functions={"twice": lambda value: value * 2})
    context.add_variable("a", 3)
    assert extension.compile("twice(a)").execute(context) == 6


def test_syntax_error_has_its_position_in_its_text() -> None:
    error = raised_by(lambda: load_extension().compile("1 +\n + ) 2"))
    assert type(error) is ValueError
    located = locate_syntax_error("1 +\n + ) 2", str(error))
    assert (located.start, located.end) != (0, len("1 +\n + ) 2"))
    assert "ERROR" not in located.message


@pytest.mark.parametrize(
    ("call", "kind", "reason"),
    [
        (lambda: run("a.b", a={}), KeyError, "there is no field 'b'; has(...) asks for it"),
        (
            lambda: run("a < 1", a="x"),
            TypeError,
            "a function or operator cannot take these values: null, or text and numbers mixed",
        ),
        (lambda: run("a + 1", a="x"), TypeError, "unsupported operation: string + int"),
        (lambda: run("a", a="\ud800"), ValueError, "a text has half a surrogate pair, which is not a character"),
        (lambda: run("missing(1)"), RuntimeError, "missing() cannot take this value"),
    ],
)
def test_error_is_recognized_by_its_class_and_text(
    call: Callable[[], object], kind: type[Exception], reason: str
) -> None:
    error = raised_by(call)
    assert type(error) is kind
    assert describe_error(error) == reason


def test_error_of_a_registered_function_names_it_and_keeps_its_reason() -> None:
    def fail(value: Json) -> Json:
        raise ValueError(f"no {value}")

    error = raised_by(lambda: CompiledProgram("fail(1)", {"fail": fail}).run({}))
    assert describe_error(error) == "fail(): no 1"


def test_engine_logs_to_the_logger_that_is_silenced() -> None:
    def fail(value: Json) -> Json:
        raise ValueError(f"no {value}")

    load_extension()  # silences it
    logger = logging.getLogger("cel")
    handler = BufferingHandler(10)
    logger.addHandler(handler)
    try:
        raised_by(lambda: CompiledProgram("fail(1)", {"fail": fail}).run({}))
    finally:
        logger.removeHandler(handler)
    assert handler.buffer, "no record reached the logger 'cel': silence whatever logs now"


@pytest.mark.parametrize(
    ("text", "variables", "result"),
    [
        ("size(a)", {"a": "é"}, 2),
        ("1999 / 100", {}, 19),
    ],
)
def test_behaviour_that_needs_a_workaround_is_unchanged(
    text: str, variables: dict[str, object], result: object
) -> None:
    assert run(text, **variables) == result


def test_numbers_of_two_kinds_do_not_mix() -> None:
    assert type(raised_by(lambda: run("2 * 1.5"))) is TypeError


def test_package_still_imports_a_command_line() -> None:
    script = "import sys, cel\nprint('typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n", "import the package as it is: `load_extension` is not needed any more"
