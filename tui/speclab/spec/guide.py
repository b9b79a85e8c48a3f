"""The template for new specs, and the guide to each section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Final, Literal, Union, get_args, get_origin

from speclab.core.errors import UsageError
from speclab.core.plugins import BrokenPlugin
from speclab.spec.document import (
    ALERTS,
    CREDENTIALS,
    CRITERIA,
    DIRECTION,
    ERROR_TYPES,
    FIELD_MAPPING,
    FREQUENCY,
    INTEGRATION_TYPE,
    LOGGING,
    METRICS,
    NOTIFICATIONS,
    RETRY_LOGIC,
    SOURCE_AUTH,
    SOURCE_SYSTEM,
    TARGET_AUTH,
    TARGET_SYSTEM,
    VOLUME,
    Document,
    Section,
)
from speclab.spec.integration import DIRECTIONS, FREQUENCIES, INTEGRATION_TYPES, SectionChoice
from speclab.spec.outline import comparable, comparable_path
from speclab.spec.settings_block import find_model

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from speclab.spec.settings import Settings

TEMPLATE: Final = files("speclab.spec").joinpath("template.md").read_bytes().decode()
"""The template, byte for byte."""

_BLANK: Final = Document.parse(TEMPLATE)
_COMMENT: Final = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

OUTLINE: Final = {section.address: " ".join(_COMMENT.findall(_BLANK.body(section))) for section in _BLANK.sections}
"""The sections of the template by address, in order, with the hint in their comment."""

KEYS: Final = tuple(entry.key for entry in _BLANK.front_matter.entries)
"""The front matter's keys, in order."""


def build_spec(name: str, today: date) -> str:
    """Return the text of a new spec called `name`: the template with name, title and dates filled in."""
    title = re.sub(r"[-_.]+", " ", name).strip()
    document = Document.parse(TEMPLATE.replace("{Title}", title[:1].upper() + title[1:]))
    document = document.with_front_matter("spec_id", name)
    return document.with_front_matter("created", today).with_front_matter("updated", today).text


def create_spec(directory: Path, name: str, today: date) -> Path:
    """Write a new spec called `name` to `directory`, created if necessary. Raises `UsageError` if it exists."""
    from speclab.spec.store import create

    name = name.removesuffix(".md")
    if not _NAME.fullmatch(name):
        slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")
        hint = f"such as {slug}" if slug else ""
        raise UsageError(f"{name!r} is not a valid spec name: expected letters, digits, '-', '_' and '.'", hint=hint)
    path = directory / f"{name}.md"
    create(path, build_spec(name, today))
    return path


def is_template_text(document: Document, section: Section) -> bool:
    """Whether the section has only the template's text: its comment, example rows or example criteria."""
    same = next((other for other in _BLANK.sections if _key(other) == _key(section)), None)
    return same is not None and document.body(section).split() == _BLANK.body(same).split()


def _key(section: Section) -> tuple[str, ...]:
    return tuple(comparable(title) for title in section.path)


SUMMARIES: Final = {
    "Problem Statement": "Whose problem this solves, and how to tell that it is solved. Free text.",
    "Integration Overview": "The two systems and how they are connected, in the sections below.",
    SOURCE_SYSTEM: "The system to read from: its name, version and limits as text, and a settings block.",
    TARGET_SYSTEM: "The system to write to: its name, version and rules as text, and a settings block.",
    INTEGRATION_TYPE: "What causes records to be moved. The first line is one of the choices; text may follow.",
    "Data Flow": "Direction, schedule and volume, in the sections below.",
    DIRECTION: "Which system is authoritative. The first line is one of the choices; text may follow.",
    FREQUENCY: "When runs start. The first line is one of the choices; text may follow.",
    VOLUME: "How many records exist and how many change, as text, and in a settings block for plans and guards.",
    FIELD_MAPPING: "One row per target field: its source fields and transformation. A row is identified by its target "
    "path. The settings block has what does not fit in a cell.",
    "Authentication": "Credentials for both systems, in the sections below.",
    SOURCE_AUTH: "Authentication at the source. Secrets are references, never values.",
    TARGET_AUTH: "Authentication at the target. Secrets are references, never values.",
    CREDENTIALS: "Where the secrets are stored, who may change them, and how. Free text.",
    "Error Handling & Retry Strategy": "What happens to a record that fails, in the sections below.",
    ERROR_TYPES: "The action for each error of the target; the first row that matches applies, then the defaults. "
    "`When` is a status (429, 5xx, 400-404) or a class (network, timeout, conflict, ...); `Action` is retry, wait, "
    "refresh, skip, dead_letter or stop.",
    RETRY_LOGIC: "How often, and for how long, a failed write is retried.",
    NOTIFICATIONS: "Who is notified of what, and how, as text, and in a settings block with the channels. Every "
    "integration with a schedule also has an alert for no success within twice its period.",
    "Monitoring & Alerting": "How to see whether the integration works, in the sections below.",
    METRICS: "The metrics that matter for this integration: a list of names, expressions or metrics, or free text.",
    ALERTS: 'When to notify: an expression over the run log, such as success_rate("1h") < 0.9, how long it must be '
    "true, and the channels to notify. A column Severity is optional: critical or warning.",
    LOGGING: "Where events go besides the run log, how long the run log keeps its rows, and which fields of failed "
    "records it stores.",
    "Technical Approach": "How the integration is built. Free text.",
    "Architecture Decisions": "What was decided, why, and which alternatives were rejected. Free text.",
    "Implementation Phases": "The order of work, in the sections below.",
    "Implementation Phases > Phase 1: MVP": "The smallest useful version. Free text.",
    "Implementation Phases > Phase 2: Enhancement": "What follows once the first version runs. Free text.",
    "Implementation Phases > Future": "Ideas without commitment. Free text.",
    "Dependencies & Risks": "Dependencies and risks, in the sections below.",
    "Dependencies & Risks > API Dependencies": "API versions, limits and end-of-life dates. Free text.",
    "Dependencies & Risks > Data Dependencies": "Requirements for the data. Free text.",
    "Dependencies & Risks > Technical Risks": "What can go wrong, and how to respond. Free text.",
    CRITERIA: "A check list of conditions for success. `speclab verify` evaluates each one that ends in a code span "
    "with an expression over the run log.",
    "Out of Scope": "What the integration does not do. Free text.",
    "Tasks Created": "A check list of tasks, which `speclab decompose` derives from the spec. Your own lines are kept.",
}
"""The purpose of each section, by address, in the template's order."""


