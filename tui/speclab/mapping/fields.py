"""Fields of source and target: names and types from samples and schemas, and the contract of the target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rapidfuzz import fuzz

from speclab.core.json import Json, Record
from speclab.core.outcome import Stage
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import find_similar
from speclab.mapping.completion import qualify_path
from speclab.mapping.language import quote
from speclab.mapping.problems import CellLocations, RowFailure, get_target_location
from speclab.mapping.steps.dates import DATE_FORMATS, ISO_DATE, read_date
from speclab.mapping.types import ValueKind, format_value, get_kind
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


_DEEPEST: Final = 6
_KEPT: Final = 20
_OF_SCHEMA: Final = {
    "string": ValueKind.TEXT,
    "integer": ValueKind.INTEGER,
    "number": ValueKind.NUMBER,
    "boolean": ValueKind.BOOLEAN,
    "array": ValueKind.LIST,
    "object": ValueKind.OBJECT,
}
_OF_FORMAT: Final = {"date": ValueKind.DATE, "date-time": ValueKind.DATETIME}

Schema = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of records: its path, the kinds of its values, and some of its non-null values.

    `share` is the share of the sampled records in which it is not null, from 0 to 1; None without a sample. `declared`
    is the type as the system names it, empty if unknown. `required` is True if every record must have it.
    """

    path: FieldPath
    kind: ValueKind
    values: tuple[Json, ...] = ()
    share: float | None = None
    declared: str = ""
    required: bool = False


def collect_fields(records: Iterable[Record]) -> tuple[Field, ...]:
    """Return the fields of `records` in order of appearance; of a list of objects, the fields of the first item."""
    found: dict[FieldPath, list[Json]] = {}
    total = 0
    for record in records:
        total += 1
        _gather(record, (), found)
    return tuple(build_field(path, values, total) for path, values in found.items())


def build_field(path: FieldPath, values: Iterable[Json], total: int) -> Field:
    """Build the field at `path` from its `values` in `total` records; nulls are ignored."""
    present = [value for value in values if value is not None]
    kind = ValueKind(0)
    for value in present:
        kind |= get_kind(value)
    return Field(path, kind, tuple(present[:_KEPT]), round(len(present) / total, 4) if total else None)


def read_schema_fields(schema: Schema) -> tuple[Field, ...]:
    """Return the fields that a JSON Schema describes, in its order; of a list of objects, those of the first item.

    A field is required if it and all its parents are.
    """
    return tuple(_walk_schema(schema, (), required=True))


def _gather(value: Json, path: tuple[str | int, ...], found: dict[FieldPath, list[Json]]) -> None:
    if isinstance(value, dict) and value and len(path) < _DEEPEST:
        for key, item in value.items():
            _gather(item, (*path, key), found)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and len(path) < _DEEPEST:
        _gather(value[0], (*path, 0), found)
    elif path:
        found.setdefault(FieldPath(path), []).append(value)


def _walk_schema(schema: Schema, path: tuple[str | int, ...], *, required: bool) -> Iterator[Field]:
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, dict) and properties and len(path) < _DEEPEST:
        wanted = schema.get("required")
        wanted = wanted if isinstance(wanted, list) else []
        for key, inner in properties.items():
            described = inner if isinstance(inner, dict) else {}
            yield from _walk_schema(described, (*path, key), required=required and key in wanted)
    elif isinstance(items, dict) and items.get("properties") and len(path) < _DEEPEST:
        yield from _walk_schema(items, (*path, 0), required=False)
    elif path:
        kind, names = ValueKind(0), []
        for one in _alternatives(schema):
            kind |= _kind(one)
            names += _names(one)
        yield Field(FieldPath(path), kind, declared=" or ".join(dict.fromkeys(names)), required=required)


def _alternatives(schema: Schema) -> Iterator[Schema]:
    """Yield `schema` and its alternatives (anyOf, oneOf)."""
    yield schema
    for word in ("anyOf", "oneOf"):
        others = schema.get(word)
        for other in others if isinstance(others, list) else []:
            if isinstance(other, dict):
                yield from _alternatives(other)


def _types(schema: Schema) -> list[str]:
    """Return the types that a schema names, without null."""
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    return [name for name in names if isinstance(name, str) and name != "null"]


