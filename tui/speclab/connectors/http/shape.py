"""What the body of a write looks like around the record: JSON in which `$record` stands for it."""

from __future__ import annotations

from speclab.jsonvalue import Json
from speclab.spec.systems.http_write import RECORD, HttpWrite


def shape_of(write: HttpWrite) -> Json:
    """The shape of one request's body, by `body` or `envelope`; in a batch `$record` is the list of records."""
    if write.body is not None:
        return write.body
    return {write.envelope: RECORD} if write.envelope else RECORD


def filled(shape: Json, record: Json) -> Json:
    """`shape` with `record` wherever it says `$record`."""
    if shape == RECORD:
        return record
    if isinstance(shape, dict):
        return {name: filled(value, record) for name, value in shape.items()}
    return [filled(value, record) for value in shape] if isinstance(shape, list) else shape


def steps_to_record(shape: Json) -> tuple[str | int, ...]:
    """The way from the top of `shape` to the first `$record`, which what is said of a field of the body begins with."""
    return _steps(shape) or ()


def _steps(shape: Json) -> tuple[str | int, ...] | None:
    if shape == RECORD:
        return ()
    inner = shape.items() if isinstance(shape, dict) else enumerate(shape) if isinstance(shape, list) else ()
    for step, value in inner:
        if (found := _steps(value)) is not None:
            return (step, *found)
    return None
