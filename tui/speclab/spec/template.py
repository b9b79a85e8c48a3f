"""The template every spec begins as, and what it says belongs in each of its sections."""

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
"""The template, to the letter."""

_BLANK: Final = Document.parse(TEMPLATE)
_COMMENT: Final = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

OUTLINE: Final = {section.address: " ".join(_COMMENT.findall(_BLANK.body(section))) for section in _BLANK.sections}
"""Every section of the template by its address, in order, with what its comment says belongs there."""

KEYS: Final = tuple(entry.key for entry in _BLANK.front_matter.entries)
"""The front matter's keys, in order."""


def new_spec(name: str, today: date) -> str:
    """The text of a new spec called `name`: the template with name, title and dates filled in."""
    title = re.sub(r"[-_.]+", " ", name).strip()
    document = Document.parse(TEMPLATE.replace("{Title}", title[:1].upper() + title[1:]))
    document = document.with_front_matter("spec_id", name)
    return document.with_front_matter("created", today).with_front_matter("updated", today).text


def create_spec(directory: Path, name: str, today: date) -> Path:
    """Write a new spec called `name` to `directory`, made if need be. Raises `UsageError` if it is already there."""
    from speclab.spec.store import create

    name = name.removesuffix(".md")
    if not _NAME.fullmatch(name):
        slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")
        hint = f"such as {slug}" if slug else ""
        raise UsageError(f"{name!r} is not a valid spec name: expected letters, digits, '-', '_' and '.'", hint=hint)
    path = directory / f"{name}.md"
    create(path, new_spec(name, today))
    return path


def is_template_text(document: Document, section: Section) -> bool:
    """Whether the section says no more than the template does: its comment, its example rows, its example criteria."""
    same = next((other for other in _BLANK.sections if _key(other) == _key(section)), None)
    return same is not None and document.body(section).split() == _BLANK.body(same).split()


def _key(section: Section) -> tuple[str, ...]:
    return tuple(comparable(title) for title in section.path)
