"""Parsing a document into an `Integration`: every section read, checked and typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from speclab.core.errors import SpecError
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.core.plugins import BrokenPlugin, PluginRegistry
from speclab.spec import document as sections
from speclab.spec.document import Document, Sections
from speclab.spec.integration import (
    Alert,
    Endpoint,
    ErrorRule,
    Integration,
    MappingRow,
    Role,
    Schedule,
    read_direction,
    read_frequency,
    read_type,
)
from speclab.spec.measures import read_measures
from speclab.spec.positioned_yaml import MappingNode, ScalarNode
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.rules import CheckExpression, read_alerts, read_criteria, read_error_rules, read_rows
from speclab.spec.settings_block import read_block, to_model, to_variant
from speclab.spec.workspace import has_other_type, is_readable, read_header

if TYPE_CHECKING:
    from speclab.spec.auth import Auth
    from speclab.spec.notifications import NotificationSettings
    from speclab.spec.outline import Section
    from speclab.spec.settings import MappingSettings, Settings, System


_SYSTEM_EXAMPLE: Final = (
    "a run needs a block ```yaml with `connector: http`, sql, file, singer or external, and its settings"
)
_AUTH_EXAMPLE: Final = (
    "a run needs a block ```yaml with `type: bearer`, oauth2, api_key, basic, hmac, aws_sigv4 or none, and its settings"
)
_OTHER_SYSTEMS: Final = "; other connectors need their package installed beside speclab"
_OPERATIONS: Final = {"source": ("read", "write"), "target": ("write", "read")}
_TITLE_PREFIX: Final = re.compile(r"spec\s*:\s*", re.IGNORECASE)

M = TypeVar("M", bound="Settings")


@dataclass(frozen=True, slots=True)
class ParseResult:
    """The content of a document, as far as it can be parsed.

    `integration` is None if a part of it is missing; `rows` and `mapping` are the Field Mapping, if it is valid.
    `expressions` are the CEL expressions outside the mapping, which are not checked here.
    """

    integration: Integration | None
    rows: tuple[MappingRow, ...]
    mapping: MappingSettings | None
    expressions: tuple[CheckExpression, ...]
    problems: tuple[Problem, ...]


def read_integration(document: Document) -> tuple[Integration | None, list[Problem]]:
    """Return the integration in `document`, and its problems by location.

    The integration is None if an error prevents a run; what a draft may leave for later is such an error here.
    """
    reading = read(document, Level.ERROR)
    has_errors = any(problem.level is Level.ERROR for problem in reading.problems)
    return None if has_errors else reading.integration, list(reading.problems)


def read_endpoint(document: Document, role: Role) -> Endpoint:
    """Return the source or the target in `document`, even if the rest of it is not valid.

    Raises `SpecError` with its problems.
    """
    return _Reader(document, Level.ERROR).endpoint(role)


def read_mapping(document: Document) -> tuple[tuple[MappingRow, ...], MappingSettings]:
    """Return the rows and the settings of the Field Mapping in `document`, even if the rest of it is not valid.

    Raises `SpecError` with its problems.
    """
    return _Reader(document, Level.ERROR).mapping()


def read_notifications(document: Document) -> NotificationSettings:
    """Return the settings of notifications in `document`, even if the rest of it is not valid.

    Raises `SpecError` with their problems.
    """
    return _Reader(document, Level.ERROR).notifications()


def read(document: Document, needs: Level) -> ParseResult:
    """Parse `document`; `needs` is the level of problems for what a run needs and is missing."""
    return _Reader(document, needs).read()


class _Reader:
    """Parses a document section by section."""

    def __init__(self, document: Document, needs: Level) -> None:
        self._document = document
        self._external = is_external(document)
        self._findings = ProblemCollector(str(document.path or "<spec>"), document.text, document.position, needs=needs)
        self._sections = Sections(document, self._findings)
        self._expressions: list[CheckExpression] = []
        self._missing: ScalarNode | None = None
        self._target: MappingNode | None = None
        self._systems: dict[str, MappingNode] = {}

    def read(self) -> ParseResult:
        from speclab.spec.settings import LoggingSettings, MappingSettings, RetrySettings, VolumeSettings

        spec_id, status = read_header(self._document, self._findings)
        source, source_line, requires_auth = self._system(sections.SOURCE_SYSTEM, "source")
        source_auth = self._auth(sections.SOURCE_AUTH, "source", requires_auth=requires_auth)
        target, target_line, requires_auth = self._system(sections.TARGET_SYSTEM, "target")
        if source and target and source.deletes_missing() and self._missing and (why := target.explain_no_delete()):
            self._findings.error("S210", self._missing, f"`missing: delete`: {why}")
        target_auth = self._auth(sections.TARGET_AUTH, "target", requires_auth=requires_auth)
        schedule = self._choices()
        errors = self._findings.errors
        rows, mapping_line = self._rows()
        if target and rows and self._findings.errors == errors:  # otherwise an invalid row may produce it
            self._check_required_paths(target, rows)
        mapping = self._settings(sections.FIELD_MAPPING, MappingSettings)
        volume = self._settings(sections.VOLUME, VolumeSettings)
        retry = self._settings(sections.RETRY_LOGIC, RetrySettings)
        logging = self._settings(sections.LOGGING, LoggingSettings)
        error_rules = self._error_rules()
        notifications = self._notifications()
        alerts = self._alerts(notifications)
        for address in (sections.CREDENTIALS, sections.METRICS):
            self._free_settings(address)
        self._measures()
        self._criteria()
        integration = None
        if (source and target and source_auth and target_auth and schedule) and (
            mapping and volume and retry and logging and notifications
        ):
            integration = Integration(
                spec_id=spec_id,
                title=_TITLE_PREFIX.sub("", self._document.title, count=1) or spec_id,
                path=self._document.path or Path(),
                hash=self._document.hash,
                status=status,
                source=source,
                target=target,
                source_auth=source_auth,
                target_auth=target_auth,
                rows=rows,
                mapping=mapping,
                mapping_line=mapping_line,
                retry=retry,
                error_rules=error_rules,
                schedule=schedule,
                alerts=alerts,
                notifications=notifications,
                logging=logging,
                volume=volume,
                source_line=source_line,
                target_line=target_line,
            )
        return ParseResult(integration, rows, mapping, tuple(self._expressions), tuple(self._findings.in_order()))

    def endpoint(self, role: Role) -> Endpoint:
        """Return the system and the authentication of an endpoint. Raises `SpecError`."""
        addresses = {
            "source": (sections.SOURCE_SYSTEM, sections.SOURCE_AUTH),
            "target": (sections.TARGET_SYSTEM, sections.TARGET_AUTH),
        }
        at = addresses[role]
        system, _, requires_auth = self._system(at[0], role)
        auth = self._auth(at[1], role, requires_auth=requires_auth)
        if system is None or auth is None or self._findings.errors:
            name = self._document.path or self._document.title
            raise SpecError(f"{name}: the {role} is not valid", problems=self._findings.in_order())
        return Endpoint(role, system, auth)

    def mapping(self) -> tuple[tuple[MappingRow, ...], MappingSettings]:
        """Return the rows and the settings of the Field Mapping. Raises `SpecError`."""
        from speclab.spec.settings import MappingSettings

        rows, _ = self._rows()
        settings = self._settings(sections.FIELD_MAPPING, MappingSettings)
        if settings is None or self._findings.errors:
            name = self._document.path or self._document.title
            raise SpecError(f"{name}: the mapping is not valid", problems=self._findings.in_order())
        return rows, settings

    def _system(self, address: str, role: str) -> tuple[System | None, int, bool]:
        """Return the system of an endpoint, the line of its heading, and whether it requires an Auth section."""
        from speclab.spec.auth import SYSTEMS
        from speclab.spec.settings import NOT_RUN_YET

        section = self._sections.find(address)
        errors = self._findings.errors
        tree = read_block(section, self._findings) if section else None
        if section is None or tree is None:
            system = self._system_without_settings(address, section) if self._findings.errors == errors else None
            return system, section.line if section else 1, system is None
        model = self._check_secrets(tree, "connector", SYSTEMS, role)
        requires_auth = model.requires_auth if model else tree.get("connector") is None
        requires_auth = requires_auth and not self._external
        self._systems[role] = tree
        if model is not None:
            self._collect_expressions(tree, model)
        system = to_variant(tree, "connector", SYSTEMS, NOT_RUN_YET, self._findings, others=_OTHER_SYSTEMS)
        if system is None:
            return None, section.line, requires_auth
        operation, other = _OPERATIONS[role]
        supported = type(system).model_fields.keys() & {operation, other}
        if supported == {other}:
            self._findings.error(
                "S207", tree.entries[0].key, f"{system.connector!r} has no `{operation}`: it cannot be a {role}"
            )
        shows_fields = role == "target" and system.reads_target_fields  # what `speclab fields` reads there
        if (unused := tree.get(other)) is not None and not shows_fields:
            self._findings.warning("S208", unused.key, f"`{other}` has no effect at the {role}")
        self._check_missing(tree, role)
        if role == "target":
            self._target = tree
        if operation in supported and getattr(system, operation) is None and not self._external:
            self._findings.error("S207", tree.entries[0].key, f"`{operation}` is missing; a {role} needs it")
        return system, section.line, requires_auth

    def _system_without_settings(self, address: str, section: Section | None) -> System | None:
        """Return the system of an endpoint without a settings block: None, unless another tool runs the integration."""
        if self._external:
            return _build_external()
        if section is None:
            self._sections.need(address, _SYSTEM_EXAMPLE)
        else:
            self._sections.need_block(section, _SYSTEM_EXAMPLE)
        return None

    def _check_required_paths(self, target: System, rows: Sequence[MappingRow]) -> None:
        """Report fields that the target needs and no row produces."""
        unclear = target.explain_unclear_success()
        if self._target and unclear and (at := self._target.at(unclear[0])):
            self._findings.warning("S212", at.node, unclear[1])
        made = [FieldPath.parse(row.target).parts for row in rows]
        for setting, paths in target.get_required_paths().items():
            entry = self._target.at(setting) if self._target else None
            for path in paths:
                if entry and not any(path.parts[: len(row)] == row[: len(path.parts)] for row in made):
                    self._findings.warning("S211", entry.node, f"no row of the mapping produces `{path}`")

    def _check_missing(self, tree: MappingNode, role: str) -> None:
        """Remember the setting `missing` of a source, and warn of one of a target."""
        read = tree.get("read")
        missing = tree.get("missing") or (
            read.node.get("missing") if read and isinstance(read.node, MappingNode) else None
        )
        if role == "source":
            self._missing = missing.key if missing else None
        elif missing is not None and missing is tree.get("missing"):
            self._findings.warning("S208", missing.key, "`missing` has no effect at the target")

    def _auth(self, address: str, role: str, *, requires_auth: bool) -> Auth | None:
        from speclab.spec.auth import AUTHS, NoAuth
        from speclab.spec.settings import NOT_RUN_YET

        section = self._sections.find(address)
        errors = self._findings.errors
        tree = read_block(section, self._findings) if section else None
        if tree is not None:
            self._check_secrets(tree, "type", AUTHS, role)
            auth = to_variant(tree, "type", AUTHS, NOT_RUN_YET, self._findings)
            if auth is not None:
                self._check_encryption(auth, tree, role)
            return auth
        if self._findings.errors > errors:
            return None
        if not requires_auth:
            return NoAuth()  # a file needs no credentials, and a database URL contains them
        if section is None:
            self._sections.need(address, _AUTH_EXAMPLE)
        else:
            self._sections.need_block(section, _AUTH_EXAMPLE)
        return None

    def _check_secrets(
        self, tree: MappingNode, tag: str, variants: Mapping[str, type[M]] | PluginRegistry[type[M]], role: str
    ) -> type[M] | None:
        """Report secrets and invalid references; return the model that `tag` names, if there is one."""
        from speclab.spec.auth import check_references, check_secrets  # loads pydantic, like all settings

        entry = tree.get(tag)
        name = entry.node.text if entry and isinstance(entry.node, ScalarNode) else ""
        found = variants.get(name)
        model = None if isinstance(found, BrokenPlugin) else found
        check_references(tree, self._findings)
        check_secrets(tree, model, role, self._findings)
        return model

    def _check_encryption(self, auth: Auth, tree: MappingNode, role: str) -> None:
        """Warn of credentials that are sent unencrypted."""
        from speclab.spec.auth import check_encryption

        what = {"bearer": "the token is", "oauth2": "the token is", "basic": "the password is", "api_key": "the key is"}
        if auth.type in what and role in self._systems:
            check_encryption(self._systems[role], "base_url", what[auth.type], self._findings)
        if auth.type == "oauth2":
            for setting in ("token_url", "device_url"):
                check_encryption(tree, setting, "the client's credentials are", self._findings)

    def _collect_expressions(self, tree: MappingNode, model: type[System]) -> None:
        """Collect the expressions in a system's settings; the mapping checks its own."""
        for (outer, inner), name in model.expressions.items():
            entry = tree.get(outer)
            found = entry.node.get(inner) if entry and isinstance(entry.node, MappingNode) else None
            if found and isinstance(found.node, ScalarNode) and found.node.value is not None:
                at = found.node.part(0, len(found.node.text))
                self._expressions.append(CheckExpression(found.node.text, at.start, at.end, names=(name,)))

    def _choices(self) -> Schedule | None:
        for address, choose in ((sections.INTEGRATION_TYPE, read_type), (sections.DIRECTION, read_direction)):
            if section := self._sections.find(address):
                choose(self._document.body(section), section.body.start, self._findings)
        section = self._sections.find(sections.FREQUENCY)
        if section is None:
            return Schedule("on_demand", "")
        return read_frequency(self._document.body(section), section.body.start, self._findings)

    def _rows(self) -> tuple[tuple[MappingRow, ...], int]:
        section = self._sections.find(sections.FIELD_MAPPING)
        if self._external and not self._has_rows(section):
            return (), section.line if section else 1
        if section is None:
            self._sections.need(sections.FIELD_MAPPING, "a run needs its table, with one row per target field")
            return (), 1
        return read_rows(self._document, section, self._findings), section.line

    def _has_rows(self, section: Section | None) -> bool:
        """Return whether the Field Mapping has rows, apart from those of the template."""
        unused = ProblemCollector("", self._document.text, self._document.position)
        return section is not None and bool(read_rows(self._document, section, unused) or unused.errors)

    def _settings(self, address: str, model: type[M], *, secrets_of: str = "") -> M | None:
        """Return the settings of an optional section; None if they are not valid.

        With `secrets_of`, a prefix for names of environment variables, secrets in the section are reported.
        """
        from speclab.spec.auth import check_references, check_secrets

        section = self._sections.find(address)
        errors = self._findings.errors
        tree = read_block(section, self._findings) if section else None
        if tree is None:
            return model.model_validate({}) if self._findings.errors == errors else None
        check_references(tree, self._findings)
        if secrets_of:
            check_secrets(tree, model, secrets_of, self._findings)
        return to_model(tree, model, self._findings)

    def _free_settings(self, address: str) -> None:
        """Check a block without a model: only its YAML and its secrets."""
        from speclab.spec.auth import check_references, check_secrets

        section = self._sections.find(address)
        tree = read_block(section, self._findings) if section else None
        if tree is not None:
            check_references(tree, self._findings)
            check_secrets(tree, None, "sync", self._findings)

    def _error_rules(self) -> tuple[ErrorRule, ...]:
        section = self._sections.find(sections.ERROR_TYPES)
        return read_error_rules(self._document, section, self._findings) if section else ()

    def notifications(self) -> NotificationSettings:
        """Return the settings of notifications. Raises `SpecError`."""
        settings = self._notifications()
        if settings is None or self._findings.errors:
            name = self._document.path or self._document.title
            raise SpecError(f"{name}: the notifications are not valid", problems=self._findings.in_order())
        return settings

    def _notifications(self) -> NotificationSettings | None:
        from speclab.spec.notifications import NotificationSettings

        return self._settings(sections.NOTIFICATIONS, NotificationSettings, secrets_of="alert")

    def _alerts(self, notifications: NotificationSettings | None) -> tuple[Alert, ...]:
        section = self._sections.find(sections.ALERTS)
        if section is None:
            return ()
        found = read_alerts(self._document, section, self._findings, notifications)
        self._expressions += [expression for _, expression in found]
        return tuple(alert for alert, _ in found)

    def _measures(self) -> None:
        section = self._sections.find(sections.METRICS)
        if section is not None:
            self._expressions += read_measures(self._document, section, self._findings)

    def _criteria(self) -> None:
        section = self._sections.find(sections.CRITERIA)
        for criterion in read_criteria(self._document, section) if section else ():
            if criterion.expression is not None:
                self._expressions.append(criterion.expression)


