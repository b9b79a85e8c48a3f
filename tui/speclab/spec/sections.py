"""The sections that speak to the machine: their addresses, and how they are found in a document."""

from __future__ import annotations

from typing import Final

from speclab.spec.document import Document
from speclab.spec.findings import Findings
from speclab.spec.lines import Span
from speclab.spec.outline import BlockKind, Section, comparable

SOURCE_SYSTEM: Final = "Integration Overview > Source System"
TARGET_SYSTEM: Final = "Integration Overview > Target System"
INTEGRATION_TYPE: Final = "Integration Overview > Integration Type"
DIRECTION: Final = "Data Flow > Direction"
FREQUENCY: Final = "Data Flow > Frequency"
VOLUME: Final = "Data Flow > Volume"
FIELD_MAPPING: Final = "Field Mapping"
SOURCE_AUTH: Final = "Authentication > Source System Auth"
TARGET_AUTH: Final = "Authentication > Target System Auth"
CREDENTIALS: Final = "Authentication > Credential Management"
ERROR_TYPES: Final = "Error Handling & Retry Strategy > Error Types"
RETRY_LOGIC: Final = "Error Handling & Retry Strategy > Retry Logic"
NOTIFICATIONS: Final = "Error Handling & Retry Strategy > Error Notifications"
METRICS: Final = "Monitoring & Alerting > Metrics"
ALERTS: Final = "Monitoring & Alerting > Alerts"
LOGGING: Final = "Monitoring & Alerting > Logging"
CRITERIA: Final = "Acceptance Criteria"


class Sections:
    """A document's sections by address; what is missing or there twice goes to `findings`."""

    def __init__(self, document: Document, findings: Findings) -> None:
        self._findings = findings
        self._by_path: dict[tuple[str, ...], list[Section]] = {}
        self._by_title: dict[str, list[Section]] = {}
        for section in document.sections:
            path = tuple(map(comparable, section.path))
            self._by_path.setdefault(path, []).append(section)
            self._by_title.setdefault(path[-1], []).append(section)

    def find(self, address: str) -> Section | None:
        """The section at `address`, or wherever the only one of its title is; of several the first that says something.

        A second one that says something too is told of (D103).
        """
        path = _path(address)
        found = self._by_path.get(path) or self._by_title.get(path[-1], [])
        filled = [section for section in found if not section.empty]
        for other in filled[1:]:
            message = f"{other.title!r} is on line {filled[0].line} already; only one can be meant"
            self._findings.error("D103", other.heading, message)
        return next(iter(filled or found), None)

    def need(self, address: str, example: str) -> None:
        """Tell that a run needs the section at `address` and that there is none (D101)."""
        *parents, title = address.split(" > ")
        around = self._by_path.get(_path(" > ".join(parents))) if parents else None
        at = around[0].heading if around else Span(0, 0)
        self._findings.need("D101", at, f"the section {title!r} is missing; {example}")

    def need_block(self, section: Section, example: str) -> None:
        """Tell that a run needs a settings block in `section` (D102 where it is empty, else D104)."""
        if section.empty:
            self._findings.need("D102", section.heading, f"{section.title!r} is empty; {example}")
            return
        fence = next((block for block in section.blocks if block.kind is BlockKind.FENCE and not block.info), None)
        message = f"{section.title!r} has no settings block; {example}"
        if fence is None:
            self._findings.need("D104", section.heading, message)
        else:
            self._findings.need("D104", fence.span, f"{message}; if it is this one, put yaml behind its fence")


def _path(address: str) -> tuple[str, ...]:
    return tuple(comparable(part) for part in address.split(" > "))
