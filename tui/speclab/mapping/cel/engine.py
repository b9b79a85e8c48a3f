"""The CEL engine: all that this package uses of `common-expression-language` beyond its documented API.

The package is a Rust extension with a Python package around it. Three private parts are used, each for a reason:

- The extension is loaded from its file. `import cel` would also import a command line, which takes half a second.
- Its errors have neither codes nor positions, so they are recognized by their text.
- Its logger `cel` is silenced: where a function fails, it would print values of the record to standard error.

`tests/mapping/test_cel_engine.py` fails when a new version of the package changes any of them.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from speclab.core.json import Json
from speclab.mapping.cel.doubles import INNER_FUNCTIONS
from speclab.mapping.cel.functions import Function
from speclab.mapping.cel.syntax import ExpressionSyntaxError, tokenize

if TYPE_CHECKING:
    from cel import Context, Program

SIZE: Final = "characters"
"""The engine's name of our `size`: a registered function cannot replace a built-in one."""

_POSITION: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_UNEXPECTED: Final = re.compile(r"(?:mismatched input|extraneous input|no viable alternative at input) '(.*?)'(?: |$)")
_MISSING: Final = re.compile(r"missing '(.*?)' at ")
_FAILED_CALL: Final = re.compile(r"Function '([^']*)' error: (?:Python function call failed: \w+: )?(.*)", re.DOTALL)
_ADVICE: Final = re.compile(r"\.? (?:CEL does not coerce|Check (?:function|that)|The value is outside).*", re.DOTALL)


class CompiledProgram:
    """A compiled program with the functions it calls."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        """Compile `text`. Raises `ExpressionSyntaxError`."""
        self._program = compile_program(text)
        self._context: Context | None = None
        if functions:
            registered = {SIZE if name == "size" else name: function for name, function in functions.items()}
            self._context = load_extension().Context(functions=registered)

    def run(self, variables: Mapping[str, Json]) -> object:
        """Return the engine's result for `variables`; `describe_error` explains what is raised."""
        if self._context is None:
            return self._program.execute({**variables})
        for name, value in variables.items():
            self._context.add_variable(name, value)
        return self._program.execute(self._context)


def compile_program(text: str) -> Program:
    """Compile `text`. Raises `ExpressionSyntaxError`."""
    try:
        program: Program = load_extension().compile(text)
    except ValueError as error:
        raise locate_syntax_error(text, str(error)) from None
    return program


@cache
def load_extension() -> ModuleType:
    """Return the Rust extension, loaded without the package around it."""
    logger = logging.getLogger("cel")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    package = find_spec("cel")
    for directory in (package and package.submodule_search_locations) or ():
        for file in (Path(directory, f"cel{suffix}") for suffix in EXTENSION_SUFFIXES):
            spec = spec_from_file_location("cel.cel", file) if file.exists() else None
            if spec and spec.loader:
                module = sys.modules["cel.cel"] = module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError("common-expression-language is incomplete: its extension module is missing. Reinstall it.")


def locate_syntax_error(text: str, message: str) -> ExpressionSyntaxError:
    """Return the engine's `message` about `text` as an error with a short reason and a position."""
    found = _POSITION.search(message)
    if not found:
        return ExpressionSyntaxError(message, 0, len(text))
    line, column, reason = int(found[1]), int(found[2]), found[3]
    start = min(sum(len(part) for part in text.splitlines(keepends=True)[: line - 1]) + column - 1, len(text))
    end = next((token.end for token in tokenize(text) if token.start == start), start)
    if unexpected := _UNEXPECTED.match(reason):
        if unexpected[1] == "<EOF>":
            return ExpressionSyntaxError("the expression ends too early", start, end)
        reason = f"unexpected {unexpected[1]}"
    elif missing := _MISSING.match(reason):
        reason = f"{missing[1]} is missing here"
    return ExpressionSyntaxError(reason, start, end)


def describe_error(error: Exception) -> str:
    """Return the reason of an error that `CompiledProgram.run` raised."""
    text = str(error)
    if isinstance(error, KeyError):
        return f"there is no field {error.args[0]!r}; has(...) asks for it"
    if isinstance(error, RecursionError):
        return "a value is nested too deep"
    if isinstance(error, TypeError) and text.startswith("No such overload"):
        return "a function or operator cannot take these values: null, or text and numbers mixed"
    if isinstance(error, ValueError) and text.startswith("Conversion Error"):
        return "a text has half a surrogate pair, which is not a character"
    text = _ADVICE.sub("", text).partition("\n")[0].rstrip(":.")
    if found := re.match(r"Undefined variable or function: '([^']*)'", text):
        return f"{found[1]}() cannot take this value"
    if found := _FAILED_CALL.match(text):
        own = f"{found[1]}()" in found[2] or found[1] in {SIZE, *INNER_FUNCTIONS}
        return found[2] if own else f"{found[1]}(): {found[2]}"
    return text[:1].lower() + text[1:]
