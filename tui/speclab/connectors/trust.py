"""Trust: which external resources the specs of a workspace may use on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from speclab.connectors.api import Report, RuntimeContext, ignore_report
from speclab.connectors.secrets.references import STORES, Environment, References, find_references, iterate_texts
from speclab.core.clock import SystemClock
from speclab.core.errors import SpecError, SpeclabError, Untrusted
from speclab.core.json import Json
from speclab.spec.integration import Role
from speclab.spec.reach import Reach, ReachKind, find_hosts, find_outside
from speclab.spec.workspace import workspace_of

if TYPE_CHECKING:
    from speclab.spec.integration import Endpoint
    from speclab.spec.notifications import NotificationSettings

VARIABLE: Final = "SPECLAB_TRUST"
"""Environment variable that trusts every spec if it is `all`: for containers and CI, which cannot ask a person."""
_CHANNELS: Final = "alerts"
"""The role of the channels in the list of resources."""
_STORE_ADDRESSES: Final = {"vault": "VAULT_ADDR", "aws": "AWS_ENDPOINT_URL_SECRETS_MANAGER"}
"""Variables with the address of a secret store, which the `.env` of the workspace may set."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec at `spec` uses outside of `workspace` for the endpoints `roles`, and what is `granted` already."""

    workspace: Path
    spec: Path
    roles: frozenset[str]
    reaches: frozenset[Reach]
    granted: frozenset[str]

    @property
    def missing(self) -> list[Reach]:
        """What is not approved yet, in order."""
        return sorted(reach for reach in self.reaches if str(reach) not in self.granted)


Approve: TypeAlias = Callable[[Wanted], bool]
"""Asks for approval, and returns whether the spec may use what is missing."""


def refuse(_wanted: Wanted) -> bool:
    """Approve nothing beyond the stored decision."""
    return False


def approve_all(_wanted: Wanted) -> bool:
    """Approve everything, as the option `--trust` does."""
    return True


def what_is_wanted(spec: Path, ends: Iterable[Endpoint], notifications: NotificationSettings | None = None) -> Wanted:
    """Return what `ends` of the spec at `spec` use, and its channels, with the stored decision.

    Raises `SpeclabError`.
    """
    spec, workspace = spec.resolve(), workspace_of(spec).resolve()
    ends = tuple(ends)
    reaches = {reach for end in ends for reach in _find_reaches(end, workspace)}
    roles: set[str] = {end.role for end in ends}
    if notifications is not None:
        roles.add(_CHANNELS)
        reaches.update(_find_channel_reaches(notifications, workspace))
    return Wanted(workspace, spec, frozenset(roles), frozenset(reaches), _read_granted(workspace, spec))


def read_wanted(spec: Path) -> Wanted:
    """Return what both endpoints and the channels of the spec at `spec` use, or those of them that can be parsed.

    Raises `SpecError` if neither endpoint can, and `OSError`.
    """
    from speclab.spec.document import Document
    from speclab.spec.parser import read_endpoint, read_notifications

    document = Document.load(spec)
    ends, errors = [], []
    for role in get_args(Role):
        try:
            ends.append(read_endpoint(document, role))
        except SpecError as error:
            errors.append(error)
    if not ends:
        raise errors[0]
    notifications = None
    with suppress(SpecError):  # lint reports it
        notifications = read_notifications(document)
    return what_is_wanted(spec, ends, notifications)


def require_trust(wanted: Wanted, approve: Approve = refuse) -> None:
    """Check that the spec may use everything it needs. Raises `Untrusted` with the list otherwise."""
    if not wanted.missing or os.environ.get(VARIABLE) == "all" or approve(wanted):
        return
    path = os.path.relpath(wanted.spec)
    listed = "\n".join(f"  {describe_reach(reach)}" for reach in wanted.missing)
    known = "more than you agreed to" if wanted.granted else "something you have not agreed to yet"
    raise Untrusted(
        f"{path} is not trusted: it uses {known}\n{listed}",
        hint=f"Run `speclab trust {path}` to see the list and decide, or add `--trust` to allow it for this command.",
    )


def give_trust(wanted: Wanted) -> None:
    """Store the decision that the spec may use everything wanted; decisions for another endpoint are kept.

    Raises `SpeclabError` if it cannot be stored.
    """
    others = {text for text in wanted.granted if text.partition(" ")[0] not in wanted.roles}
    granted = sorted(others | {str(reach) for reach in wanted.reaches})
    digest = hashlib.sha256("\n".join(granted).encode("utf-8", "surrogateescape")).hexdigest()
    decision: Json = {
        "workspace": os.fspath(wanted.workspace),
        "spec": os.fspath(wanted.spec),
        "granted": [*granted],
        "digest": digest,
    }
    directory = trust_directory()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".trust-", dir=directory)  # created with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                json.dump(decision, out)  # escapes everything except ASCII, also invalid bytes of paths
            Path(temporary).replace(_get_decision_path(wanted.workspace, wanted.spec))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SpeclabError(f"{directory}: the decision cannot be stored: {error.strerror or error}") from error


def revoke_trust(spec: Path) -> bool:
    """Delete the decision about the spec at `spec`, and return whether there was one. Raises `SpeclabError`."""
    path = _get_decision_path(workspace_of(spec).resolve(), spec.resolve())
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpeclabError(f"{path}: the decision cannot be revoked: {error.strerror or error}") from error
    return True


