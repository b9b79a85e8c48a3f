"""References to secrets, `${kind:name}`, and the stores that they name."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote

from speclab.connectors.http_transport import HttpReply, Transports, request_once
from speclab.connectors.secrets.redaction import Redactor
from speclab.core.errors import Unreachable, UnresolvedReference, UsageError
from speclab.core.json import Json
from speclab.core.text import REFERENCE, describe_choices, format_suggestion
from speclab.spec.auth import names_secret
from speclab.spec.settings import Settings
from speclab.spec.settings_types import has_login, is_secret

if TYPE_CHECKING:
    import httpx


class Environment(Mapping[str, str]):
    """Variables by name; the process environment takes precedence. The file is read on first use."""

    def __init__(self, process: Mapping[str, str], file: Path) -> None:
        self._process = process
        self._file = file

    def __getitem__(self, name: str) -> str:
        """Return the value of `name`. Raise `KeyError`, and `UnresolvedReference` for a file that cannot be read."""
        return self._process[name] if name in self._process else self._of_file[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, those of the process first."""
        yield from self._process
        yield from (name for name in self._of_file if name not in self._process)

    def __len__(self) -> int:
        """Return the number of variables."""
        return len(self._process.keys() | self._of_file.keys())

    @cached_property
    def _of_file(self) -> Mapping[str, str]:
        """The variables of the file, parsed by python-dotenv without interpolation."""
        from dotenv.parser import parse_stream

        try:
            with self._file.open(encoding="utf-8") as lines:
                bindings = list(parse_stream(lines))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UnresolvedReference(f"{self._file}: cannot be read: {reason}") from None
        for binding in bindings:
            if binding.error:
                line = binding.original.line
                raise UnresolvedReference(
                    f"{self._file}:{line}: expected NAME=value", hint="Quote a value of many lines."
                )
        return {one.key: one.value for one in bindings if one.key is not None and one.value is not None}


@dataclass(frozen=True, slots=True)
class SecretContext:
    """The means to reach a store; secrets it returns are passed to `secret`."""

    environment: Environment
    transports: Transports | None
    secret: Callable[[str], None]


