"""Connectors: what reads and writes systems, opened by the name that their settings give."""
