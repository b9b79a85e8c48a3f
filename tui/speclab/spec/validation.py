"""What pydantic says of a settings block, in words, at the very key or value, with the nearest name there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, get_args

from speclab.spec.findings import Findings, Stretch
from speclab.spec.lines import Span
from speclab.spec.names import nearest, slip
from speclab.spec.yamlmend import quoted
from speclab.spec.yamltree import Entry, Fields, Items, Node, Scalar

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from speclab.spec.settings import Settings

_EXPECTED: Final = {
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "string_type": "text",
    "dict_type": "a mapping, `key: value`",
    "model_type": "a mapping, `key: value`",
    "model_attributes_type": "a mapping, `key: value`",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOOLEANS: Final = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_LITERAL: Final = re.compile(r"'([^']*)'")


def tell(error: ErrorDetails, tree: Fields, model: type[Settings], findings: Findings) -> None:
    """Tell of one error of pydantic's about what `tree` writes for `model`."""
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    entry, node = find(tree, loc)
    if loc[-1:] == ("[key]",) and entry is not None:  # as pydantic calls the key of an entry
        loc, node = loc[:-1], entry.key
    name = ".".join(str(part) for part in loc)
    if kind == "missing":
        parent, _ = find(tree, loc[:-1])
        about = _description(model, loc)
        message = f"`{name}` is missing: {about}" if about else f"`{name}` is missing"
        findings.error("S201", place_of_missing(tree, parent), message)
    elif kind == "extra_forbidden":
        _tell_unknown(loc, entry.key if entry else tree, model, findings)
    elif kind == "misfit":
        blamed = find(tree, [*loc, *str(context["at"]).split(".", 1)])[0] if context.get("at") else None
        findings.error("S205", blamed.key if blamed else place_of_missing(tree, entry), str(context["message"]))
    elif kind == "misread":
        message, offset, item = str(context["message"]), int(context["offset"]), context["item"]
        if item is not None and isinstance(node, Items):
            message, node = f"`{name}`: {message}", node.nodes[item]
        at = node.part(offset, len(node.text)) if isinstance(node, Scalar) else node
        findings.error("S203", at, message)
    elif kind == "literal_error":
        names = _LITERAL.findall(str(context["expected"]))
        text = node.text if isinstance(node, Scalar) else ""
        message = f"`{name}`: unknown value {shown(node)}; {nearest(text, names, 'expected one of')}"
        findings.error("S204", node, message, slip(text, names))
    elif kind == "empty":
        about = _description(model, loc)
        findings.error("S203", node, f"`{name}` is empty: {about}" if about else f"`{name}` is empty")
    elif kind == "value_error":
        findings.error("S203", node, f"`{name}`: {context['error']}")
    else:
        _tell_wrong_type(error, name, node, findings)


def tell_forgotten(tree: Fields, model: type[Settings], findings: Findings, before: str = "") -> None:
    """Tell of settings that have a key and no value; `null` and `~` say that there shall be none."""
    from pydantic import JsonValue

    known = fields_of(model)
    for entry in tree.entries:
        name, node, annotation = entry.key.text, entry.node, known.get(entry.key.text)
        if isinstance(node, Fields) and (inner := model_in(annotation)):
            tell_forgotten(node, inner, findings, f"{before}{name}.")
        elif isinstance(node, Scalar) and node.plain and not node.text and annotation not in (None, JsonValue):
            findings.error("S203", node, f"`{before}{name}` has no value")


def find(tree: Node, loc: Sequence[int | str]) -> tuple[Entry | None, Node]:
    """The last entry and the last node on the way to `loc`, as far as it goes."""
    entry: Entry | None = None
    node = tree
    for part in loc:
        if isinstance(node, Fields) and (found := node.get(str(part))):
            entry, node = found, found.node
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
        else:
            break
    return entry, node


def place_of_missing(tree: Fields, parent: Entry | None) -> Stretch:
    """Where to tell of a setting that is not there: the key it is missing from, else the first of the block."""
    if parent is not None:
        return parent.key
    return tree.entries[0].key if tree.entries else Span(tree.start, tree.end)


def shown(node: Node) -> str:
    """What stands there, in words."""
    if isinstance(node, Scalar):
        return repr(node.text)
    return "a list" if isinstance(node, Items) else "a mapping"


def fields_of(model: type[Settings]) -> dict[str, object]:
    """A model's settings as a spec names them, with their types."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def model_in(annotation: object) -> type[Settings] | None:
    """The model that a setting of this type holds, if it holds one."""
    from speclab.spec.settings import Settings

    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for arg in get_args(annotation) if (found := model_in(arg))), None)


def _tell_unknown(loc: Sequence[int | str], at: Stretch, model: type[Settings], findings: Findings) -> None:
    name, parents = str(loc[-1]), loc[:-1]
    inside = _model_at(model, parents)
    names = list(fields_of(inside)) if inside else []
    where = f" in `{'.'.join(str(part) for part in parents)}`" if parents else ""
    here = ".".join([*map(str, parents), name])
    elsewhere = [path for path in _paths_of(model).get(name, ()) if path != here]
    meant = slip(name, names)
    if elsewhere and meant is None:
        findings.error("S202", at, f"`{name}` does not stand here; did you mean `{elsewhere[0]}`?")
    else:
        findings.error("S202", at, f"unknown setting {name!r}{where}; {nearest(name, names, 'expected one of')}", meant)


def _tell_wrong_type(error: ErrorDetails, name: str, node: Node, findings: Findings) -> None:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and isinstance(node, Fields) and node.flow and not any(node.value.values()):
        written = findings.text[node.start : node.end]
        message = f"quote this value: {quoted(written)}; unquoted, braces make it a mapping"
        findings.error("S102", node, message, quoted(written))
        return
    if isinstance(node, Scalar) and node.plain and node.value is None:
        findings.error("S203", node, f"`{name}` has no value")
        return
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        findings.error("S203", node, f"`{name}`: expected {bound}, not {shown(node)}")
        return
    expected = _EXPECTED.get(kind)
    if expected is None:
        findings.error("S203", node, f"`{name}`: {error['msg']}")
        return
    fix = None
    if isinstance(node, Scalar):
        if kind == "bool_type":
            fix = _BOOLEANS.get(node.text.casefold())
        elif kind in {"list_type", "tuple_type"}:
            fix = f"[{findings.text[node.start : node.end]}]"
    hint = f"; write {fix}" if fix else ""
    findings.error("S203", node, f"`{name}`: expected {expected}, not {shown(node)}{hint}", fix)


def _model_at(model: type[Settings], loc: Sequence[int | str]) -> type[Settings] | None:
    found: type[Settings] | None = model
    for part in loc:
        if found is None:
            return None
        found = model_in(fields_of(found).get(str(part)))
    return found


def _description(model: type[Settings], loc: Sequence[int | str]) -> str:
    inside = _model_at(model, loc[:-1])
    if inside is None:
        return ""
    named = {info.alias or name: info for name, info in inside.model_fields.items()}
    return named[str(loc[-1])].description or ""


@cache
def _paths_of(model: type[Settings]) -> dict[str, list[str]]:
    """Map each setting name of a model to the dotted paths at which it stands."""
    paths: dict[str, list[str]] = {}
    for name, path in _named_paths(model, ""):
        paths.setdefault(name, []).append(path)
    return paths


def _named_paths(model: type[Settings], before: str) -> Iterator[tuple[str, str]]:
    for key, annotation in fields_of(model).items():
        yield key, before + key
        if inner := model_in(annotation):
            yield from _named_paths(inner, f"{before}{key}.")
