"""Failures with their places: what the run log keeps of a record that did not get through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from speclab.connectors.base import Answer, Item, Refusal
from speclab.connectors.unreadable import UnreadableRecord
from speclab.jsonvalue import Record
from speclab.mapping import RowFailure
from speclab.outcome import ErrorClass, FailureState, Stage
from speclab.paths import FieldPath, PathSyntaxError
from speclab.runlog.rows import FailureRow, NewFailure
from speclab.spec.integration import Integration, MappingRow
from speclab.sync.identity import RecordKey, stand_in

_WRAPPERS: Final = frozenset(
    {"body", "data", "attributes", "properties", "input", "inputs", "record", "records", "payload", "request", "fields",
     "resource", "object", "entity", "items", "variables", "params", "json"}
)  # fmt: skip
"""Names of what APIs put around a record, which an error's location may begin with."""


class Failures:
    """Makes the failures of one spec; every one of them points into its file, `file` as the run log names it."""

    def __init__(self, integration: Integration, file: str) -> None:
        self._file = file
        self._source_line = integration.source_line
        self._target_line = integration.target_line
        self._key = integration.source.key
        self._rows = {row.target: row for row in integration.rows}
        spellings = Counter(map(_spelling, self._rows))
        self._spelled = {_spelling(name): row for name, row in self._rows.items() if spellings[_spelling(name)] == 1}

    def keyless(self, record: Record) -> NewFailure:
        """The failure of a record that cannot be read, or has nothing at the source's `key`."""
        if isinstance(record, UnreadableRecord):
            place = f"{record.place}: " if record.place else ""
            return NewFailure(
                key=stand_in(record),
                state=FailureState.DEAD,
                stage=Stage.READ,
                error_class=ErrorClass.BAD_ANSWER,
                message=f"{place}{record.reason}",
                file=self._file,
                line=self._source_line,
                source={},
                response=record.text,
            )
        key = self._key if isinstance(self._key, str) else ", ".join(self._key)
        message = f"the record has no key: expected text or a number at {key}"
        if (mixed := RecordKey(self._key).of(record)) is not None:
            message = (
                f"the key {mixed} at {key} is text where others are numbers, or a number where others are text: "
                "two records would be taken for one; have the source write all keys alike"
            )
        return NewFailure(
            key=stand_in(record),
            state=FailureState.DEAD,
            stage=Stage.READ,
            error_class=ErrorClass.BAD_ANSWER,
            message=message,
            file=self._file,
            line=self._source_line,
            source=record,
        )

    def unmapped(
        self, key: str, record: Record, failures: Sequence[RowFailure], payload: Record | None = None
    ) -> NewFailure:
        """The failure of a record that a mapping row cannot take, or whose `payload` breaks `check`."""
        first, *others = failures
        what = "" if first.row else "filter: " if first.stage is Stage.MAP else "deleted: "
        also = f" (and {', '.join(str(other.row) for other in others)})" if others else ""
        return NewFailure(
            key=key,
            state=FailureState.DEAD,
            stage=first.stage,
            error_class=ErrorClass.CONTRACT if first.stage is Stage.CHECK else ErrorClass.MAPPING,
            message=f"{what}{first.reason}{also}",
            file=self._file,
            line=first.line,
            row=first.row,
            column=first.column,
            source=record,
            payload=payload,
        )

    def refused(
        self,
        item: Item,
        refusal: Refusal,
        state: FailureState,
        next_attempt_at: str | None = None,
    ) -> NewFailure:
        """The failure of a record that the target did not take; blames a mapping row where the answer names a field."""
        row = self._blamed(refusal.field)
        return NewFailure(
            key=item.key,
            state=state,
            stage=Stage.WRITE,
            error_class=refusal.error_class,
            message=refusal.message,
            file=self._file,
            line=row.line if row else self._target_line,
            row=row.target if row else None,
            column=row.transformation_column if row else None,
            source=item.source,
            payload=item.payload,
            status=refusal.status,
            request=refusal.request,
            response=refusal.response,
            idempotency_key=item.idempotency_key or None,
            next_attempt_at=next_attempt_at,
        )

    def _blamed(self, field: str | None) -> MappingRow | None:
        """The row that fills `field`, or the nearest around it (`address` for `address.city`) or in it.

        Steps before it that wrap a record in requests (`[0].properties.email`) are left out if no row has them.
        """
        steps = _steps(field) if field else ()
        while steps:
            for end in range(len(steps), 0, -1):
                name = str(FieldPath(steps[:end]))
                if row := self._rows.get(name) or self._spelled.get(_spelling(name)):
                    return row
            if inner := next((row for name, row in self._rows.items() if _steps(name)[: len(steps)] == steps), None):
                return inner
            if not (isinstance(steps[0], int) or steps[0] in _WRAPPERS):
                return None
            steps = steps[1:]
        return None


def _steps(field: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(field).parts
    except PathSyntaxError:
        return (field,)


def _spelling(name: str) -> str:
    """`name` as it is compared with a location in another style: `FirstName`, `first_name` and `first-name` are one."""
    return name.replace("_", "").replace("-", "").casefold()


def unanswered(row: FailureRow) -> Answer:
    """The answer that a record did not get when `row` was stored: what became of it is not known now either."""
    return Answer(
        refusal=Refusal(
            error_class=row.error_class,
            message=row.message,
            request=row.request or "",
            response=row.response or "",
            status=row.status,
        )
    )


def unreadable(row: FailureRow) -> NewFailure:
    """Return the failure `row`, which was stored without its record, as it is: a dead letter."""
    return NewFailure(
        key=row.key,
        state=FailureState.DEAD,
        stage=row.stage,
        error_class=row.error_class,
        message=row.message,
        file=row.file or "",
        line=row.line,
        source={},
        request=row.request,
        response=row.response,
    )