def is_external(document: Document) -> bool:
    """Return whether another tool runs the integration in `document`, and reports its runs."""
    if "external" not in document.text:  # most specs: do not parse their settings twice
        return False
    return any(name is not None and _runs_elsewhere(name) for name in _find_connectors(document))


def _find_connectors(document: Document) -> Iterator[str | None]:
    """Yield the names of the connectors in `document`; problems are not reported here."""
    unused = ProblemCollector("", document.text, document.position)
    found = Sections(document, unused)
    for address in (sections.SOURCE_SYSTEM, sections.TARGET_SYSTEM):
        section = found.find(address)
        tree = read_block(section, unused) if section and not section.empty else None
        entry = tree.get("connector") if tree else None
        yield entry.node.text if entry and isinstance(entry.node, ScalarNode) else None


def _runs_elsewhere(connector: str) -> bool:
    from speclab.spec.auth import SYSTEMS

    model = SYSTEMS.get(connector)
    return not (model is None or isinstance(model, BrokenPlugin)) and model.runs_elsewhere


def _build_external() -> System:
    """Return the system of a section without settings, in an integration that another tool runs."""
    from speclab.spec.auth import SYSTEMS

    model = SYSTEMS["external"]
    assert not isinstance(model, BrokenPlugin)  # noqa: S101 - speclab's own
    return model.model_validate({})


def lint(document: Document) -> list[Problem]:
    """Return the problems of `document` by location, without those of CEL expressions and mapping cells."""
    return list(examine(document).problems)


def examine(document: Document) -> ParseResult:
    """Parse `document`.

    Missing content is a note, and an error once the spec is in progress. A file of another type, or without valid
    front matter, has no content and only the problems of its front matter.
    """
    front_matter = document.front_matter
    if has_other_type(document) or not front_matter.present or not is_readable(document):
        return ParseResult(None, (), None, (), front_matter.problems)
    return read(document, Level.ERROR if front_matter.get("status") == "in-progress" else Level.INFO)
