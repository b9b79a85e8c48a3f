"""Secret stores: environment, files, keyring, Vault, AWS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from speclab.connectors.http_once import HttpReply, Transports, request_once
from speclab.core.errors import Unreachable, UnresolvedReference
from speclab.core.json import Json
from speclab.core.text import describe_choices

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