def read_keyring(name: str, _around: SecretContext) -> str:
    """Return the password `SERVICE/NAME` of the system keyring. Raise `UnresolvedReference`."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise _without("keyring", name) from None
    service, _, user = name.rpartition("/")
    try:
        value = keyring.get_password(service, user)
    except KeyringError as error:
        hint = "On a machine without a desktop, ${env:NAME} or ${file:PATH} may be simpler."
        raise UnresolvedReference(f"${{keyring:{name}}}: {error}", hint=hint) from None
    if value is None:
        hint = f"`keyring set {service} {user}` puts it there."
        raise UnresolvedReference(f"${{keyring:{name}}}: the keyring has no such password", hint=hint)
    return value


def read_vault(name: str, around: SecretContext) -> str:
    """Return the value `PATH#KEY` of a Vault key-value store, version 2; the path starts with the mount.

    Raise `UnresolvedReference`.
    """
    import httpx

    path, _, key = name.rpartition("#")
    address, token = (_variable(one, "vault", name, around) for one in ("VAULT_ADDR", "VAULT_TOKEN"))
    around.secret(token)
    mount, _, rest = path.strip("/").partition("/")
    headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
    if namespace := around.environment.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = namespace
    try:
        where = f"{address.rstrip('/')}/v1/{quote(mount)}/data/{quote(rest.removeprefix('data/'))}"
        reply = _asked(httpx.Request("GET", where, headers=headers), around.transports)
    except httpx.InvalidURL as error:
        raise UnresolvedReference(f"${{vault:{name}}}: VAULT_ADDR is no URL: {error}") from None
    except Unreachable as error:
        raise UnresolvedReference(f"${{vault:{name}}}: {error.message}") from None
    outer = reply.body.get("data") if isinstance(reply.body, dict) else None
    found = outer.get("data") if isinstance(outer, dict) else None
    if reply.status == 200 and isinstance(found, dict):
        return _picked(found, key, f"${{vault:{name}}}")
    raise UnresolvedReference(f"${{vault:{name}}}: {_refusal(reply)}", hint=f"It was asked for {mount}/{rest}.")


def read_aws_secret(name: str, around: SecretContext) -> str:
    """Return the value `NAME#KEY` of AWS Secrets Manager, with the credentials of AWS's default chain.

    Raise `UnresolvedReference`.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError:
        raise _without("aws", name) from None
    secret, _, key = name.rpartition("#")
    variable = around.environment.get
    if hidden := variable("AWS_SECRET_ACCESS_KEY"):
        around.secret(hidden)
    try:
        client = Session(profile=variable("AWS_PROFILE")).create_client(
            "secretsmanager",
            region_name=variable("AWS_REGION") or variable("AWS_DEFAULT_REGION"),
            endpoint_url=variable("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            aws_access_key_id=variable("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=hidden,
            aws_session_token=variable("AWS_SESSION_TOKEN"),
        )
        result = client.get_secret_value(SecretId=secret)
    except (BotoCoreError, ClientError) as error:
        raise UnresolvedReference(f"${{aws:{name}}}: {error}") from None
    try:
        found = json.loads(str(result.get("SecretString", "")))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnresolvedReference(f"${{aws:{name}}}: expected the secret to be a JSON object, with {key!r} in it")
    return _picked(found, key, f"${{aws:{name}}}")


STORES: Final[Mapping[str, Callable[[str, SecretContext], str]]] = MappingProxyType(
    {"keyring": read_keyring, "vault": read_vault, "aws": read_aws_secret}
)
"""The stores by the kind of reference that names them."""


def _asked(request: httpx.Request, transports: Transports | None) -> HttpReply:
    """Return the response to `request`, also in a thread with a running event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, request_once(request, transports)).result()


def _picked(found: Mapping[str, Json], key: str, reference: str) -> str:
    value = found.get(key)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is not None:
        raise UnresolvedReference(f"{reference}: {key!r} is no text")
    raise UnresolvedReference(
        f"{reference}: there is no {key!r} in it; {describe_choices(key, list(found), 'there is')}"
    )


def _refusal(reply: HttpReply) -> str:
    errors = reply.body.get("errors") if isinstance(reply.body, dict) else None
    said = "; ".join(str(one) for one in errors).strip() if isinstance(errors, list) else ""
    if reply.status == 404:
        return "there is no such secret, or it was deleted"
    if reply.status == 403:
        return f"Vault refuses VAULT_TOKEN: {said or 'permission denied'}"
    return f"Vault answered {reply.status}{f': {said}' if said else ''}"


def _variable(variable: str, kind: str, name: str, around: SecretContext) -> str:
    value = around.environment.get(variable, "").strip()
    if value:
        return value
    hint = "VAULT_ADDR says where the Vault is, VAULT_TOKEN lets you in, as for the vault command."
    raise UnresolvedReference(f"${{{kind}:{name}}} needs {variable}, which is not set", hint=hint)


def _without(kind: str, name: str) -> UnresolvedReference:
    return UnresolvedReference(
        f"${{{kind}:{name}}} needs the extra '{kind}', which this installation has not",
        hint=f"pip install 'speclab-tui[{kind}]'",
    )


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


def resolve_token(reference: str, base: Path) -> str:
    """Return the token that `reference` of the option `--token` names.

    Raise `UsageError` for a literal: other users of the machine can read command lines.
    """
    if not REFERENCE.fullmatch(reference):
        raise UsageError(
            "--token: expected a reference, not the token itself", hint="Example: --token '${env:SPECLAB_TOKEN}'."
        )
    return References(os.environ, base).resolve(reference).strip()


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
