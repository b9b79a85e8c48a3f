"""Secrets: references in settings, the stores that resolve them, and redaction."""
