"""The structure of the package: unique class names and no import cycles, lazy and type-checking imports included."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tui" / "speclab"

ALLOWED_DUPLICATES: frozenset[str] = frozenset({"_Reader", "_Unfit"})
"""Class names that are still used twice. Remove a name when you fix it; add none."""

ALLOWED_CYCLES: frozenset[str] = frozenset({"core", "mapping", "spec"})
"""Packages that still have modules in import cycles. Remove a name when you fix it; add none."""


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module by its dotted name."""
    return {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str) -> set[str]:
    """Return the modules that `name` imports anywhere in its text; `from a import b` is `a.b` if that is a module."""
    found: set[str] = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= full & modules().keys() or {node.module}
    return (found & modules().keys()) - {name}


def reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Return every module that can be reached from `start` over at least one import."""
    found: set[str] = set()
    pending = list(graph[start])
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += graph[name]
    return found


def test_class_names_are_unique_in_the_package() -> None:
    places = defaultdict(list)
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    duplicates = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in duplicates.items() if name not in ALLOWED_DUPLICATES} == {}


def test_modules_have_no_import_cycle() -> None:
    graph = {name: imports(name) for name in modules()}
    in_cycles = {name for name in graph if name in reachable(name, graph)}
    allowed = {name for name in in_cycles if name.removeprefix("speclab.").partition(".")[0] in ALLOWED_CYCLES}
    try:
        TopologicalSorter({name: graph[name] - allowed for name in graph.keys() - allowed}).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise AssertionError(f"import cycle: {cycle}") from None
