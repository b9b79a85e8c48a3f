"""References such as `${env:NAME}`: resolving them and registering their values for redaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from speclab.connectors.http_once import Transports
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.stores import STORES, Environment, SecretContext
from speclab.core.errors import UnresolvedReference
from speclab.core.placeholders import REFERENCE
from speclab.core.text import format_suggestion
from speclab.spec.secrets import names_secret
from speclab.spec.settings import Settings
from speclab.spec.settings_types import has_login, is_secret

_LOGIN: Final = re.compile(r"[\w+]+://(?:\$\{[^{}]*\}|[^@/])*@")
_KINDS: Final = ("env", "file", *STORES)
_CARRIERS: Final = frozenset({"headers", "params", "body", "config", "options", "env"})
"""Settings whose references are always secrets."""
_BEFORE_HOST: Final = re.compile(r"(?:[\w+.-]+://(?:[^/?#@]*@)?[^/?#@]*|sqlite:.*)", re.DOTALL)
"""Text before a reference to a host, a port, or an SQLite file."""
_ADDRESS: Final = re.compile(r"[\w+.-]+://.*|[./~].*", re.DOTALL)
"""A URL or a path."""
_TELLING: Final = 8
"""Minimum characters for masking a reference in a setting that usually has no secret: a table may be `people`."""
_IN_URL: Final = re.compile(r"(?P<scheme>[\w+.-]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")
_SECRET_PARAMETER: Final = re.compile(r"pass|pwd|secret|token|sig", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(?=.*\d)(?=.*[A-Za-z])(?!.*\.\w{1,7}$).{12,}")
"""A path segment that looks like a token: long, with letters and digits, and without a file extension."""

S = TypeVar("S", bound=Settings)


class References:
    """Resolves references to the environment, files, and secret stores; each is requested once.

    `environ` takes precedence over the `.env` file of `base`, the workspace, to which paths are relative.
    """

    def __init__(self, environ: Mapping[str, str], base: Path, transports: Transports | None = None) -> None:
        self._environment = Environment(environ, base / ".env")
        self._transports = transports
        self._fetched: dict[str, str] = {}
        self.base = base
        self.redactor = Redactor()

    def resolve(self, text: str) -> str:
        """Return `text` with each reference replaced by its value; values are not interpreted.

        Raise `UnresolvedReference` for an unknown kind or a name that is not set.
        """
        return REFERENCE.sub(lambda match: self._value(match["kind"], match["name"].strip()), text)

    def resolve_settings(self, settings: S) -> S:
        """Return a copy of `settings` with every reference resolved; secrets are added to the redactor."""
        return self._settings(settings, secret=False)

    async def fetch(self, *settings: Settings) -> None:
        """Fetch the secrets that `settings` refer to in a thread, so that resolving them does not block.

        Raise `UnresolvedReference`.
        """
        for one in settings:
            if any(name.partition(":")[0] in STORES for name in find_references(one)):
                await asyncio.to_thread(self.resolve_settings, one)

    def _settings(self, settings: S, *, secret: bool) -> S:
        changed: dict[str, object] = {}
        for name, info in type(settings).model_fields.items():
            value = getattr(settings, name)
            if is_secret(info) and isinstance(value, str):
                resolved: object = self.resolve(value)
                self.redactor.add(str(resolved))  # a literal too: lint rejects it, but it is a secret
            else:
                if has_login(info) and isinstance(value, str):
                    value = self._with_login(value)
                resolved = self._walk(value, secret=secret or name in _CARRIERS)
            if resolved is not getattr(settings, name):
                changed[name] = resolved
        return settings.model_copy(update=changed) if changed else settings

    def _with_login(self, url: str) -> str:
        """Return `url` with the references of its login resolved and percent-encoded: a password may contain an `@`."""
        login = _LOGIN.match(url)
        if login is None:
            return url
        as_is = (
            "" if ":" in REFERENCE.sub("", login[0].partition("://")[2]) else ":"
        )  # the value may be `user:password`
        for part in (resolved := self._login_parts(login[0])).values():
            for secret in part.split(":") if as_is else [part]:
                self.redactor.add(secret)
        return REFERENCE.sub(lambda one: quote(resolved[one[0]], safe=as_is), login[0]) + url[login.end() :]

    def _login_parts(self, login: str) -> dict[str, str]:
        return {match[0]: self.resolve(match[0]) for match in REFERENCE.finditer(login)}

    def _walk(self, value: object, *, secret: bool) -> object:
        if isinstance(value, str):
            if "${" not in value:
                return value
            for match in REFERENCE.finditer(value):
                resolved = self._value(match["kind"], match["name"].strip())
                if secret or not _may_be_shown(value, match, resolved):
                    self.redactor.add(resolved)
            text = self.resolve(value)
            for part in find_url_secrets(text):
                self.redactor.add(part)
            return text
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
            f"${{{kind}:{name}}}: unknown kind '{kind}'; expected one of {', '.join(_KINDS)}"
            f"{format_suggestion(kind, _KINDS)}"
        )

    def _from_environment(self, name: str) -> str:
        value = self._environment.get(name)
        if value:
            return value
        state = "is not set" if value is None else "is empty"
        raise UnresolvedReference(
            f"${{env:{name}}}: the environment variable {name} {state}{format_suggestion(name, self._environment)}",
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
        self.redactor.add(value)  # a value in a file of its own is a secret
        return value

    def _from_store(self, kind: str, name: str) -> str:
        reference = f"{kind}:{name}"
        if reference not in self._fetched:
            around = SecretContext(self._environment, self._transports, self.redactor.add)
            try:
                self._fetched[reference] = STORES[kind](name, around)
            except UnresolvedReference as error:
                raise UnresolvedReference(self.redactor.redact(error.message), hint=error.hint) from None
            self.redactor.add(self._fetched[reference])
        return self._fetched[reference]


def find_url_secrets(text: str) -> Iterator[str]:
    """Yield the secrets in `text` if it is a URL: the password, tokens in the path, and parameters by name."""
    url = _IN_URL.match(text)
    if url is None:
        return
    login, at, _ = url["authority"].rpartition("@")
    is_web = url["scheme"].lower() in ("http", "https")
    if not at and "@" in url["path"] and not url["authority"].rpartition(":")[2].isdigit():
        login = (url["authority"] + url["path"]).rpartition("@")[0]  # a password that contains a slash
    user, colon, password = login.partition(":")
    found = [password if colon else user if is_web else ""]
    found += [part for part in url["path"].split("/") if is_web and _TOKEN.fullmatch(unquote(part))]
    for parameter in (url["query"] or "").split("&"):
        name, _, value = parameter.partition("=")
        if _SECRET_PARAMETER.search(name) or names_secret(name):
            found.append(value)
    for secret in filter(None, found):
        yield secret
        yield unquote(secret)


def _may_be_shown(text: str, match: re.Match[str], resolved: str) -> bool:
    """Whether the reference at `match` of a setting's `text` is an address or a name rather than a secret.

    An address is a URL or a path at its start, or a host or a port within a URL. In a query it is always a secret.
    """
    if "?" in text[: match.start()]:
        return False
    if len(resolved) < _TELLING:
        return True
    if match.start() == 0:
        return _ADDRESS.fullmatch(resolved) is not None
    return _BEFORE_HOST.fullmatch(text, 0, match.start()) is not None


def find_references(settings: Settings) -> list[str]:
    """Return the references in `settings` as `kind:name`, without duplicates, in order."""
    found = (match for text in iterate_texts(settings.model_dump()) for match in REFERENCE.finditer(text))
    return list(dict.fromkeys(f"{match['kind']}:{match['name'].strip()}" for match in found))


def iterate_texts(value: object) -> Iterator[str]:
    """Yield all strings in a value of mappings and lists, without keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from iterate_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from iterate_texts(inner)
