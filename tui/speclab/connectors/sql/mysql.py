"""Connections to MySQL and MariaDB: TLS for remote servers, and no password in clear text without it."""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import URL

from speclab.core.errors import SpecError

if TYPE_CHECKING:
    from pymysql.connections import Connection

_TLS: Final = frozenset(
    {"ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher"}
    | {"ssl_check_hostname", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
)
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")
_CLEAR: Final = (b"mysql_clear_password", b"dialog", b"mysql_old_password")
"""Authentication methods that reveal the password to an eavesdropper or an impostor of the server."""


def split_tls(url: URL) -> tuple[URL, dict[str, object]]:
    """Return `url` without its TLS options, and the driver's arguments for them.

    TLS is required, and the certificate of the server is verified if the URL names a CA or requests it. For a loopback
    address or a socket, TLS is used if the server offers it; with `ssl_disabled` it is not used. Raise `SpecError` for
    options that conflict or name missing files.
    """
    given = {name: str(value) for name, value in url.query.items() if name in _TLS}
    plain = url.difference_update_query(given)
    if _is_yes(given.pop("ssl_disabled", "no"), "ssl_disabled"):
        if given:
            raise SpecError(f"url: ssl_disabled and {min(given)} exclude each other")
        return plain, {"ssl_disabled": True}
    if not given and ("unix_socket" in url.query or _is_loopback(url.host or "localhost")):
        return plain, {}
    return plain, {"ssl": _context(given)}


def connect(*arguments: Any, **options: Any) -> Connection:
    """Return a PyMySQL connection that sends the password in clear text only over TLS or a local socket.

    It overrides `_process_auth` and reads `_secure`, which are private to PyMySQL: there is no public hook before the
    password is sent. `tests/connectors/test_mysql_tls.py` fails if either changes.
    """
    from pymysql.connections import Connection
    from pymysql.err import OperationalError

    class ProtectedConnection(Connection):  # type: ignore[misc]  # PyMySQL has no types
        def _process_auth(self, plugin_name: bytes, auth_packet: object, handler: object = None) -> object:
            if plugin_name in _CLEAR and not self._secure:
                method = plugin_name.decode("ascii")
                raise OperationalError(
                    2059, f"the server wants the password in clear text ({method}) on a connection without TLS"
                )
            return super()._process_auth(plugin_name, auth_packet, handler)

    return ProtectedConnection(*arguments, **options)


def _context(given: dict[str, str]) -> ssl.SSLContext:
    """Return the TLS context for the options."""
    flags = {
        name: _is_yes(given[name], name)
        for name in ("ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity")
        if name in given
    }
    has_ca = "ssl_ca" in given or "ssl_capath" in given
    identity = flags.get("ssl_verify_identity", flags.get("ssl_check_hostname", has_ca))
    verify = flags.get("ssl_verify_cert", has_ca or identity)
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca"), capath=given.get("ssl_capath"))
        # Certificates that MySQL generates do not comply with all of RFC 5280.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = identity and verify
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        if "ssl_cert" in given:
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key"))
        if "ssl_cipher" in given:
            context.set_ciphers(given["ssl_cipher"])
    except (OSError, ssl.SSLError) as error:
        raise SpecError(f"url: its TLS options cannot be used: {error}") from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_yes(text: str, name: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise SpecError(f"url: {name}: expected true or false, got {text!r}")
