"""Settings blocks: from a fenced YAML block to a typed model, with the location of every problem."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar, get_args, get_origin

from speclab.core.plugins import BrokenPlugin, PluginRegistry, describe_exception
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.outline import Block, BlockKind, LineSpan, Section
from speclab.spec.positioned_yaml import (
    MappingEntry,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    TreeBuilder,
    diagnose,
    find_value_to_quote,
    quote,
    substitute_characters,
)
from speclab.spec.problems import ProblemCollector, TextRange

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from speclab.core.json import Json
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


def report_error(error: ErrorDetails, tree: MappingNode, model: type[Settings], findings: ProblemCollector) -> None:
    """Report one of pydantic's errors about the settings in `tree`."""
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    entry, node = find(tree, loc)
    if loc[-1:] == ("[key]",) and entry is not None:  # pydantic's name for the key of an entry
        loc, node = loc[:-1], entry.key
    name = ".".join(str(part) for part in loc)
    if kind == "missing":
        parent, _ = find(tree, loc[:-1])
        about = _description(model, loc)
        message = f"`{name}` is missing: {about}" if about else f"`{name}` is missing"
        findings.error("S201", missing_setting_span(tree, parent), message)
    elif kind == "extra_forbidden":
        _report_unknown(loc, entry.key if entry else tree, model, findings)
    elif kind == "inconsistent":
        blamed = find(tree, [*loc, *str(context["at"]).split(".", 1)])[0] if context.get("at") else None
        findings.error("S205", blamed.key if blamed else missing_setting_span(tree, entry), str(context["message"]))
    elif kind == "invalid_text":
        message, offset, item = str(context["message"]), int(context["offset"]), context["item"]
        if item is not None and isinstance(node, SequenceNode):
            message, node = f"`{name}`: {message}", node.nodes[item]
        at = node.part(offset, len(node.text)) if isinstance(node, ScalarNode) else node
        findings.error("S203", at, message)
    elif kind == "literal_error":
        names = _LITERAL.findall(str(context["expected"]))
        text = node.text if isinstance(node, ScalarNode) else ""
        message = f"`{name}`: unknown value {describe(node)}; {describe_choices(text, names, 'expected one of')}"
        findings.error("S204", node, message, find_likely_name(text, names))
    elif kind == "empty":
        about = _description(model, loc)
        findings.error("S203", node, f"`{name}` is empty: {about}" if about else f"`{name}` is empty")
    elif kind == "value_error":
        findings.error("S203", node, f"`{name}`: {context['error']}")
    else:
        _report_wrong_type(error, name, node, findings)


def report_missing_values(
    tree: MappingNode, model: type[Settings], findings: ProblemCollector, before: str = ""
) -> None:
    """Report settings with a key and no value; an explicit `null` or `~` is a value."""
    from pydantic import JsonValue

    known = list_fields(model)
    for entry in tree.entries:
        name, node, annotation = entry.key.text, entry.node, known.get(entry.key.text)
        if isinstance(node, MappingNode) and (inner := find_model(annotation)):
            for path, block in [(name, node)] if get_origin(annotation) is not dict else list_named_blocks(name, node):
                report_missing_values(block, inner, findings, f"{before}{path}.")
        elif isinstance(node, ScalarNode) and node.plain and not node.text and annotation not in (None, JsonValue):
            findings.error("S203", node, f"`{before}{name}` has no value")


def find(tree: Node, loc: Sequence[int | str]) -> tuple[MappingEntry | None, Node]:
    """Return the deepest entry and node on the path `loc` that exist."""
    entry: MappingEntry | None = None
    node = tree
    for part in loc:
        if isinstance(node, MappingNode) and (found := node.get(str(part))):
            entry, node = found, found.node
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
        else:
            break
    return entry, node


def missing_setting_span(tree: MappingNode, parent: MappingEntry | None) -> TextRange:
    """Return where to report a missing setting: at the key it is missing from, else at the first of the block."""
    if parent is not None:
        return parent.key
    return tree.entries[0].key if tree.entries else LineSpan(tree.start, tree.end)


def describe(node: Node) -> str:
    """Return the node as messages show it."""
    if isinstance(node, ScalarNode):
        return repr(node.text)
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def list_named_blocks(name: str, node: MappingNode) -> list[tuple[str, MappingNode]]:
    """Return the blocks of a setting that is a mapping of blocks by name, with their paths."""
    return [(f"{name}.{one.key.text}", one.node) for one in node.entries if isinstance(one.node, MappingNode)]


