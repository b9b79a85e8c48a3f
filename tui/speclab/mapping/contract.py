"""The contract of the target: the JSON Schema checks of its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.core.json import Json, Record
from speclab.core.outcome import Stage
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import find_similar
from speclab.mapping.problems import CellLocations, RowFailure, get_target_location
from speclab.mapping.types import format_value
from speclab.spec.integration import MappingRow
from speclab.spec.problems import ProblemCollector

if TYPE_CHECKING:
    import jsonschema_rs


_MAX_REASON: Final = 200
_MAX_UNKNOWN: Final = 100  # unknown keys of `check:` to report; the rest is counted
_MASK: Final = "\0"
_FORMATS: Final = {"email": "email address", "uri": "URI", "uuid": "UUID"}
_FORMAT_ERROR: Final = re.compile(rf'^{_MASK} is not a "([a-z-]+)"$')


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """The check of one target field; `row` is the row that failures point to."""

    path: FieldPath
    row: MappingRow
    validator: jsonschema_rs.Validator

    def find_failures(self, mapped: Record) -> list[RowFailure]:
        """Return the violations of the field in `mapped`; an omitted field has none."""
        try:
            value = self.path.get(mapped)
        except KeyError:
            return []
        try:
            return [] if self.validator.is_valid(value) else self._list_violations(value)
        except ValueError as error:  # nested too deep, or text that is not Unicode
            return [self._failure(f"cannot be checked: {error}", value)]

    def _list_violations(self, value: Json) -> list[RowFailure]:
        target = self.row.target
        found: list[RowFailure] = []
        for error in self.validator.iter_errors(value):
            inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
            message = _describe(error)
            reason = f"{self.path}{inside}: {message}" if inside or str(self.path) != target else message
            found.append(self._failure(reason, value))
        return found

    def _failure(self, reason: str, value: Json) -> RowFailure:
        short = reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}…"
        at = get_target_location(self.row)
        return RowFailure(self.row.target, at.line, at.column, at.length, None, short, value, Stage.CHECK)


def compile_checks(
    check: Mapping[str, Mapping[str, Json]],
    rows: Sequence[MappingRow],
    locations: CellLocations,
    collector: ProblemCollector,
) -> tuple[FieldCheck, ...]:
    """Compile the checks of a `check:` block; problems are added to `collector`."""
    checks: list[FieldCheck] = []
    targets = _targets(rows)
    names = [str(target) for target in targets]
    within = _first_within(targets) if check else {}
    unknown = 0
    for key, schema in check.items():
        at = locations.key(("check", key))
        try:
            path = FieldPath.parse(key.removeprefix("target."))
        except PathSyntaxError as error:
            collector.error("D303", at, f"{key} is not a valid path: {error}")
            continue
        row = _find_row(path, targets, within)
        if row is None:
            unknown += 1
            if targets and unknown <= _MAX_UNKNOWN:
                meant = find_similar(key, names)
                hint = f"Did you mean '{meant[0]}'?" if meant else "The keys are target fields of the table."
                collector.error("M112", at, f"check: no row writes '{key}'. {hint}", meant[0] if meant else None)
            continue
        validator = _validator(key, schema, locations, collector)
        if validator is not None:
            checks.append(FieldCheck(path, row, validator))
    if targets and unknown > _MAX_UNKNOWN:
        more = unknown - _MAX_UNKNOWN
        collector.error("M112", locations.key(("check",)), f"check: {more:,} more keys that no row writes")
    return tuple(checks)


def _targets(rows: Sequence[MappingRow]) -> dict[FieldPath, MappingRow]:
    """Return the rows by target path; invalid paths are reported elsewhere."""
    targets: dict[FieldPath, MappingRow] = {}
    for row in rows:
        with suppress(PathSyntaxError):
            targets.setdefault(FieldPath.parse(row.target), row)
    return targets


def _first_within(targets: Mapping[FieldPath, MappingRow]) -> dict[tuple[str | int, ...], MappingRow]:
    """Map every parent path of a target to the first row that writes within it."""
    within: dict[tuple[str | int, ...], MappingRow] = {}
    for target, row in targets.items():
        for length in range(1, len(target.parts)):
            within.setdefault(target.parts[:length], row)
    return within


def _find_row(
    path: FieldPath, targets: Mapping[FieldPath, MappingRow], within: Mapping[tuple[str | int, ...], MappingRow]
) -> MappingRow | None:
    """Return the row that writes `path`, or its nearest parent, or the first row within it."""
    for length in range(len(path.parts), 0, -1):
        if row := targets.get(FieldPath(path.parts[:length])):
            return row
    return within.get(path.parts)


def _describe(error: jsonschema_rs.ValidationError) -> str:
    """Return the message of `error` with the value in place of the mask."""
    value = format_value(error.instance)  # type: ignore[arg-type]  # its type is JSON by another name
    if found := _FORMAT_ERROR.match(error.message):
        return f"not a valid {_FORMATS.get(found[1], found[1])}: {value}"
    return error.message.replace(_MASK, value)


def _validator(
    key: str, schema: Mapping[str, Json], locations: CellLocations, collector: ProblemCollector
) -> jsonschema_rs.Validator | None:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(
            dict(schema),
            validate_formats=True,
            ignore_unknown_formats=False,
            pattern_options=jsonschema_rs.RegexOptions(),  # linear time for any record
            mask=_MASK,  # a long value would hide the reason
            offline=True,  # references to other documents are refused, not fetched
        )
    except jsonschema_rs.ValidationError as error:
        within = [str(part) for part in error.instance_path]
        message = _describe(error).partition(". Adjust")[0]
        collector.error("M113", locations.key(("check", key, *within)), f"check: {'.'.join([key, *within])}: {message}")
    return None
