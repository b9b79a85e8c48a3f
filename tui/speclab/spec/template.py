"""The template for new specs, and its hints for each section."""

from __future__ import annotations

import re
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Final

from speclab.core.errors import UsageError
from speclab.spec.document import Document, Section
from speclab.spec.outline import comparable

TEMPLATE: Final = files("speclab.spec").joinpath("template.md").read_bytes().decode()
"""The template, byte for byte."""

_BLANK: Final = Document.parse(TEMPLATE)
_COMMENT: Final = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

OUTLINE: Final = {section.address: " ".join(_COMMENT.findall(_BLANK.body(section))) for section in _BLANK.sections}
"""The sections of the template by address, in order, with the hint in their comment."""

KEYS: Final = tuple(entry.key for entry in _BLANK.front_matter.entries)
"""The front matter's keys, in order."""


def build_spec(name: str, today: date) -> str:
    """Return the text of a new spec called `name`: the template with name, title and dates filled in."""
    title = re.sub(r"[-_.]+", " ", name).strip()
    document = Document.parse(TEMPLATE.replace("{Title}", title[:1].upper() + title[1:]))
    document = document.with_front_matter("spec_id", name)
    return document.with_front_matter("created", today).with_front_matter("updated", today).text


def create_spec(directory: Path, name: str, today: date) -> Path:
    """Write a new spec called `name` to `directory`, created if necessary. Raises `UsageError` if it exists."""
    from speclab.spec.store import create

    name = name.removesuffix(".md")
    if not _NAME.fullmatch(name):
        slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")
        hint = f"such as {slug}" if slug else ""
        raise UsageError(f"{name!r} is not a valid spec name: expected letters, digits, '-', '_' and '.'", hint=hint)
    path = directory / f"{name}.md"
    create(path, build_spec(name, today))
    return path


def is_template_text(document: Document, section: Section) -> bool:
    """Whether the section has only the template's text: its comment, example rows or example criteria."""
    same = next((other for other in _BLANK.sections if _key(other) == _key(section)), None)
    return same is not None and document.body(section).split() == _BLANK.body(same).split()


def _key(section: Section) -> tuple[str, ...]:
    return tuple(comparable(title) for title in section.path)