def list_fields(model: type[Settings]) -> dict[str, object]:
    """Return the settings of a model by the names that a spec uses, with their types."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def find_model(annotation: object) -> type[Settings] | None:
    """Return the settings model inside a setting of this type, if there is one."""
    from speclab.spec.settings import Settings

    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for arg in get_args(annotation) if (found := find_model(arg))), None)


def _report_unknown(loc: Sequence[int | str], at: TextRange, model: type[Settings], findings: ProblemCollector) -> None:
    name, parents = str(loc[-1]), loc[:-1]
    inside = _model_at(model, parents)
    names = list(list_fields(inside)) if inside else []
    where = f" in `{'.'.join(str(part) for part in parents)}`" if parents else ""
    here = ".".join([*map(str, parents), name])
    elsewhere = [path for path in _paths_of(model).get(name, ()) if path != here]
    meant = find_likely_name(name, names)
    if elsewhere and meant is None:
        findings.error("S202", at, f"`{name}` does not belong here; did you mean `{elsewhere[0]}`?")
    else:
        findings.error(
            "S202", at, f"unknown setting {name!r}{where}; {describe_choices(name, names, 'expected one of')}", meant
        )


def _report_wrong_type(error: ErrorDetails, name: str, node: Node, findings: ProblemCollector) -> None:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and isinstance(node, MappingNode) and node.flow and not any(node.value.values()):
        written = findings.text[node.start : node.end]
        message = f"quote this value: {quote(written)}; without quotes, braces make it a mapping"
        findings.error("S102", node, message, quote(written))
        return
    if isinstance(node, ScalarNode) and node.plain and node.value is None:
        findings.error("S203", node, f"`{name}` has no value")
        return
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        findings.error("S203", node, f"`{name}`: expected {bound}, got {describe(node)}")
        return
    expected = _EXPECTED.get(kind)
    if expected is None:
        findings.error("S203", node, f"`{name}`: {error['msg']}")
        return
    fix = None
    if isinstance(node, ScalarNode):
        if kind == "bool_type":
            fix = _BOOLEANS.get(node.text.casefold())
        elif kind in {"list_type", "tuple_type"}:
            fix = f"[{findings.text[node.start : node.end]}]"
    hint = f"; write {fix}" if fix else ""
    findings.error("S203", node, f"`{name}`: expected {expected}, got {describe(node)}{hint}", fix)


def _model_at(model: type[Settings], loc: Sequence[int | str]) -> type[Settings] | None:
    found: type[Settings] | None = model
    parts = iter(loc)
    for part in parts:
        if found is None:
            return None
        annotation = list_fields(found).get(str(part))
        found = find_model(annotation)
        if found is not None and get_origin(annotation) is dict:
            next(parts, None)  # the name of a block
    return found


def _description(model: type[Settings], loc: Sequence[int | str]) -> str:
    inside = _model_at(model, loc[:-1])
    if inside is None:
        return ""
    named = {info.alias or name: info for name, info in inside.model_fields.items()}
    text = (named[str(loc[-1])].description or "").removesuffix(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]  # an abbreviation such as URL keeps its case


@cache
def _paths_of(model: type[Settings]) -> dict[str, list[str]]:
    """Return, for each setting name in a model, the dotted paths where it exists."""
    paths: dict[str, list[str]] = {}
    for name, path in _named_paths(model, ""):
        paths.setdefault(name, []).append(path)
    return paths


def _named_paths(model: type[Settings], before: str) -> Iterator[tuple[str, str]]:
    for key, annotation in list_fields(model).items():
        yield key, before + key
        if inner := find_model(annotation):
            yield from _named_paths(inner, f"{before}{key}.")


M = TypeVar("M", bound="Settings")

_MAX_UNKNOWN: Final = 100
"""Unknown settings of one block that are reported one by one; the rest is only counted."""


def settings_blocks(section: Section) -> list[Block]:
    """Return the fenced yaml blocks of a section; the first contains its settings."""
    return [
        block
        for block in section.blocks
        if block.kind is BlockKind.FENCE and block.info.casefold().split(maxsplit=1)[:1] in (["yaml"], ["yml"])
    ]


def read_block(section: Section, findings: ProblemCollector) -> MappingNode | None:
    """Return the tree of a section's settings block; None if there is no block, or it cannot be parsed.

    The tree of an empty block has the span of the block, so that missing settings can be reported there.
    """
    blocks = settings_blocks(section)
    if not blocks:
        return None
    for other in blocks[1:]:
        findings.note("S109", other.span, "a second settings block is ignored; only the first of a section is read")
    block = blocks[0]
    content = block.content or LineSpan(block.span.end, block.span.end)
    if block.span.end <= content.end:
        findings.error("S107", block.span, "this settings block is not closed; close it with the same fence")
    tree = parse_settings(content.of(findings.text), content.start, findings)
    if tree is not None and not tree.entries:
        return MappingNode((), block.span.start, block.span.end)
    return tree


def to_model(tree: MappingNode, model: type[M], findings: ProblemCollector) -> M | None:
    """Return the settings in `tree` as `model`; None if they are not valid, with every problem reported.

    A text setting accepts a number, a date or a `true` as written.
    """
    errors = findings.errors
    report_missing_values(tree, model, findings)
    values: dict[str, Json] = tree.value
    validated = _validate(values, model)
    if isinstance(validated, list) and [error for error in validated if _use_written_text(values, tree, error)]:
        validated = _validate(values, model)
    if not isinstance(validated, list):
        return validated if findings.errors == errors else None
    unknown = 0
    for error in validated:
        unknown += error["type"] == "extra_forbidden"
        if unknown <= _MAX_UNKNOWN or error["type"] != "extra_forbidden":
            report_error(error, tree, model, findings)
    if unknown > _MAX_UNKNOWN:
        more = unknown - _MAX_UNKNOWN
        findings.error("S202", missing_setting_span(tree, None), f"{more:,} more unknown settings in this block")
    return None


def to_variant(
    tree: MappingNode,
    tag: str,
    variants: Mapping[str, type[M]] | PluginRegistry[type[M]],
    not_yet: frozenset[str],
    findings: ProblemCollector,
    *,
    others: str = "",
) -> M | None:
    """Return the settings in `tree` as the model that its `tag` (`connector`, `type`) names.

    `others` is a hint on where further variants come from, for the message about an unknown one.
    """
    names = list(variants)
    entry = tree.get(tag)
    if entry is None:
        misspelt = next((other for other in tree.entries if find_likely_name(other.key.text, [tag])), None)
        if misspelt is None:
            findings.error("S201", missing_setting_span(tree, None), f"`{tag}` is missing: one of {', '.join(names)}")
            return None
        key = misspelt.key
        findings.error("S202", key, f"unknown setting {key.text!r}; did you mean {tag!r}?", tag)
        meant = MappingEntry(ScalarNode(tag, plain=True, start=key.start, end=key.end), misspelt.node)
        return to_variant(_replace_entry(tree, misspelt, meant), tag, variants, not_yet, findings, others=others)
    name = entry.node.text if isinstance(entry.node, ScalarNode) else ""
    if name in variants:
        return _to_named_variant(tree, entry, name, variants, findings)
    if name in not_yet:
        findings.need("S206", entry.node, f"{name!r} is not supported yet by this version of speclab")
        return None
    near = find_likely_name(name, names)
    hint = f"{describe_choices(name, names, 'expected one of')}{'' if near else others}"
    findings.error("S204", entry.node, f"unknown {tag} {describe(entry.node)}; {hint}", near)
    if near is not None:  # continue as if it were that, to report further problems
        value = ScalarNode(near, plain=True, start=entry.node.start, end=entry.node.end)
        to_variant(_replace_entry(tree, entry, MappingEntry(entry.key, value)), tag, variants, not_yet, findings)
    return None


def _to_named_variant(
    tree: MappingNode,
    entry: MappingEntry,
    name: str,
    variants: Mapping[str, type[M]] | PluginRegistry[type[M]],
    findings: ProblemCollector,
) -> M | None:
    """Return the settings in `tree` as the variant that `entry` names; S209 if a plugin fails."""
    model, provider = variants[name], variants.provider(name) if isinstance(variants, PluginRegistry) else ""
    if isinstance(model, BrokenPlugin):
        findings.error("S209", entry.node, f"the {entry.key.text} {name!r} cannot be used: {model.reason}")
        return None
    try:
        return to_model(tree, model, findings)
    except Exception as error:
        if not provider:
            raise
        findings.error("S209", entry.node, f"{provider} failed to check these settings: {describe_exception(error)}")
        return None


def _replace_entry(tree: MappingNode, entry: MappingEntry, other: MappingEntry) -> MappingNode:
    """Return `tree` with `entry` replaced by `other`."""
    return MappingNode(tuple(other if one is entry else one for one in tree.entries), tree.start, tree.end)


def _validate(values: dict[str, Json], model: type[M]) -> M | list[ErrorDetails]:
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)


def _use_written_text(values: Json, tree: Node, error: ErrorDetails) -> bool:
    """Replace a plain value by its written text, if the error is that it is not a string."""
    if error["type"] != "string_type":
        return False
    *parents, last = error["loc"]
    for part in parents:
        if isinstance(values, dict) and part in values:
            values = values[str(part)]
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
    node = find(tree, error["loc"])[1]
    if not isinstance(node, ScalarNode) or node.value is None or isinstance(node.value, str):
        return False
    if isinstance(values, dict):
        values[str(last)] = node.text
    elif isinstance(values, list) and isinstance(last, int):
        values[last] = node.text
    return True


_MAX_UNQUOTED: Final = 50  # values without quotes that are reported; the block is parsed again after each
_AMBIGUOUS: Final = re.compile(
    r"(?P<true>yes|Yes|YES|on|On|ON)|(?P<false>no|No|NO|off|Off|OFF)"
    r"|(?P<octal>[-+]?0[0-7]+)|(?P<sixties>[-+]?[1-9][0-9]*(?::[0-5]?[0-9])+)"
)
_UNPRINTABLE: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def parse_settings(text: str, offset: int, findings: ProblemCollector) -> MappingNode | None:
    """Parse the settings in `text`, which starts at `offset` in its file; an empty text is an empty mapping.

    Problems go to `findings` (S101 to S106, S108). Return None if the text cannot be parsed. Where only quotes are
    missing, continue as if they were there, so that further problems are reported as well.
    """
    from yaml import MarkedYAMLError

    if odd := _UNPRINTABLE.search(text):
        what = "a byte that is not UTF-8" if "\udc80" <= odd[0] <= "\udcff" else f"the character U+{ord(odd[0]):04X}"
        findings.error(
            "S101", LineSpan(offset + odd.start(), offset + odd.end()), f"invalid YAML: {what} is not allowed here"
        )
        return None
    readable = substitute_characters(text)
    for _ in range(_MAX_UNQUOTED):
        builder = TreeBuilder(text, readable, offset)
        try:
            root = builder.build()
        except MarkedYAMLError as error:
            unquoted = find_value_to_quote(readable, error)
            if unquoted is None:
                start, end, message, fix = diagnose(readable, error)
                findings.error("S101", LineSpan(offset + start, offset + end), f"invalid YAML: {message}", fix)
                return None
            at = LineSpan(offset + unquoted.start, offset + unquoted.end)
            value = text[unquoted.start : unquoted.end]
            findings.error("S102", at, f"quote this value: {quote(value)}; {unquoted.reason}", quote(value))
            readable = unquoted.mask(readable)
        else:
            for code, part, message in builder.problems:
                findings.error(code, part, message)
            if isinstance(root, MappingNode):
                _inspect(root, findings)
                return root
            if root is not None:
                findings.error("S104", root, "expected lines of `key: value`")
            return None
    return None


def _inspect(node: Node, findings: ProblemCollector) -> None:
    """Report repeated keys, and plain values that YAML 1.1 readers interpret differently."""
    if isinstance(node, ScalarNode):
        _inspect_scalar(node, findings)
    elif isinstance(node, SequenceNode):
        for item in node.nodes:
            _inspect(item, findings)
    else:
        seen: set[str] = set()
        for entry in node.entries:
            key = entry.key
            if key.text in seen:
                findings.error("S103", key, f"{key.text!r} appears twice; remove one of the two")
            elif key.text == "<<" and key.plain:
                findings.error("S106", key, "`<<` merges mappings in YAML 1.1 only; write the settings out")
            seen.add(key.text)
            if key.text != "on" or not isinstance(entry.node, MappingNode):  # a setting; a value cannot be meant
                _inspect(key, findings)
            _inspect(entry.node, findings)


def _inspect_scalar(scalar: ScalarNode, findings: ProblemCollector) -> None:
    if not scalar.plain or not (match := _AMBIGUOUS.fullmatch(scalar.text)):
        return
    text, kind = scalar.text, match.lastgroup
    if kind in {"true", "false"}:
        message = f"{text!r} is text here, but {kind} in YAML 1.1; write {kind}, or quote it"
    elif kind == "octal":
        message = f"{text!r} is {int(text)} here, but {int(text, 8)} in YAML 1.1; quote it"
    else:
        message = f"{text!r} is text here, but a base-60 number in YAML 1.1; quote it"
    findings.warning("S105", scalar, message, quote(text))
