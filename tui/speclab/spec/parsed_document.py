"""A parsed text: its lines, front matter and outline, and the content of its sections."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from speclab.core.errors import UsageError
from speclab.core.text import describe_choices
from speclab.spec.front_matter import FrontMatter, read_front_matter
from speclab.spec.outline import (
    BlockKind,
    Outline,
    Section,
    TextLines,
    comparable_path,
    dominant_newline,
    read_outline,
)
from speclab.spec.table import MarkdownTable, read_table


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """One version of a spec file, without edits; see `speclab.spec.document.Document`.

    `text` is the file decoded as UTF-8, with invalid bytes as surrogates (PEP 383). `hash` is the SHA-256 of the
    file's bytes, in hex. `newline` is the most frequent line end.
    """

    text: str
    path: Path | None = None
    lines: TextLines = field(repr=False, compare=False, kw_only=True)
    front_matter: FrontMatter = field(repr=False, compare=False, kw_only=True)
    outline: Outline = field(repr=False, compare=False, kw_only=True)
    newline: str = field(repr=False, compare=False, kw_only=True)
    hash: str = field(repr=False, compare=False, kw_only=True)

    @classmethod
    def parse(cls, text: str, path: Path | None = None) -> Self:
        """Parse any text; what is wrong with it is reported as problems."""
        lines = TextLines.of_file(text)
        front_matter = read_front_matter(lines, str(path or "<spec>"))
        return cls(
            text,
            path,
            lines=lines,
            front_matter=front_matter,
            outline=read_outline(lines, front_matter.end),
            newline=dominant_newline(text),
            hash=hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        )

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def title(self) -> str:
        """The first heading of level 1, or ""."""
        return self.outline.title

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections in file order, without the title."""
        return self.outline.sections

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of `offset`, both from 1, columns in characters."""
        return self.lines.position(offset)

    def section(self, address: str) -> Section:
        """Return the section at `address`, such as `Data Flow > Volume` or `Phase[1]`, in any case and spacing.

        The last part of an address is enough if it is unambiguous. Raises `UsageError` with similar names.
        """
        wanted = comparable_path(address)
        addresses = {comparable_path(section.address): section for section in self.sections}
        if wanted in addresses:
            return addresses[wanted]
        found = [section for path, section in addresses.items() if path[-len(wanted) :] == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(repr(section.address) for section in found)
            raise UsageError(f"{len(found)} sections are called {address!r}: {names}", hint="write the whole address")
        hint = describe_choices(address, [section.address for section in self.sections], "its sections are")
        raise UsageError(f"no section {address!r}", hint=hint)

    def body(self, section: Section) -> str:
        """Return the section's own text, without the blank lines around it."""
        return section.body.of(self.text)

    def tables(self, section: Section) -> tuple[MarkdownTable, ...]:
        """Return the tables in the section's own text."""
        return tuple(read_table(self.lines, block) for block in section.blocks if block.kind is BlockKind.TABLE)

    def table(self, section: Section) -> MarkdownTable | None:
        """Return the section's first table."""
        return next(iter(self.tables(section)), None)