def _block(text: str) -> str:
    return f"```yaml\n{dedent(text).strip()}\n```"


_FILE_SETTINGS: Final = """
    connector: file
    path: {path}
    key: id
    """

EXAMPLES: Final = {
    f"{SOURCE_SYSTEM} > http": _block("""
        connector: http
        base_url: ${env:SOURCE_URL}
        key: id
        read:
          path: /v1/contacts
          records: data
          pagination: {by: cursor, next: meta.next_cursor, param: cursor}
          since: {param: updated_since, field: updated_at, lookback: 5m}
        limits: {rate: 100/min, concurrency: 4, timeout: 30s}
        """),
    f"{SOURCE_SYSTEM} > sql": _block("""
        connector: sql
        url: ${env:SOURCE_DSN}
        key: id
        read: {table: contacts, since: {field: updated_at}}
        """),
    f"{SOURCE_SYSTEM} > singer": _block("""
        connector: singer
        command: tap-crm
        config: {api_url: "${env:SOURCE_URL}", api_token: "${env:SOURCE_TOKEN}"}
        stream: contacts
        key: id
        """),
    f"{SOURCE_SYSTEM} > external": _block("""
        connector: external
        tool: airflow
        """),
    f"{SOURCE_SYSTEM} > file": _block(_FILE_SETTINGS.format(path="in/contacts.jsonl")),
    f"{TARGET_SYSTEM} > http": _block("""
        connector: http
        base_url: ${env:TARGET_URL}
        key: external_id
        write: {upsert: "PUT /v1/customers/{external_id}", idempotency: Idempotency-Key}
        limits: {concurrency: 4, timeout: 30s}
        """),
    f"{TARGET_SYSTEM} > sql": _block("""
        connector: sql
        url: ${env:TARGET_DSN}
        key: external_id
        write: {upsert: customers, create_table: true}
        """),
    f"{TARGET_SYSTEM} > singer": _block("""
        connector: singer
        command: target-warehouse
        config: {host: "${env:TARGET_HOST}", password: "${env:TARGET_PASSWORD}"}
        stream: customers
        key: external_id
        """),
    f"{TARGET_SYSTEM} > external": _block("""
        connector: external
        tool: airflow
        """),
    f"{TARGET_SYSTEM} > file": _block(_FILE_SETTINGS.format(path="out/customers.jsonl")),
    INTEGRATION_TYPE: "Batch sync",
    DIRECTION: "One-way (Source → Target)",
    FREQUENCY: "Hourly",
    VOLUME: _block("""
        records: 10000
        per_run: 200
        """),
    FIELD_MAPPING: _block("""
        filter: source.email != ""
        lookups:
          status: {A: active, I: inactive}
        check:
          email: {format: email}
        """),
    ERROR_TYPES: dedent("""
        | When | Action | Notes |
        |------|--------|-------|
        | 429 | wait | for as long as the target says |
        | 5xx, network, timeout | retry | |
        | 422 | dead_letter | the record is invalid; fix and replay it |
        """).strip(),
    RETRY_LOGIC: _block("""
        attempts: 5
        base: 2s
        cap: 5m
        give_up_after: 24h
        """),
    NOTIFICATIONS: _block("""
        channels:
          ops: {slack: "${env:SLACK_WEBHOOK}"}
          team: {email: {to: [ops@example.org], smtp: "${env:SMTP_URL}"}}
        on: {failed: ops, dead_letters: {above: 10, to: team}}
        reminder: 4h
        quiet: {from: "22:00", to: "07:00", zone: Europe/Berlin, except: critical}
        """),
    ALERTS: dedent("""
        | Alert | When | For | Notify |
        |-------|------|-----|--------|
        | Many records fail | success_rate("1h") < 0.9 | 15m | log |
        | Nothing arrives | since_success() > duration("2h") | 0s | dashboard |
        """).strip(),
    LOGGING: _block("""
        destination: file
        level: info
        format: json
        retention: 30d
        failures: 90d
        fields: {email: hash, card_type: store}
        """),
    CRITERIA: dedent("""
        - [ ] Nearly all records arrive the same day `success_rate("24h") >= 0.995`
        - [ ] Ten records were compared manually
        """).strip(),
}
"""Example content by the address of its section; if there are several kinds of block, followed by the kind."""

