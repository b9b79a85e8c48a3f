"""Failures as the run log stores them, each with the spec line or the mapping row that it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from speclab.connectors.api import MappedRecord, UnreadableRecord, WriteError, WriteResult
from speclab.core.json import Record
from speclab.core.masking import FieldPolicy, FieldRule
from speclab.core.outcome import ErrorClass, FailureState, Stage
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.mapping import RowFailure
from speclab.runlog import FailureRow, NewFailure
from speclab.spec.integration import Integration, MappingRow
from speclab.sync.record_keys import RecordKey, build_stand_in_key

_WRAPPERS: Final = frozenset(
    {"body", "data", "attributes", "properties", "input", "inputs", "record", "records", "payload", "request", "fields",
     "resource", "object", "entity", "items", "variables", "params", "json"}
)  # fmt: skip
"""Names that APIs wrap around a record, with which the location in an error may begin."""


class FailureFactory:
    """Builds the failures of one spec. Each one points into its file, `file` as the run log names it."""

    def __init__(self, integration: Integration, file: str) -> None:
        self._file = file
        self._source_line = integration.source_line
        self._target_line = integration.target_line
        self._key = integration.source.key
        self._policy = build_field_policy(integration)
        self._rows = {row.target: row for row in integration.rows}
        count = Counter(map(_normalize, self._rows))
        self._by_normalized = {
            _normalize(name): row for name, row in self._rows.items() if count[_normalize(name)] == 1
        }

    def build_read_failure(self, record: Record) -> NewFailure:
        """Return the failure of a record that cannot be read, or that has no valid value at the source's `key`."""
        if isinstance(record, UnreadableRecord):
            location = f"{record.place}: " if record.place else ""
            message, source, response = f"{location}{record.reason}", {}, record.text
        else:
            paths = self._key if isinstance(self._key, str) else ", ".join(self._key)
            message, source, response = f"the record has no key: expected text or a number at {paths}", record, None
            if (key := RecordKey(self._key).extract(record)) is not None:
                message = (
                    f"the key {key} at {paths} is text where other keys are numbers, or a number where others are "
                    "text: two records would count as one; let the source write all keys as the same type"
                )
        return NewFailure(
            key=build_stand_in_key(record),
            state=FailureState.DEAD,
            stage=Stage.READ,
            error_class=ErrorClass.BAD_ANSWER,
            message=message,
            file=self._file,
            line=self._source_line,
            source=source,
            response=response,
            policy=self._policy,
        )

    def build_mapping_failure(
        self, key: str, record: Record, failures: Sequence[RowFailure], payload: Record | None = None
    ) -> NewFailure:
        """Return the failure of a record that a mapping row rejects, or whose `payload` does not pass `check`."""
        first, *others = failures
        prefix = "" if first.row else "filter: " if first.stage is Stage.MAP else "deleted: "
        also = f" (and {', '.join(str(other.row) for other in others)})" if others else ""
        return NewFailure(
            key=key,
            state=FailureState.DEAD,
            stage=first.stage,
            error_class=ErrorClass.CONTRACT if first.stage is Stage.CHECK else ErrorClass.MAPPING,
            message=f"{prefix}{first.reason}{also}",
            file=self._file,
            line=first.line,
            row=first.row,
            column=first.column,
            source=record,
            payload=payload,
            policy=self._policy,
        )

    def build_write_failure(
        self,
        record: MappedRecord,
        error: WriteError,
        state: FailureState,
        next_attempt_at: str | None = None,
    ) -> NewFailure:
        """Return the failure of a record that was not written, with the mapping row of the field the error names."""
        row = self._find_row(error.field)
        return NewFailure(
            key=record.key,
            state=state,
            stage=Stage.WRITE,
            error_class=error.error_class,
            message=error.message,
            file=self._file,
            line=row.line if row else self._target_line,
            row=row.target if row else None,
            column=row.transformation_column if row else None,
            source=record.source,
            payload=record.payload,
            status=error.status,
            request=error.request,
            response=error.response,
            idempotency_key=record.idempotency_key or None,
            next_attempt_at=next_attempt_at,
            policy=self._policy,
        )

    def _find_row(self, field: str | None) -> MappingRow | None:
        """Return the row that fills `field`, or the nearest row around it (`address` for `address.city`) or inside it.

        Leading steps that wrap a record in a request (`[0].properties.email`) are skipped if no row has them.
        """
        steps = _parse_steps(field) if field else ()
        while steps:
            for end in range(len(steps), 0, -1):
                name = str(FieldPath(steps[:end]))
                if row := self._rows.get(name) or self._by_normalized.get(_normalize(name)):
                    return row
            for name, inner in self._rows.items():
                if _parse_steps(name)[: len(steps)] == steps:
                    return inner
            if not (isinstance(steps[0], int) or steps[0] in _WRAPPERS):
                return None
            steps = steps[1:]
        return None


def build_field_policy(integration: Integration) -> FieldPolicy:
    """Return which fields of failed records the run log stores, by the Logging section."""
    keys = [
        one
        for key in (integration.source.key, integration.target.key)
        for one in ([key] if isinstance(key, str) else key)
    ]
    rules = {name.casefold(): FieldRule(rule) for name, rule in integration.logging.fields.items()}
    return FieldPolicy(rules, frozenset(key.casefold() for key in keys))


def restore_write_result(failure: FailureRow) -> WriteResult:
    """Return the result that a record got when `failure` was stored."""
    return WriteResult(
        error=WriteError(
            error_class=failure.error_class,
            message=failure.message,
            request=failure.request or "",
            response=failure.response or "",
            status=failure.status,
        )
    )


def restore_read_failure(failure: FailureRow) -> NewFailure:
    """Return `failure`, which was stored without its record, as a dead letter."""
    return NewFailure(
        key=failure.key,
        state=FailureState.DEAD,
        stage=failure.stage,
        error_class=failure.error_class,
        message=failure.message,
        file=failure.file or "",
        line=failure.line,
        source={},
        request=failure.request,
        response=failure.response,
    )


def restore_masked_failure(failure: FailureRow) -> NewFailure:
    """Return `failure`, whose masked values are no longer kept, as a dead letter that says how to send its record."""
    why = f"{failure.message} (not sent: {_MASKED})"
    return NewFailure(
        key=failure.key,
        state=FailureState.DEAD,
        stage=failure.stage,
        error_class=failure.error_class,
        message=failure.message if _MASKED in failure.message else why,
        file=failure.file,
        line=failure.line,
        row=failure.row,
        column=failure.column,
        source=failure.source or {},
        payload=failure.payload,
        status=failure.status,
        request=failure.request,
        response=failure.response,
        idempotency_key=failure.idempotency_key,
    )


_MASKED: Final = "values of the record are masked in the run log and not kept elsewhere; `speclab run --full` reads it"


def _parse_steps(field: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(field).parts
    except PathSyntaxError:
        return (field,)


def _normalize(name: str) -> str:
    """Return `name` without differences of style: `FirstName`, `first_name` and `first-name` are the same."""
    return name.replace("_", "").replace("-", "").casefold()