def describe_reach(reach: Reach) -> str:
    """Return `reach` as text, with the host in the variable if it is a reference to the environment."""
    kind, _, name = reach.what.partition(":")
    if reach.kind is ReachKind.REFERENCE and kind == "env":
        for host in find_hosts(os.environ.get(name, "")):
            return f"{reach} ({host})"
    return str(reach)


def trust_directory() -> Path:
    """Return the directory of this user's decisions."""
    from platformdirs import user_state_path

    return user_state_path("speclab", appauthor=False) / "trust"


def _get_decision_path(workspace: Path, spec: Path) -> Path:
    about = json.dumps([os.fspath(workspace), os.fspath(spec)])
    return trust_directory() / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"


def _read_granted(workspace: Path, spec: Path) -> frozenset[str]:
    """Return what is approved for the spec; empty without a valid decision."""
    try:
        decision = json.loads(_get_decision_path(workspace, spec).read_bytes())
        granted = [str(text) for text in decision["granted"]]
        about = decision["workspace"], decision["spec"], decision["digest"]
    except (OSError, ValueError, TypeError, KeyError):
        return frozenset()
    digest = hashlib.sha256("\n".join(granted).encode("utf-8", "surrogateescape")).hexdigest()
    return frozenset(granted) if about == (os.fspath(workspace), os.fspath(spec), digest) else frozenset()


class _FromWorkspace(References):
    """Resolves only references to variables that the `.env` of the workspace sets: it is as untrusted as the spec."""

    def __init__(self, environ: Mapping[str, str], base: Path) -> None:
        super().__init__(environ, base)
        self._process = environ
        self._file = Environment({}, base / ".env")

    def _value(self, kind: str, name: str) -> str:
        value = None if kind != "env" or name in self._process else self._file.get(name)
        return value or f"${{{kind}:{name}}}"


def _find_channel_reaches(notifications: NotificationSettings, workspace: Path) -> Iterator[Reach]:
    """Yield what the channels use; of an Apprise URL, which may consist of tokens, only the service."""
    inside = _FromWorkspace(os.environ, workspace)
    references = find_references(notifications)
    yield from (Reach(_CHANNELS, ReachKind.REFERENCE, reference) for reference in references)
    for channel in notifications.channels.values():
        resolved = inside.resolve_settings(channel)
        service, found, _ = (resolved.apprise or "").partition("://")
        if found:
            yield Reach(_CHANNELS, ReachKind.HOST, f"apprise {service}")
        texts = iterate_texts(resolved.model_dump(exclude={"apprise"}))
        yield from (Reach(_CHANNELS, ReachKind.HOST, host) for text in texts for host in find_hosts(text))
    yield from _find_store_reaches(_CHANNELS, references, inside, workspace)


def _find_reaches(end: Endpoint, workspace: Path) -> Iterator[Reach]:
    """Yield what one endpoint uses."""
    inside = _FromWorkspace(os.environ, workspace)
    references = list(dict.fromkeys((*find_references(end.system), *find_references(end.auth))))
    system, auth = inside.resolve_settings(end.system), inside.resolve_settings(end.auth)
    yield from (Reach(end.role, ReachKind.REFERENCE, reference) for reference in references)
    own = list(system.find_reaches(end.role, workspace))
    yield from own
    for text in (*iterate_texts(system.model_dump()), *iterate_texts(auth.model_dump())):
        for host in find_hosts(text):
            if not any(host in reach.what for reach in own):
                yield Reach(end.role, ReachKind.HOST, host)
    yield from _find_store_reaches(end.role, references, inside, workspace)


def _find_store_reaches(
    role: str, references: Iterable[str], inside: _FromWorkspace, workspace: Path
) -> Iterator[Reach]:
    """Yield the secret stores that `.env` of the workspace redirects to, and the file that it links to."""
    kinds = {reference.partition(":")[0] for reference in references}
    for kind in sorted(kinds & STORES.keys() & _STORE_ADDRESSES.keys()):
        address = f"${{env:{_STORE_ADDRESSES[kind]}}}"
        if (found := inside.resolve(address)) != address:
            yield Reach(role, ReachKind.HOST, f"{kind} {found}")
    if kinds & {"env", *STORES}:
        yield from (Reach(role, ReachKind.PATH, path) for path in _find_linked_env(workspace))


def _find_linked_env(workspace: Path) -> Iterator[str]:
    """Yield the target of the workspace's `.env` if it is a link to a file elsewhere."""
    file = workspace / ".env"
    if file.is_symlink():
        yield from find_outside(os.fspath(file), workspace)


def this_machine(
    spec: Path, ends: Iterable[Endpoint], approve: Approve = refuse, report: Report = ignore_report
) -> tuple[References, RuntimeContext]:
    """Return the references and the context for work on `ends` of the spec at `spec`.

    This is the only gate before a connection, a program or a secret. Raises `Untrusted` if the spec may not use what
    `ends` name and `approve` does not approve it.
    """
    wanted = what_is_wanted(spec, ends)
    require_trust(wanted, approve)
    return ungated(wanted.workspace, report)


def open_channels(spec: Path, notifications: NotificationSettings, approve: Approve = refuse) -> References:
    """Return the references for the channels of the spec at `spec`. Raises `Untrusted` if it may not use them."""
    wanted = what_is_wanted(spec, (), notifications)
    require_trust(wanted, approve)
    return References(os.environ, wanted.workspace)


def ungated(workspace: Path, report: Report = ignore_report) -> tuple[References, RuntimeContext]:
    """Return the same as `this_machine` without a trust check, for settings that are not from a spec: tests."""
    return References(os.environ, workspace), RuntimeContext(clock=SystemClock(), random=SystemRandom(), report=report)
