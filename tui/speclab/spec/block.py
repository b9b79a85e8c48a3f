"""A settings block: the first fenced yaml block of a section, as the typed model it writes.

Whatever does not fit is told at the key or the value it is about, with what was expected and the nearest name there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from speclab.spec.findings import Findings, Stretch
from speclab.spec.lines import Span
from speclab.spec.names import nearest, slip
from speclab.spec.outline import Block, BlockKind, Section
from speclab.spec.yamlmend import quoted
from speclab.spec.yamltree import Entry, Fields, Items, Node, Scalar, parse

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from speclab.jsonvalue import Json
    from speclab.spec.settings import Settings

M = TypeVar("M", bound="Settings")

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


def settings_blocks(section: Section) -> list[Block]:
    """The fenced yaml blocks of a section; the first holds its settings."""
    return [
        block
        for block in section.blocks
        if block.kind is BlockKind.FENCE and block.info.split(maxsplit=1)[:1] in (["yaml"], ["yml"], ["YAML"])
    ]


def read_block(section: Section, findings: Findings) -> Fields | None:
    """The tree of a section's settings block; None if there is none, or nothing can be made of it.

    An empty block's tree stands at its fence, so that what is missing from it has a place.
    """
    blocks = settings_blocks(section)
    if not blocks:
        return None
    for other in blocks[1:]:
        findings.note("S109", other.span, "a second settings block; only the section's first is read")
    block = blocks[0]
    content = block.content or Span(block.span.end, block.span.end)
    if block.span.end <= content.end:
        findings.error("S107", block.span, "this settings block is never closed")
    tree = parse(content.of(findings.text), content.start, findings)
    if tree is not None and not tree.entries:
        return Fields((), block.span.start, block.span.end)
    return tree


def to_model(tree: Fields, model: type[M], findings: Findings) -> M | None:
    """The settings that `tree` writes; None, and every reason told, if it does not write any.

    A setting that is text takes a number, a date or a `true` as it is written.
    """
    values: dict[str, Json] = tree.value
    validated = _validated(values, model)
    if isinstance(validated, list) and [error for error in validated if _take_as_written(values, tree, error)]:
        validated = _validated(values, model)
    if not isinstance(validated, list):
        return validated
    for error in validated:
        _tell(error, tree, model, findings)
    return None


def to_variant(
    tree: Fields, tag: str, variants: Mapping[str, type[M]], not_yet: frozenset[str], findings: Findings
) -> M | None:
    """The settings that `tree` writes, of the model that its `tag` (`connector`, `type`) names."""
    names = list(variants)
    entry = tree.get(tag)
    if entry is None:
        misspelt = next((other for other in tree.entries if slip(other.key.text, [tag])), None)
        if misspelt is None:
            findings.error("S201", _place_of_missing(tree, None), f"`{tag}` is missing: one of {', '.join(names)}")
            return None
        key = misspelt.key
        findings.error("S202", key, f"unknown setting {key.text!r}; did you mean {tag!r}?", tag)
        meant = Entry(Scalar(tag, plain=True, start=key.start, end=key.end), misspelt.node)
        return to_variant(_with(tree, misspelt, meant), tag, variants, not_yet, findings)
    name = entry.node.text if isinstance(entry.node, Scalar) else ""
    if name in variants:
        return to_model(tree, variants[name], findings)
    if name in not_yet:
        findings.need("S206", entry.node, f"{name!r} is known, but this version of speclab cannot run it yet")
        return None
    near = slip(name, names)
    findings.error("S204", entry.node, f"unknown {tag} {name!r}; {nearest(name, names, 'expected one of')}", near)
    if near is not None:  # read on as if it were that, for what else is wrong
        value = Scalar(near, plain=True, start=entry.node.start, end=entry.node.end)
        to_model(_with(tree, entry, Entry(entry.key, value)), variants[near], findings)
    return None


def _with(tree: Fields, entry: Entry, other: Entry) -> Fields:
    """`tree` with `other` in the place of `entry`."""
    return Fields(tuple(other if one is entry else one for one in tree.entries), tree.start, tree.end)


def _validated(values: dict[str, Json], model: type[M]) -> M | list[ErrorDetails]:
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)


def fields_of(model: type[Settings]) -> dict[str, object]:
    """A model's settings as a spec names them, with their types."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def model_in(annotation: object) -> type[Settings] | None:
    """The model that a setting of this type holds, if it holds one."""
    from speclab.spec.settings import Settings

    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for arg in get_args(annotation) if (found := model_in(arg))), None)