for _role, _address in (("SOURCE", SOURCE_AUTH), ("TARGET", TARGET_AUTH)):
    EXAMPLES[f"{_address} > none"] = _block("type: none")
    EXAMPLES[f"{_address} > api_key"] = _block(f"""
        type: api_key
        header: X-Api-Key
        key: ${{env:{_role}_KEY}}
        """)
    EXAMPLES[f"{_address} > basic"] = _block(f"""
        type: basic
        username: ${{env:{_role}_USER}}
        password: ${{env:{_role}_PASSWORD}}
        """)
    EXAMPLES[f"{_address} > bearer"] = _block(f"""
        type: bearer
        token: ${{env:{_role}_TOKEN}}
        """)
    EXAMPLES[f"{_address} > oauth2"] = _block(f"""
        type: oauth2
        flow: client_credentials
        token_url: ${{env:{_role}_URL}}/oauth/token
        client_id: ${{env:{_role}_CLIENT_ID}}
        client_secret: ${{env:{_role}_CLIENT_SECRET}}
        scope: contacts.read
        """)
    EXAMPLES[f"{_address} > hmac"] = _block(f"""
        type: hmac
        secret: ${{env:{_role}_SECRET}}
        header: X-Signature
        over: "{{timestamp}}.{{body}}"
        timestamp: X-Timestamp
        """)
    EXAMPLES[f"{_address} > aws_sigv4"] = _block("""
        type: aws_sigv4
        region: eu-central-1
        service: execute-api
        access_key: ${env:AWS_ACCESS_KEY_ID}
        secret_key: ${env:AWS_SECRET_ACCESS_KEY}
        """)


class SectionForm(StrEnum):
    """The form of a section's machine-readable content."""

    PROSE = "prose"
    CHOICE = "choice"
    SETTINGS = "settings"
    TABLE = "table"
    CHECK_LIST = "check list"


