"""Connectors: systems at either end, opened by the name their settings give."""

from __future__ import annotations

from speclab.connectors.access import Access, try_access
from speclab.connectors.describing import describe
from speclab.connectors.machine import this_machine
from speclab.connectors.opening import open_finder, open_reader, open_writer, sample
from speclab.connectors.redaction import Redactor
from speclab.connectors.references import References

__all__ = [
    "Access",
    "Redactor",
    "References",
    "describe",
    "open_finder",
    "open_reader",
    "open_writer",
    "sample",
    "this_machine",
    "try_access",
]
