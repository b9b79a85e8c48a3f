"""Secrets and references: nothing secret stands in a spec, and a reference is one that can be resolved.

A reference is `${kind:name}`; what it names is looked up when a run starts, never here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.positioned_yaml import MappingEntry, MappingNode, Node, ScalarNode, SequenceNode, scalars
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings_block import model_in

if TYPE_CHECKING:
    from speclab.spec.settings import Settings

_KINDS: Final = {
    "env": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "${env:NAME}"),
    "file": (re.compile(r"[^\s#]+(?: [^\s#]+)*"), "${file:PATH}"),
    "keyring": (re.compile(r"[^\s/]+/\S+"), "${keyring:SERVICE/NAME}"),
    "vault": (re.compile(r"[^\s#]+#[^\s#]+"), "${vault:PATH#KEY}"),
    "aws": (re.compile(r"[^\s#]+#[^\s#]+"), "${aws:NAME#KEY}"),
}
_REFERENCE: Final = re.compile(r"\$\{(?P<kind>[^{}:]*)(?P<colon>:?)(?P<name>[^{}]*)(?P<close>\}?)")
_WHOLE: Final = re.compile(r"\$\{[^{}]*\}")
_URL_PASSWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:]*:(?P<password>[^\s/?#]+)@")
_SECRET_NAMES: Final = frozenset(
    {"api_key", "client_secret", "password", "refresh_token", "secret", "secret_key", "token", "access_token"}
)
_SECRET_CARRIERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "api_key"}
    | {"x-auth-token", "access_token", "client_secret", "password"}
)
_SECRET_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:authorization|cookie|token|secret|password|passphrase|credentials?|connection[_-]?string"
    r"|(?:api|secret|private|access|account)[_-]?key)",
    re.IGNORECASE,
)
_QUERIED: Final = re.compile(r"[?&](?P<name>[^\s=&?#]+)=(?P<value>[^\s&#]+)")
_UNENCRYPTED: Final = re.compile(r"http://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|(?:\$\{[^{}]*\}|[^/?#:])+)", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"(?:.*\.)?localhost\.?|127(?:\.\d{1,3}){3}|\[::1\]", re.IGNORECASE)
_OF_OTHERS: Final = ("config", "options", "env")
"""Settings that are handed on to a program or a driver that is not ours."""


def names_secret(name: str) -> bool:
    """Whether a setting of a program that is not ours has the name of a secret, such as `client_secret`."""
    return _SECRET_NAME.fullmatch(name) is not None


def check_references(tree: MappingNode, findings: ProblemCollector) -> None:
    """Tell of every reference that is of no known kind (A102), or that cannot be read (A103)."""
    for scalar in scalars(tree):
        for match in _REFERENCE.finditer(scalar.text):
            at = scalar.part(*match.span())
            kind, name = match["kind"], match["name"]
            if not match["close"]:
                findings.error("A103", at, "this reference is never closed; expected a } after its name")
            elif not match["colon"]:
                meant = f"${{env:{kind}}}" if _KINDS["env"][0].fullmatch(kind) else None
                hint = f"did you mean {meant}?" if meant else f"expected one such as {_KINDS['env'][1]}"
                findings.error("A103", at, f"a reference needs a kind: {hint}", meant)
            elif kind not in _KINDS:
                near = find_likely_name(kind, list(_KINDS))
                hint = describe_choices(kind, list(_KINDS), "expected one of")
                findings.error(
                    "A102", at, f"unknown kind of reference {kind!r}; {hint}", f"${{{near}:{name}}}" if near else None
                )
            elif not _KINDS[kind][0].fullmatch(name):
                findings.error("A103", at, f"{name!r} cannot be the name here; expected {_KINDS[kind][1]}")


def check_secrets(tree: MappingNode, model: type[Settings] | None, owner: str, findings: ProblemCollector) -> None:
    """Tell of every literal where a secret belongs (A101, A104).

    Where there is no `model` to say which settings are secret, their names do. `owner` (`source`, `target`) goes into
    the name of the variable that is proposed.
    """
    named = (entry for entry in tree.entries if entry.key.text in _SECRET_NAMES)
    for entry in _secrets(tree, model) if model else named:
        _refuse_literal(entry, owner, findings)
    for scalar in scalars(tree):
        _check_url(scalar, owner, findings)
        _check_query(scalar, owner, findings)
    for entry in _carried(tree):
        _refuse_literal(entry, owner, findings, whole=False)


def check_encryption(tree: MappingNode, setting: str, what: str, findings: ProblemCollector) -> None:
    """Warn of an `http://` URL in `setting` over which `what` is sent unencrypted (A105); loopback is no network."""
    entry = tree.get(setting)
    if entry is None or not isinstance(entry.node, ScalarNode):
        return
    url = _UNENCRYPTED.match(entry.node.text)
    if url is None or "${" in url["host"] or _LOOPBACK.fullmatch(url["host"]):
        return
    message = f"{what} sent unencrypted over http://, where everybody on the way can read it; use https://"
    findings.warning("A105", entry.node.part(0, len("http")), message)


def _secrets(tree: MappingNode, model: type[Settings]) -> Iterator[MappingEntry]:
    """What `model` says is a secret, in the settings within settings as well."""
    from speclab.spec.settings_types import is_secret

    for name, info in model.model_fields.items():
        entry = tree.get(info.alias or name)
        if entry is not None and is_secret(info):
            yield entry
        elif entry is not None and isinstance(entry.node, MappingNode) and (inner := model_in(info.annotation)):
            yield from _secrets(entry.node, inner)


def _carried(tree: MappingNode) -> Iterator[MappingEntry]:
    """What has the name of a secret, of all that goes out with requests, and of what another program is given."""
    for carrier in _carriers(tree):
        yield from (entry for entry in _all_entries(carrier) if entry.key.text.casefold() in _SECRET_CARRIERS)
    for name in _OF_OTHERS:
        if (given := tree.get(name)) is not None:
            yield from (entry for entry in _all_entries(given.node) if names_secret(entry.key.text))


def _carriers(tree: MappingNode) -> list[MappingNode]:
    """The mappings of a system that go out with requests, where a secret may hide."""
    found = []
    for entry in tree.entries:
        if isinstance(entry.node, MappingNode) and entry.key.text not in _OF_OTHERS:
            found += [entry.node] if entry.key.text in {"headers", "params", "body"} else _carriers(entry.node)
    return found


def _all_entries(node: Node) -> Iterator[MappingEntry]:
    """All entries of a block, however deep: what a tap's `config` is made of is the tap's business."""
    for inner in node.nodes if isinstance(node, SequenceNode) else ():
        yield from _all_entries(inner)
    for entry in node.entries if isinstance(node, MappingNode) else ():
        yield entry
        yield from _all_entries(entry.node)


def _refuse_literal(entry: MappingEntry, owner: str, findings: ProblemCollector, *, whole: bool = True) -> None:
    """Tell of a value that is no reference; in a header, some words may stand before it (`Bearer ${env:T}`)."""
    node = entry.node
    if not isinstance(node, ScalarNode) or not node.text or node.value is None or isinstance(node.value, bool):
        return
    if _REFERENCE.search(node.text) if not whole else _WHOLE.fullmatch(node.text):
        return
    reference = _reference(owner, entry.key.text)
    if whole and _REFERENCE.search(node.text):
        findings.error("A101", node, f"`{entry.key.text}` is a secret: it is one reference such as {reference}, alone")
        return
    findings.error("A101", node, f"a secret in the file; put it in the environment, and here {reference}", reference)


def _reference(owner: str, name: str) -> str:
    """The reference that is proposed for a secret of that name."""
    variable = re.sub(r"[^A-Za-z0-9]+", "_", f"{owner}_{name}").upper()
    return f"${{env:{variable}}}"


def _check_url(node: ScalarNode, owner: str, findings: ProblemCollector) -> None:
    match = _URL_PASSWORD.match(node.text)
    if match is None or _REFERENCE.search(match["password"]):
        return
    reference = f"${{env:{owner.upper()}_PASSWORD}}"
    findings.error(
        "A104",
        node.part(*match.span("password")),
        f"a password in the file; put it in the environment, and here {reference}",
        reference,
    )


def _check_query(node: ScalarNode, owner: str, findings: ProblemCollector) -> None:
    """Tell of a secret in the query of a URL or a path, such as `/list?api_key=abc`."""
    for match in _QUERIED.finditer(node.text):
        if match["name"].casefold() in _SECRET_CARRIERS and "{" not in match["value"]:
            reference = _reference(owner, match["name"])
            findings.error(
                "A104",
                node.part(*match.span("value")),
                f"a secret in the file; put it in the environment, and here {reference}",
                reference,
            )