@dataclass(frozen=True, slots=True)
class SettingHelp:
    """Help for a setting; `name` is dotted (`read.pagination.by`), `default` is as in a spec, "" without one."""

    name: str
    type: str
    required: bool
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of settings block of a section, with its settings and an example.

    `provider` is the package it comes from, if that is not speclab.
    """

    name: str
    summary: str
    settings: tuple[SettingHelp, ...]
    example: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """Help for the section at `address`.

    `example` is Markdown for the section; if there are variants, the block of the first.
    """

    address: str
    summary: str
    form: SectionForm
    example: str = ""
    choices: tuple[SectionChoice, ...] = ()
    variants: tuple[Variant, ...] = field(default=(), repr=False)


_FORMS: Final = {
    INTEGRATION_TYPE: SectionForm.CHOICE,
    DIRECTION: SectionForm.CHOICE,
    FREQUENCY: SectionForm.CHOICE,
    ERROR_TYPES: SectionForm.TABLE,
    ALERTS: SectionForm.TABLE,
    FIELD_MAPPING: SectionForm.TABLE,
    CRITERIA: SectionForm.CHECK_LIST,
}
_CHOICES: Final[Mapping[str, tuple[SectionChoice, ...]]] = {
    INTEGRATION_TYPE: tuple(INTEGRATION_TYPES.values()),
    DIRECTION: tuple(DIRECTIONS.values()),
    FREQUENCY: FREQUENCIES,
}
_OPERATIONS: Final = {SOURCE_SYSTEM: ("read", "write"), TARGET_SYSTEM: ("write", "read")}
_TYPES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def guide(address: str) -> Guide:
    """Return the guide to the section at `address`, in any case and spacing; an unknown section is free text."""
    wanted = comparable_path(address)
    known = next((other for other in SUMMARIES if comparable_path(other) == wanted), None)
    if known is None:
        return Guide(address, "Free text. It is kept unchanged.", SectionForm.PROSE)
    variants = tuple(_variants(known))
    return Guide(
        known,
        SUMMARIES[known],
        _FORMS.get(known, SectionForm.SETTINGS if variants else SectionForm.PROSE),
        example=EXAMPLES.get(known, "") or (variants[0].example if variants else ""),
        choices=_CHOICES.get(known, ()),
        variants=variants,
    )


def list_settings(model: type[Settings], *, without: str = "", before: str = "") -> Iterator[SettingHelp]:
    """Yield the settings of a model in order, nested ones after their parent, except the one called `without`."""
    for name, info in model.model_fields.items():
        written = info.alias or name
        if written == without:
            continue
        inner = find_model(info.annotation)
        if inner and get_origin(info.annotation) is dict:
            written += ".NAME"
        yield SettingHelp(
            before + written,
            "settings" if inner else describe_type(info.annotation, info.metadata),
            info.is_required(),
            "" if inner else _default_text(info),
            info.description or "",
        )
        if inner:
            yield from list_settings(inner, before=f"{before}{written}.")


def describe_type(annotation: object, metadata: Sequence[object] = ()) -> str:
    """Return the name of a setting's type."""
    from pydantic import JsonValue

    from speclab.spec.settings_types import TextType

    kind = next((data for data in metadata if isinstance(data, TextType)), None)
    if kind is not None:
        return kind.name
    if annotation is JsonValue:
        return "any value"
    if isinstance(annotation, type) and annotation in _TYPES:
        return _TYPES[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(args[0], args[1:])
    if origin is Literal:
        return " | ".join(str(arg) for arg in args)
    if origin in {Union, UnionType}:
        return " or ".join(describe_type(arg) for arg in args if arg is not type(None))
    if origin is dict:
        return f"mapping of {describe_type(args[1])}"
    return f"list of {describe_type(args[0])}" if args else "any value"


def _variants(address: str) -> Iterator[Variant]:
    """Yield the kinds of settings block of a section."""
    from speclab.spec.auth import AUTHS
    from speclab.spec.notifications import NotificationSettings
    from speclab.spec.settings import LoggingSettings, MappingSettings, RetrySettings, VolumeSettings

    several: Mapping[str, Mapping[str, type[Settings]]] = {
        SOURCE_AUTH: AUTHS,
        TARGET_AUTH: AUTHS,
        VOLUME: {"": VolumeSettings},
        FIELD_MAPPING: {"": MappingSettings},
        RETRY_LOGIC: {"": RetrySettings},
        NOTIFICATIONS: {"": NotificationSettings},
        LOGGING: {"": LoggingSettings},
    }
    for name, model in several.get(address, {}).items():
        yield Variant(name, _summary(model), tuple(list_settings(model)), _example(address, name))
    if address in _OPERATIONS:
        yield from _systems(address)


def _systems(address: str) -> Iterator[Variant]:
    """Yield the kinds of system for an endpoint: those with an example in its order, then the others."""
    from speclab.spec.auth import SYSTEMS

    operation, other = _OPERATIONS[address]
    examples = [name for name in SYSTEMS if _example(address, name)]
    examples.sort(key=lambda name: list(EXAMPLES).index(f"{address} > {name}"))
    for name in dict.fromkeys([*examples, *SYSTEMS]):
        model, provider = SYSTEMS[name], SYSTEMS.provider(name)
        if isinstance(model, BrokenPlugin):
            yield Variant(name, f"Not usable: {model.reason}", (), "", provider)
        elif operation in model.model_fields or other not in model.model_fields:
            settings = [_of_system(setting, name, operation) for setting in list_settings(model, without=other)]
            settings.sort(key=lambda setting: setting.name.split(".")[0] == "limits")  # limits last
            yield Variant(name, _summary(model), tuple(settings), _example(address, name), provider)


def _of_system(setting: SettingHelp, connector: str, operation: str) -> SettingHelp:
    if setting.name == "connector":
        return replace(setting, type=connector)
    return replace(setting, required=True) if setting.name == operation else setting


def _summary(model: type[Settings]) -> str:
    """Return the first paragraph of the model's docstring."""
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _example(address: str, variant: str) -> str:
    return EXAMPLES.get(f"{address} > {variant}" if variant else address, "")


def _default_text(info: FieldInfo) -> str:
    from speclab.spec.settings_types import TextType

    value = info.default
    if info.is_required() or value is None or value == () or info.default_factory is not None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = next((data for data in info.metadata if isinstance(data, TextType)), None)
    return kind.show(value) if kind else str(value)