def _take_as_written(values: Json, tree: Node, error: ErrorDetails) -> bool:
    """Put a plain value back as it is written, if the error is that it is no text."""
    if error["type"] != "string_type":
        return False
    *way, last = error["loc"]
    for part in way:
        if isinstance(values, dict) and part in values:
            values = values[str(part)]
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
    node = _find(tree, error["loc"])[1]
    if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, str):
        return False
    if isinstance(values, dict):
        values[str(last)] = node.text
    elif isinstance(values, list) and isinstance(last, int):
        values[last] = node.text
    return True


def _find(tree: Node, loc: Sequence[int | str]) -> tuple[Entry | None, Node, Sequence[int | str]]:
    """The last entry and the last node on the way to `loc`, and what of `loc` is not there."""
    entry: Entry | None = None
    node = tree
    for at, part in enumerate(loc):
        if isinstance(node, Fields) and (found := node.get(str(part))):
            entry, node = found, found.node
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
        else:
            return entry, node, loc[at:]
    return entry, node, ()


def _place_of_missing(tree: Fields, parent: Entry | None) -> Stretch:
    if parent is not None:
        return parent.key
    return tree.entries[0].key if tree.entries else Span(tree.start, tree.end)


def _tell(error: ErrorDetails, tree: Fields, model: type[Settings], findings: Findings) -> None:
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    entry, node, _ = _find(tree, loc)
    name = ".".join(str(part) for part in loc)
    if kind == "missing":
        parent, _, _ = _find(tree, loc[:-1])
        about = _description(model, loc)
        findings.error(
            "S201", _place_of_missing(tree, parent), f"`{name}` is missing" + (f": {about}" if about else "")
        )
    elif kind == "extra_forbidden":
        _tell_unknown(loc, entry.key if entry else tree, model, findings)
    elif kind == "misfit":
        blamed = _find(tree, [*loc, *str(context["at"]).split(".")])[0] if context.get("at") else None
        findings.error("S205", blamed.key if blamed else _place_of_missing(tree, entry), str(context["message"]))
    elif kind == "misread":
        offset = int(context["offset"])
        at = node.part(offset, len(node.text)) if isinstance(node, Scalar) else node
        findings.error("S203", at, str(context["message"]))
    elif kind == "literal_error":
        names = _LITERAL.findall(str(context["expected"]))
        text = node.text if isinstance(node, Scalar) else ""
        message = f"`{name}`: unknown value {_shown(node)}; {nearest(text, names, 'expected one of')}"
        findings.error("S204", node, message, slip(text, names))
    elif kind == "value_error":
        findings.error("S203", node, f"`{name}`: {context['error']}")
    else:
        _tell_wrong_type(error, name, node, findings)


def _tell_unknown(loc: Sequence[int | str], at: Stretch, model: type[Settings], findings: Findings) -> None:
    name, parents = str(loc[-1]), loc[:-1]
    inside = _model_at(model, parents)
    names = list(fields_of(inside)) if inside else []
    where = f" in `{'.'.join(str(part) for part in parents)}`" if parents else ""
    elsewhere = [path for path in _paths_to(model, name) if path != ".".join([*map(str, parents), name])]
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
        findings.error("S203", node, f"`{name}`: expected {bound}, not {_shown(node)}")
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
    findings.error("S203", node, f"`{name}`: expected {expected}, not {_shown(node)}{hint}", fix)


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return repr(node.text)
    return "a list" if isinstance(node, Items) else "a mapping"


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


def _paths_to(model: type[Settings], name: str, before: str = "") -> Iterator[str]:
    """Where in a model a setting of that name stands, as dotted paths."""
    for key, annotation in fields_of(model).items():
        if key == name:
            yield before + key
        if inner := model_in(annotation):
            yield from _paths_to(inner, name, f"{before}{key}.")
