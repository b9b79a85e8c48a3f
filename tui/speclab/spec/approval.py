"""Approval of a spec: who agreed to its text and when, and whether the text changed since."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from speclab.spec import edit
from speclab.spec.outline import comparable
from speclab.spec.parsed_document import ParsedDocument

if TYPE_CHECKING:
    from speclab.spec.outline import Section
    from speclab.spec.problems import ProblemCollector

BY: Final = "approved_by"
AT: Final = "approved_at"
HASH: Final = "approved_hash"
"""The keys of the front matter."""

CHANGED: Final = "F108"
"""The code of the problem that the spec changed after its approval."""

_BOX: Final = re.compile(r"^([ \t]*(?:[-*+]|\d+[.)])[ \t]+)\[[ xX]\]")
_STAMP: Final = re.compile(r"[ \t]+\((?:run [\w-]+, )?\d{4}-\d\d-\d\d\)\Z")
_PROGRESS: Final = "acceptance criteria"
_TASKS: Final = "tasks created"

D = TypeVar("D", bound=ParsedDocument)


@dataclass(frozen=True, slots=True)
class Approval:
    """A decision in the front matter; `text_hash` is "" if another tool recorded it."""

    by: str
    at: str
    text_hash: str = ""


def read_approval(document: ParsedDocument) -> Approval | None:
    """Return the approval of `document`, current or not; None if there is none."""
    by, at, text_hash = (document.front_matter.get_text(key, document.text).strip() for key in (BY, AT, HASH))
    return Approval(by, at, text_hash) if by or at else None


def approve(document: D, by: str, at: datetime) -> D:
    """Return `document` with its approval; every other byte stays the same. Raises `EditRejected`."""
    at_text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for key, value in ((BY, by), (AT, at_text), (HASH, hash_text(document))):
        document = edit.with_front_matter(document, key, value)
    return document


def hash_text(document: ParsedDocument) -> str:
    """Return the hash of the approved text.

    Not part of it are the front matter, the tasks, check boxes of acceptance criteria with their run and date, line
    ends and trailing spaces: these change while the approved text is carried out.
    """
    digest = hashlib.sha256("\n".join(_normalize(document.outline.preamble.of(document.text))).encode(*_ENCODING))
    inside: int | None = None  # the level of Tasks Created
    for heading in document.outline.headings:
        if inside is not None and heading.level > inside:
            continue
        inside = heading.level if comparable(heading.title) == _TASKS else None
        if inside is None:
            text = "\n".join((f"{heading.level} {heading.title}", *_read_body(document, heading), ""))
            digest.update(text.encode(*_ENCODING))
    return f"sha256:{digest.hexdigest()[:32]}"


_ENCODING: Final = ("utf-8", "surrogateescape")


def is_changed(document: ParsedDocument) -> bool:
    """Whether the text of `document` differs from the approved text."""
    approval = read_approval(document)
    return approval is not None and approval.text_hash not in ("", hash_text(document))


def check_approval(document: ParsedDocument, findings: ProblemCollector) -> None:
    """Warn of a spec that changed after its approval (F108)."""
    approval = read_approval(document)
    at = document.front_matter.get_span(HASH)
    if approval is not None and at is not None and is_changed(document):
        who = " by ".join(filter(None, ("its approval", approval.by)))
        when = f" on {approval.at[:10]}" if approval.at else ""
        message = f"the spec changed after {who}{when}; review the change, then run `speclab approve`"
        findings.warning(CHANGED, at, message)


def _normalize(text: str) -> list[str]:
    lines = [line.rstrip(" \t") for line in re.split(r"\r\n|\n|\r", text)]
    return [line for line in lines if line]


def _read_body(document: ParsedDocument, section: Section) -> list[str]:
    lines = _normalize(document.body(section))
    if comparable(section.title) == _PROGRESS:
        lines = [_STAMP.sub("", _BOX.sub(r"\1[ ]", line)) for line in lines]
    return lines
