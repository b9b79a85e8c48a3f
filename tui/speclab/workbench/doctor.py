"""Checks of an installation, a workspace and its systems: what does not work, and what to do about it.

Each check is a function that returns findings. Only `check_endpoint` and `check_origin` use the network, after the
trust check of the spec.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sqlite3
import ssl
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from speclab import __version__
from speclab.core.errors import (
    RunLogError,
    RunLogTooOld,
    SpecError,
    SpeclabError,
    Unreachable,
    UnresolvedReference,
    Untrusted,
)
from speclab.core.files import STATE_DIRECTORY
from speclab.core.text import format_count
from speclab.service.heartbeat import PERIOD, heartbeat_path, read_heartbeat

if TYPE_CHECKING:
    from speclab.connectors.secrets.references import References
    from speclab.connectors.trust import Approve
    from speclab.spec.integration import Endpoint, Role


class CheckState(StrEnum):
    """The result of one check."""

    OK = "ok"
    ATTENTION = "attention"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it; `unreachable` if a system does not answer or rejects a login."""

    check: str
    state: CheckState
    what: str
    todo: str = ""
    unreachable: bool = False


PACKAGE: Final = "speclab-tui"
_SQLITE: Final = (3, 38)
"""The first version of SQLite with JSON functions in every build."""
_SMALLEST: Final = (80, 24)
_GB: Final = 1_000_000_000
_CERTIFICATE_DAYS: Final = 21
_SKEW: Final = 30.0
"""Seconds by which the clock may differ from that of a system."""
_SIGNED_SKEW: Final = 300.0
"""Seconds of difference at which signed requests are rejected, as by AWS."""
_TIMEOUT: Final = 10.0
_ENDPOINT_TIMEOUT: Final = 60.0
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)[^;>]*(?:>=\s*([0-9.]+))?[^;]*(;.*)?")


def _ok(check: str, what: str) -> Finding:
    return Finding(check, CheckState.OK, what)


def _attention(check: str, what: str, todo: str) -> Finding:
    return Finding(check, CheckState.ATTENTION, what, todo)


def _failing(check: str, what: str, todo: str, *, unreachable: bool = False) -> Finding:
    return Finding(check, CheckState.FAILING, what, todo, unreachable)


# --- this installation -----------------------------------------------------------------------------------------------


def check_versions(requirements: Iterable[str] | None = None) -> Iterator[Finding]:
    """Check Python, speclab, SQLite and the libraries that speclab requires (or `requirements`)."""
    yield _ok("speclab", f"{__version__}, Python {sys.version.split()[0]} on {sys.platform}")
    if sqlite3.sqlite_version_info < _SQLITE:
        needed = ".".join(map(str, _SQLITE))
        yield _failing(
            "SQLite", f"{sqlite3.sqlite_version}, expected {needed} or later", "Use a newer build of Python."
        )
    else:
        yield _ok("SQLite", sqlite3.sqlite_version)
    wrong, count = [], 0
    for text in metadata.requires(PACKAGE) or () if requirements is None else requirements:
        match = _REQUIREMENT.match(text)
        if match is None or match[3]:  # of an extra, or for other versions of Python
            continue
        count += 1
        if (problem := _compare_version(match[1], match[2] or "0")) is not None:
            wrong.append(problem)
    if wrong:
        yield _failing("libraries", "; ".join(wrong), f"Install them again: pip install --upgrade {PACKAGE}")
    else:
        yield _ok("libraries", f"{count} installed, as required")


