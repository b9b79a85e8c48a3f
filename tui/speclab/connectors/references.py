"""References in settings (`${env:NAME}` and its like).

Values are resolved when a run starts and live in memory only. Whoever resolves a secret tells the redactor, and
everything that leaves a connector as text passes through it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from speclab.connectors.backchannel import Transports
from speclab.connectors.environment import Environment
from speclab.connectors.redaction import Redactor
from speclab.connectors.stores import STORES, Surroundings
from speclab.errors import UnresolvedReference
from speclab.spec.kinds import has_login, is_secret
from speclab.spec.names import meant
from speclab.spec.settings import Settings

_REFERENCE: Final = re.compile(r"\$\{(?P<kind>[A-Za-z0-9_]+):(?P<name>[^{}]*)\}")
_LOGIN: Final = re.compile(r"[\w+]+://(?:\$\{[^{}]*\}|[^@/])*@")
_KINDS: Final = ("env", "file", *STORES)
_CARRIERS: Final = frozenset({"headers", "params", "body", "config", "options"})
"""Fields of a system whose references are taken for secrets; a `base_url` from the environment is none."""
S = TypeVar("S", bound=Settings)


class References:
    """Resolves references to the environment, files, and stores of secrets; a store is asked once for each.

    `environ` comes before the `.env` of `base`, the workspace, which paths are relative to as well.
    """

    def __init__(self, environ: Mapping[str, str], base: Path, transports: Transports | None = None) -> None:
        self._environment = Environment(environ, base / ".env")
        self._transports = transports
        self._fetched: dict[str, str] = {}
        self.base = base
        self.redactor = Redactor()

    def resolve(self, text: str) -> str:
        """`text` with each reference replaced by its value; nothing else in it is interpreted.

        Raises `UnresolvedReference` for a kind that is unknown and a name that is not set.
        """
        return _REFERENCE.sub(lambda match: self._value(match["kind"], match["name"].strip()), text)

    def resolve_settings(self, settings: S) -> S:
        """A copy of `settings` with every reference in it resolved; the redactor learns the secrets."""
        return self._settings(settings, secret=False)

    async def fetch(self, *settings: Settings) -> None:
        """Ask the stores for what `settings` refer to, in a thread, so that resolving it waits for nobody.

        Raises `UnresolvedReference`.
        """
        for one in settings:
            if any(name.partition(":")[0] in STORES for name in named(one)):
                await asyncio.to_thread(self.resolve_settings, one)

    def _settings(self, settings: S, *, secret: bool) -> S:
        changed: dict[str, object] = {}
        for name, info in type(settings).model_fields.items():
            value = getattr(settings, name)
            if is_secret(info) and isinstance(value, str):
                resolved: object = self.resolve(value)
                self.redactor.add(str(resolved))  # also a literal: linted, but a secret all the same
            else:
                if has_login(info) and isinstance(value, str):
                    value = self._with_login(value)
                resolved = self._walk(value, secret=secret or name in _CARRIERS)
            if resolved is not getattr(settings, name):
                changed[name] = resolved
        return settings.model_copy(update=changed) if changed else settings

    def _with_login(self, url: str) -> str:
        """`url` with the references of its login resolved, their characters encoded: a password may have an `@`."""
        login = _LOGIN.match(url)
        if login is None:
            return url
        as_is = "" if ":" in _REFERENCE.sub("", login[0].partition("://")[2]) else ":"  # it may be `user:password`
        return _REFERENCE.sub(lambda one: quote(self.resolve(one[0]), safe=as_is), login[0]) + url[login.end() :]

    def _walk(self, value: object, *, secret: bool) -> object:
        if isinstance(value, str):
            if "${" not in value:
                return value
            for match in _REFERENCE.finditer(value):
                in_query = "?" in value[: match.start()]  # where a URL has its keys, whatever setting it is
                if secret or in_query:
                    self.redactor.add(self._value(match["kind"], match["name"].strip()))
            return self.resolve(value)
        if isinstance(value, Settings):
            return self._settings(value, secret=secret)
        if isinstance(value, dict):
            return {name: self._walk(inner, secret=secret) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._walk(inner, secret=secret) for inner in value)
        return value

    def _value(self, kind: str, name: str) -> str:
        if kind == "env":
            return self._from_environment(name)
        if kind == "file":
            return self._from_file(name)
        if kind in STORES:
            return self._from_store(kind, name)
        raise UnresolvedReference(
            f"${{{kind}:{name}}}: unknown kind '{kind}'; expected one of {', '.join(_KINDS)}{meant(kind, _KINDS)}"
        )

    def _from_environment(self, name: str) -> str:
        value = self._environment.get(name)
        if value:
            return value
        state = "is not set" if value is None else "is empty"
        raise UnresolvedReference(
            f"${{env:{name}}}: the environment variable {name} {state}{meant(name, self._environment)}",
            hint=f"Set {name} where speclab is started, for example `export {name}=...`, or in the workspace's .env.",
        )

    def _from_file(self, name: str) -> str:
        path = self.base / name
        try:
            value = path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UnresolvedReference(
                f"${{file:{name}}}: cannot read {path}: {reason}", hint="The path is relative to the workspace."
            ) from None
        self.redactor.add(value)  # what is kept in a file of its own is kept there because it is a secret
        return value

    def _from_store(self, kind: str, name: str) -> str:
        reference = f"{kind}:{name}"
        if reference not in self._fetched:
            around = Surroundings(self._environment, self._transports, self.redactor.add)
            try:
                self._fetched[reference] = STORES[kind](name, around)
            except UnresolvedReference as error:
                raise UnresolvedReference(self.redactor.redact(error.message), hint=error.hint) from None
            self.redactor.add(self._fetched[reference])
        return self._fetched[reference]


def named(settings: Settings) -> list[str]:
    """The references in `settings`, as `kind:name`, each once, in order."""
    found = (match for text in texts(settings.model_dump()) for match in _REFERENCE.finditer(text))
    return list(dict.fromkeys(f"{match['kind']}:{match['name'].strip()}" for match in found))


def texts(value: object) -> Iterator[str]:
    """All strings in a value of mappings and lists, but for the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