def _names(schema: Schema) -> list[str]:
    form = schema.get("format")
    return [f"{name} ({form})" if name == "string" and form else name for name in _types(schema)]


def _kind(schema: Schema) -> ValueKind:
    kind = ValueKind(0)
    for name in _types(schema):
        form = schema.get("format")
        is_time = name == "string" and isinstance(form, str) and form in _OF_FORMAT
        kind |= _OF_FORMAT[str(form)] if is_time else _OF_SCHEMA.get(name, ValueKind(0))
    return kind


_GOOD: Final = 70.0
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_SAME: Final = {
    word: canonical
    for canonical, words in {
        "phone": "tel telephone mobile cell fon",
        "email": "mail emailaddress",
        "birth date": "born dob birthday birthdate",
        "first": "given forename vorname",
        "last": "family surname lastname nachname",
        "postal code": "zip postcode plz zipcode",
        "company": "organisation organization org account firm",
        "street": "road line",
        "country": "nation",
        "state": "status stage",
        "amount": "total sum turnover revenue value",
        "created": "creation added",
        "updated": "modified changed",
        "id": "identifier key uuid guid no number",
    }.items()
    for word in words.split()
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested row: its cells, and a score up to 100."""

    target: str
    source: str
    transformation: str
    score: float


def find_unmapped(targets: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the `known` target fields that no row with one of `targets` writes, entirely or partly."""
    written = {_parts(target) for target in targets}
    around = {above for parts in written for above in _upward(parts)}
    return tuple(
        name
        for name in dict.fromkeys(known)
        if (wanted := _parts(name)) and wanted not in around and written.isdisjoint(_upward(wanted))
    )


def suggest(target: str, fields: Sequence[Field], schema: Schema | None = None) -> tuple[Suggestion, ...]:
    """Suggest rows for `target`, best first: fields with a similar name, with the steps that `schema` requires."""
    schema = schema or {}
    if "const" in schema and isinstance(constant := schema["const"], str):
        return (Suggestion(target, "", f"Constant({quote(constant)})", 100.0),)
    wanted = _words(target)
    scored = [(round(_similarity(wanted, _words_of(field.path)), 1), field) for field in fields]
    best = sorted((pair for pair in scored if pair[0] >= _GOOD), key=lambda pair: -pair[0])[:3]
    return tuple(
        Suggestion(target, qualify_path("source", str(field.path)), _steps(target, field, schema), score)
        for score, field in best
    )


def _similarity(one: str, other: str) -> float:
    """Return the similarity of two paths by their words, from 0 to 100; 0 if certainly below the threshold."""
    shared = fuzz.token_set_ratio(one, other, score_cutoff=(_GOOD - 40) / 0.6)
    return 0.6 * shared + 0.4 * fuzz.token_sort_ratio(one, other) if shared else 0.0


@lru_cache(10_000)
def _words_of(path: FieldPath) -> str:
    return _words(str(path))


def _words(path: str) -> str:
    words = (word.lower() for word in _WORD.findall(path))
    return " ".join(_SAME.get(word, word) for word in words)


def _parts(path: str) -> tuple[str | int, ...]:
    try:
        return FieldPath.parse(path).parts
    except PathSyntaxError:
        return ()


def _upward(parts: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield the path and all its parents."""
    return (parts[:length] for length in range(len(parts), 0, -1))


def _steps(target: str, field: Field, schema: Schema) -> str:
    """Return the steps that convert values of `field` to what the target requires."""
    if field.kind == ValueKind.TEXT:
        texts = [value for value in field.values if isinstance(value, str)]
        if schema.get("format") == "date" or "date" in _words(target).split():
            forms = [form for form in DATE_FORMATS if all(read_date(text, form) for text in texts)]
            if len(forms) == 1:
                return "Date" if forms == [ISO_DATE] else f"Date({quote(forms[0])})"
        if schema.get("type") in ("integer", "number"):
            return "Trim, Integer" if schema["type"] == "integer" else "Trim, Decimal"
        if schema.get("format") == "email" or "email" in _words(target).split():
            return "Trim, Lowercase"
        if any(text != text.strip() for text in texts):
            return "Trim"
    elif schema.get("type") == "string" and field.kind and field.kind in ValueKind.SCALAR:
        return "Text"
    return "Direct"