def _compare_version(name: str, least: str) -> str | None:
    """Return why a library does not fit; None if its version is at least `least`."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    numbers = [[int(part) for part in re.findall(r"\d+", version)[:4]] for version in (found, least)]
    return f"{name} is {found}, expected {least} or later" if numbers[0] < numbers[1] else None


def check_terminal(environ: Mapping[str, str], encoding: str, size: tuple[int, int] | None) -> Iterator[Finding]:
    """Check whether the app can run in the terminal; `size` is None if the output is not a terminal."""
    name = environ.get("TERM", "")
    if size is None:
        yield _ok("terminal", "the output is not a terminal; only the app needs one")
        return
    if name in ("", "dumb"):
        yield _attention("terminal", f"TERM is {name or 'not set'}: the app cannot draw", "Set TERM=xterm-256color.")
    elif "utf" not in encoding.lower():
        yield _attention(
            "terminal", f"the encoding is {encoding}", "Use a UTF-8 locale (LANG=C.UTF-8), or `speclab --ascii`."
        )
    elif size[0] < _SMALLEST[0] or size[1] < _SMALLEST[1]:
        yield _attention(
            "terminal", f"{size[0]} columns and {size[1]} rows", f"Enlarge it to {_SMALLEST[0]} by {_SMALLEST[1]}."
        )
    else:
        colours = "24-bit colour" if environ.get("COLORTERM") in ("truecolor", "24bit") else "256 colours or fewer"
        yield _ok("terminal", f"{name}, {size[0]} by {size[1]}, {encoding}, {colours}")


# --- this workspace --------------------------------------------------------------------------------------------------


def find_private_files(workspace: Path, specs: Iterable[Path]) -> dict[Path, str]:
    """Return the existing files and directories that contain records or secrets, with what they contain."""
    from speclab.connectors.auth.oauth2 import get_token_directory
    from speclab.connectors.secrets.references import find_references
    from speclab.connectors.trust import trust_directory
    from speclab.runlog.private import private_path
    from speclab.spec.workspace import runlog_path

    runlog = runlog_path(workspace)
    found = {
        workspace / STATE_DIRECTORY: "the state of the workspace",
        runlog: "the run log",
        private_path(runlog): "masked values",
        workspace / ".env": "secrets",
        get_token_directory(): "OAuth tokens",
        trust_directory(): "trust decisions",
    }
    for spec in specs:
        for end in _read_endpoints(spec):
            for reference in (*find_references(end.system), *find_references(end.auth)):
                kind, _, name = reference.partition(":")
                if kind == "file":
                    found[workspace / Path(name).expanduser()] = "a secret"
    return {path: what for path, what in found.items() if path.exists()}


def check_permissions(files: Mapping[Path, str]) -> Iterator[Finding]:
    """Check that no other user can read or change files that contain records or secrets."""
    exposed = 0
    for path, what in files.items():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            exposed += 1
            right = "700" if path.is_dir() else "600"
            yield _attention(
                "permissions", f"{path} ({what}) is open to other users (mode {mode:o})", f"chmod {right} {path}"
            )
    if not exposed:
        yield _ok("permissions", f"{format_count(len(files), 'private file')}, none open to other users")


def check_disk(directory: Path) -> Iterator[Finding]:
    """Check the free space for the run log."""
    place = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(place).free
    what = f"{free / _GB:,.1f} GB free at {place}"
    if free < _GB / 10:
        yield _failing("disk", what, "Free some space: runs stop when the run log cannot grow.")
    elif free < _GB:
        yield _attention("disk", what, "Free some space, or shorten `retention` in the Logging sections.")
    else:
        yield _ok("disk", what)


def check_run_log(path: Path) -> Iterator[Finding]:
    """Check the integrity and the size of the run log."""
    from speclab.runlog import RunLogReader

    if not path.exists():
        yield _ok("run log", "none yet; the first run creates it")
        return
    try:
        with RunLogReader.open(path) as reader:
            damage, runs, events = reader.check_integrity()
    except RunLogTooOld as error:
        yield _attention("run log", error.message, error.hint)
        return
    except RunLogError as error:
        yield _failing("run log", error.message, error.hint)
        return
    size = path.stat().st_size
    wal = path.with_name(f"{path.name}-wal")
    waiting = wal.stat().st_size if wal.exists() else 0
    what = f"{path}: {size / 1e6:,.1f} MB, {format_count(runs, 'run')}, {format_count(events, 'event')}"
    if damage:
        todo = f"Stop all runs, then recover it: sqlite3 {path} .recover | sqlite3 recovered.db"
        yield _failing("run log", f"{path} is damaged: {'; '.join(damage)}", todo)
    elif waiting > _GB:
        todo = "Stop the process that has held a read transaction on it for long (`lsof` on the file)."
        yield _attention("run log", f"{what}; {waiting / 1e6:,.0f} MB are not merged yet", todo)
    elif size > 10 * _GB:
        yield _attention("run log", what, "Shorten `retention` and `payloads` in the Logging sections.")
    else:
        yield _ok("run log", what)


def check_service(workspace: Path, in_progress: int, now: datetime) -> Iterator[Finding]:
    """Check that `speclab up` is running if `in_progress` specs need it, and that it reports regularly."""
    beat = read_heartbeat(workspace)
    needs = f"{format_count(in_progress, 'spec')} in progress"
    if beat is None or not beat.alive(workspace, now):
        if beat is not None and beat.stopped is None:
            todo = "Start it again: speclab up. Its output is in the log of your service manager or .speclab/up.log."
            what = f"process {beat.pid} on {beat.host} died without stopping, last seen {beat.beat}"
            yield _failing("scheduler", what, todo)
        elif in_progress:
            yield _attention("scheduler", f"not running, and {needs}", "Start it: speclab up")
        else:
            yield _ok("scheduler", "not running, and no spec is in progress")
        return
    silent = abs((now - datetime.fromisoformat(beat.beat)).total_seconds())
    who = f"process {beat.pid} of {beat.user} on {beat.host}"
    if silent > 3 * PERIOD:
        todo = f"Check that it can write {heartbeat_path(workspace)} and is not stopped (ctrl+z); otherwise restart it."
        yield _failing("scheduler", f"{who} has not reported for {silent:,.0f} s", todo)
        return
    yield _ok("scheduler", f"{who} runs {format_count(len(beat.specs), 'spec')}, last reported {silent:,.0f} s ago")
    for spec_id, served in beat.specs.items():
        if served.problem:
            yield _failing("scheduler", f"{spec_id} cannot run: {served.problem}", f"speclab lint {spec_id}")


# --- specs and their systems -----------------------------------------------------------------------------------------


def check_spec(path: Path, name: str) -> Iterator[Finding]:
    """Check that a spec can run, and that the connectors and drivers it needs are installed."""
    from speclab.connectors.registry import load_parts
    from speclab.sync.prepare import prepare

    try:
        spec = prepare(path).integration
        for system in () if spec.runs_elsewhere else (spec.source, spec.target):
            load_parts(system)
    except SpecError as error:
        first = str(error.problems[0]) if error.problems else error.message
        yield _failing(name, f"cannot run: {first}", error.hint or f"speclab lint {os.path.relpath(path)}")
    except (SpeclabError, OSError) as error:
        yield _failing(name, f"cannot be read: {error}", "Check the file.")
    else:
        here = f"can run, {spec.source.connector} to {spec.target.connector}"
        yield _ok(name, "another tool runs it and reports its runs" if spec.runs_elsewhere else here)


async def check_systems(specs: Mapping[str, Path], approve: Approve) -> list[Finding]:
    """Check the credentials of all specs, by name, and the hosts that they use, each host once."""
    ends = [(name, path, end) for name, path in specs.items() for end in _read_endpoints(path)]
    turns = asyncio.Semaphore(8)
    origins: set[str] = set()

    async def check(name: str, path: Path, end: Endpoint) -> list[Finding]:
        async with turns:
            return await check_endpoint(name, path, end, approve, origins)

    found = await asyncio.gather(*(check(*one) for one in ends))
    hosts = await asyncio.gather(*map(check_origin, sorted(origins)))
    return [finding for findings in (*hosts, *found) for finding in findings]


async def check_endpoint(
    name: str, path: Path, end: Endpoint, approve: Approve, origins: set[str] | None = None
) -> list[Finding]:
    """Check that an endpoint accepts its credentials, without changing anything; add its hosts to `origins`.

    An endpoint that is not trusted is not contacted.
    """
    from speclab.connectors.check import check_connection
    from speclab.connectors.trust import this_machine

    check = f"{name} {end.role}"
    try:
        references, context = this_machine(path, [end], approve)
    except Untrusted:
        return [_attention(check, "not trusted, so not contacted", f"speclab trust {name}")]
    try:
        async with asyncio.timeout(_ENDPOINT_TIMEOUT):
            result = await check_connection(end, references, context)
    except TimeoutError:
        what = f"no response within {_ENDPOINT_TIMEOUT:.0f} s"
        return [_failing(check, what, f"speclab auth {name} {end.role}", unreachable=True)]
    if origins is not None:
        origins |= await _find_origins(end, references)
    secrets = f"; resolved {', '.join(result.references)}" if result.references else ""
    if result.error is None:
        return [_ok(check, f"{end.system.connector}, {end.login}: {result.request or 'accepted'}{secrets}")]
    todo = result.error.hint or f"speclab auth {name} {end.role}"
    return [_failing(check, result.error.message, todo, unreachable=result.error.exit_code == Unreachable.exit_code)]


async def check_origin(origin: str) -> list[Finding]:
    """Check name resolution, proxy, certificate and clock of the system at an origin such as `https://example.com`."""
    from speclab.connectors.http_transport import find_proxy

    parts = urlsplit(origin)
    check = parts.netloc
    try:
        proxy = find_proxy(origin)
        server = urlsplit(proxy) if proxy else parts
        host, port = server.hostname or "", server.port or (443 if server.scheme == "https" else 80)
    except ValueError as error:
        return [_failing(check, f"not a valid address: {error}", "Check the URL.")]
    found = []
    try:
        async with asyncio.timeout(_TIMEOUT):
            addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer from the name server"
        todo = "Check the host name, /etc/resolv.conf and the network." + (" It is the proxy." if proxy else "")
        return [_failing(check, f"the name {host} cannot be resolved: {reason}", todo, unreachable=True)]
    way = f"through the proxy {host}:{port}" if proxy else f"at {addresses[0][4][0]}"
    if parts.scheme == "https" and not proxy:
        certificate = await _check_certificate(check, host, port)
        if certificate.state is CheckState.FAILING:
            return [certificate]
        found.append(certificate)
    return [*found, await _check_clock(check, origin, way)]


async def _check_certificate(check: str, host: str, port: int) -> Finding:
    import httpx

    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=httpx.create_ssl_context(), server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        todo = "Renew the certificate of the system, or set SSL_CERT_FILE to the authorities that you trust."
        return _failing(check, f"the certificate is not accepted: {error.verify_message}", todo, unreachable=True)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no connection in time"
        return _failing(check, f"no TLS connection: {reason}", "Check port, firewall and proxy.", unreachable=True)
    try:
        certificate = writer.get_extra_info("peercert") or {}
        version = writer.get_extra_info("ssl_object").version()
    finally:
        writer.close()
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    days = (end - datetime.now(UTC)).days
    what = f"{version}, certificate valid until {end:%Y-%m-%d} ({days} days)"
    if days < _CERTIFICATE_DAYS:
        return _attention(f"{check} certificate", what, "Have it renewed: afterwards every run fails.")
    return _ok(f"{check} certificate", what)


async def _check_clock(check: str, origin: str, way: str) -> Finding:
    """Compare the clock with the Date header (RFC 9110, 6.6.1) of a response of any status."""
    import httpx

    from speclab.connectors.http_transport import AiohttpTransport, map_error

    transport = AiohttpTransport(connections=1, connect=_TIMEOUT, tls=origin.startswith("https:"))
    try:
        async with asyncio.timeout(_TIMEOUT):
            started = datetime.now(UTC)
            response = await transport.handle_async_request(httpx.Request("HEAD", f"{origin}/"))
            ended = datetime.now(UTC)
            await response.aclose()
    except (httpx.RequestError, TimeoutError) as error:
        mapped = map_error(error)
        todo = mapped.hint or "Check the URL, firewall and proxy."
        return _failing(check, f"{mapped.reason} {way}: {error}".rstrip(": "), todo, unreachable=True)
    finally:
        await transport.aclose()
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return _ok(check, f"answers {way}; it sends no date to compare the clock with")
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    ahead = (started - date).total_seconds() if started > date else min(0.0, (ended - date).total_seconds())
    if abs(ahead) <= _SKEW:
        return _ok(check, f"answers {way}; the clocks agree")
    direction = "ahead of" if ahead > 0 else "behind"
    what = f"answers {way}; this clock is {abs(ahead):,.0f} s {direction} that of the system"
    todo = "Synchronize this clock (NTP): signatures, tokens and incremental reads depend on it."
    return (_failing if abs(ahead) > _SIGNED_SKEW else _attention)(check, what, todo)


async def _find_origins(end: Endpoint, references: References) -> set[str]:
    """Return the origins of all HTTP URLs in the resolved settings; none if a reference cannot be resolved."""
    from speclab.connectors.secrets.references import iterate_texts
    from speclab.spec.reach import find_hosts

    try:
        settings = [references.resolve_settings(one).model_dump() for one in (end.system, end.auth)]
    except UnresolvedReference:  # the check of the credentials reports it
        return set()
    hosts = {host for text in iterate_texts(settings) for host in find_hosts(text)}
    return {host for host in hosts if host.startswith(("http://", "https://")) and "{" not in host}


def _read_endpoints(path: Path) -> list[Endpoint]:
    """Return the endpoints that speclab connects to for the spec at `path`; `check_spec` reports invalid ones."""
    from speclab.spec.document import Document
    from speclab.spec.parser import is_external, read_endpoint

    roles: Sequence[Role] = ("source", "target")
    found = []
    try:
        document = Document.load(path)
    except (SpeclabError, OSError):
        return []
    if is_external(document):
        return []
    for role in roles:
        try:
            found.append(read_endpoint(document, role))
        except SpecError:
            continue
    return found
