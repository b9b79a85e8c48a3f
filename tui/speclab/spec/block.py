"""A settings block: the first fenced yaml block of a section, as the typed model it writes.

Whatever does not fit is told at the key or the value it is about, with what was expected and the nearest name there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from speclab.installed import Installed, Unusable, blamed
from speclab.spec.findings import Findings
from speclab.spec.lines import Span
from speclab.spec.names import nearest, slip
from speclab.spec.outline import Block, BlockKind, Section
from speclab.spec.validation import find, place_of_missing, shown, tell, tell_forgotten
from speclab.spec.yamltree import Entry, Fields, Node, Scalar, parse

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from speclab.jsonvalue import Json
    from speclab.spec.settings import Settings

M = TypeVar("M", bound="Settings")

_MAX_UNKNOWN: Final = 100
"""Unknown settings of one block that are listed one by one; the others are counted."""


def settings_blocks(section: Section) -> list[Block]:
    """The fenced yaml blocks of a section; the first holds its settings."""
    return [
        block
        for block in section.blocks
        if block.kind is BlockKind.FENCE and block.info.casefold().split(maxsplit=1)[:1] in (["yaml"], ["yml"])
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
    errors = findings.errors
    tell_forgotten(tree, model, findings)
    values: dict[str, Json] = tree.value
    validated = _validated(values, model)
    if isinstance(validated, list) and [error for error in validated if _take_as_written(values, tree, error)]:
        validated = _validated(values, model)
    if not isinstance(validated, list):
        return validated if findings.errors == errors else None
    unknown = 0
    for error in validated:
        unknown += error["type"] == "extra_forbidden"
        if unknown <= _MAX_UNKNOWN or error["type"] != "extra_forbidden":
            tell(error, tree, model, findings)
    if unknown > _MAX_UNKNOWN:
        more = unknown - _MAX_UNKNOWN
        findings.error("S202", place_of_missing(tree, None), f"{more:,} more unknown settings in this block")
    return None


def to_variant(
    tree: Fields,
    tag: str,
    variants: Mapping[str, type[M]] | Installed[type[M]],
    not_yet: frozenset[str],
    findings: Findings,
    *,
    others: str = "",
) -> M | None:
    """The settings that `tree` writes, of the model that its `tag` (`connector`, `type`) names.

    `others` says where variants come from that are not there.
    """
    names = list(variants)
    entry = tree.get(tag)
    if entry is None:
        misspelt = next((other for other in tree.entries if slip(other.key.text, [tag])), None)
        if misspelt is None:
            findings.error("S201", place_of_missing(tree, None), f"`{tag}` is missing: one of {', '.join(names)}")
            return None
        key = misspelt.key
        findings.error("S202", key, f"unknown setting {key.text!r}; did you mean {tag!r}?", tag)
        meant = Entry(Scalar(tag, plain=True, start=key.start, end=key.end), misspelt.node)
        return to_variant(_with(tree, misspelt, meant), tag, variants, not_yet, findings, others=others)
    name = entry.node.text if isinstance(entry.node, Scalar) else ""
    if name in variants:
        return _to_named(tree, entry, name, variants, findings)
    if name in not_yet:
        findings.need("S206", entry.node, f"{name!r} is known, but this version of speclab cannot run it yet")
        return None
    near = slip(name, names)
    hint = f"{nearest(name, names, 'expected one of')}{'' if near else others}"
    findings.error("S204", entry.node, f"unknown {tag} {shown(entry.node)}; {hint}", near)
    if near is not None:  # read on as if it were that, for what else is wrong
        value = Scalar(near, plain=True, start=entry.node.start, end=entry.node.end)
        to_variant(_with(tree, entry, Entry(entry.key, value)), tag, variants, not_yet, findings)
    return None


def _to_named(
    tree: Fields, entry: Entry, name: str, variants: Mapping[str, type[M]] | Installed[type[M]], findings: Findings
) -> M | None:
    """The settings that `tree` writes, of the variant that `entry` names; S209 where a package of others fails."""
    model, provider = variants[name], variants.provider(name) if isinstance(variants, Installed) else ""
    if isinstance(model, Unusable):
        findings.error("S209", entry.node, f"the {entry.key.text} {name!r} cannot be used: {model.reason}")
        return None
    try:
        return to_model(tree, model, findings)
    except Exception as error:
        if not provider:
            raise
        findings.error("S209", entry.node, f"{provider} fails to check these settings: {blamed(error)}")
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
    node = find(tree, error["loc"])[1]
    if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, str):
        return False
    if isinstance(values, dict):
        values[str(last)] = node.text
    elif isinstance(values, list) and isinstance(last, int):
        values[last] = node.text
    return True
