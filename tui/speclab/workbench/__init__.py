"""The headless state of an editing session: open specs, mapping sheet, samples, launched processes."""
