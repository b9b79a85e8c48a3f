"""What the front matter says to the machine: which spec this is, whether it is ours to read, and how far it is."""

from __future__ import annotations

import re
from typing import Final

from speclab.spec.document import Document
from speclab.spec.findings import Findings
from speclab.spec.front_matter import Entry
from speclab.spec.names import nearest, slip

INTEGRATION: Final = "integration"
STATUSES: Final = ("draft", "approved", "in-progress", "completed")

_SPEC_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_SPEC_ID: Final = 100  # the id names files: locks, samples, logs
_NO_SLUG: Final = re.compile(r"[^A-Za-z0-9._]+")


def is_readable(document: Document) -> bool:
    """Whether the front matter, if there is any, can be read."""
    return not any(problem.code == "F101" for problem in document.front_matter.problems)


def is_other(document: Document) -> bool:
    """Whether the file says it is of another type than `integration`; such a file is left alone."""
    return document.front_matter.get("type", INTEGRATION) != INTEGRATION


def read_header(document: Document, findings: Findings) -> tuple[str, str]:
    """The spec's id and status, empty where they are not said; what is wrong goes to `findings`."""
    front_matter = document.front_matter
    findings.extend(front_matter.problems)
    if is_other(document):
        kind = front_matter.said("type", document.text)
        findings.error(
            "F106", front_matter.span_of("type") or front_matter.span, f"a spec of type {kind!r} does not run"
        )
    if not is_readable(document):
        return "", ""
    for name in ("spec_id", "type", "status"):
        if front_matter.entry(name) is None:
            findings.need("F102", front_matter.span, f"`{name}` is missing from the front matter")
    return (
        _spec_id(document, front_matter.entry("spec_id"), findings),
        _status(document, front_matter.entry("status"), findings),
    )


def _spec_id(document: Document, entry: Entry | None, findings: Findings) -> str:
    if entry is None:
        return ""
    written = entry.value.of(document.text)
    if not written or written.startswith("{"):
        findings.need("F102", entry.value, "`spec_id` is not filled in; give the spec a name such as crm-to-billing")
        return ""
    spec_id = document.front_matter.said("spec_id", document.text) or written
    if not _SPEC_ID.fullmatch(spec_id):
        slug = _NO_SLUG.sub("-", spec_id).strip("-._").lower()
        message = f"{spec_id!r} cannot be a spec_id: expected letters, digits, '-', '_' and '.'"
        findings.error("F103", entry.value, message, slug[:_MAX_SPEC_ID] or None)
    elif len(spec_id) > _MAX_SPEC_ID:
        message = f"the spec_id has {len(spec_id)} characters: expected at most {_MAX_SPEC_ID}"
        findings.error("F103", entry.value, message)
    return spec_id


def _status(document: Document, entry: Entry | None, findings: Findings) -> str:
    if entry is None:
        return ""
    status = document.front_matter.said("status", document.text)
    if status not in STATUSES:
        hint = nearest(status, STATUSES, "expected one of")
        findings.error("F104", entry.value, f"unknown status {status!r}; {hint}", slip(status, STATUSES))
    return status
