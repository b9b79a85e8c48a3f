"""Connectors: systems at either end, opened by the name their settings give."""

from __future__ import annotations

from speclab.connectors.check import ConnectionCheck, check_connection
from speclab.connectors.machine import this_machine
from speclab.connectors.registry import open_finder, open_reader, open_writer, sample
from speclab.connectors.schema_discovery import discover_schema
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.references import References

__all__ = [
    "ConnectionCheck",
    "Redactor",
    "References",
    "check_connection",
    "discover_schema",
    "open_finder",
    "open_reader",
    "open_writer",
    "sample",
    "this_machine",
]
