"""The sections that speak to the machine: their addresses, and how they are found in a document."""

from __future__ import annotations

from typing import Final

from speclab.spec.document import Document
from speclab.spec.findings import Findings
from speclab.spec.lines import Span
from speclab.spec.outline import BlockKind, Section

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
        self._outline = document.outline
        self._findings = findings

    def find(self, address: str) -> Section | None:
        """The section at `address`, or wherever the only one of its title is; of several the first that says something.

        A second one that says something too is told of (D103).
        """
        found = self._outline.at(address)
        for other in found[1:]:
            if not other.empty:
                message = f"{other.title!r} is on line {found[0].line} already; only one can be meant"
                self._findings.error("D103", other.heading, message)
        return found[0] if found else None

    def need(self, address: str, example: str) -> None:
        """Tell that a run needs the section at `address` and that there is none (D101)."""
        above, _, title = address.rpartition(" > ")
        around = self._outline.at(above) if above else ()
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
