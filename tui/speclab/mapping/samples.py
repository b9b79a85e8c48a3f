"""Sample records beside a mapping: which of its source fields are in none of them."""

from __future__ import annotations

from collections.abc import Sequence

from speclab.jsonvalue import Record
from speclab.mapping.fields import fields_of
from speclab.mapping.mapper import Mapper
from speclab.mapping.place import Findings, of_source
from speclab.paths import FieldPath
from speclab.spec.names import slip
from speclab.spec.problem import Problem


def check_samples(mapper: Mapper, records: Sequence[Record], file: str) -> list[Problem]:
    """Warnings of source fields that are in none of `records` (M201), with the field that is probably meant.

    What an expression reads is no source field: it asks with `has(...)` for what may not be there, or fails.
    """
    findings = Findings(file)
    names: list[str] = []
    for row in mapper.rows:
        for number, source in enumerate(row.sources):
            path = source.path
            if records and not any(_has(record, path) for record in records):
                names = names or [str(field.path) for field in fields_of(records)]
                meant = slip(str(path), names)
                hint = f" Did you mean '{meant}'?" if meant else ""
                message = f"'{path}' is in none of {len(records)} sample records and reads as null.{hint}"
                findings.warning("M201", of_source(row.written, number), message)
    return findings.problems


def _has(record: Record, path: FieldPath) -> bool:
    try:
        path.get(record)
    except KeyError:
        return False
    return True
