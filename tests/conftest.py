"""Services that some tests talk to: skipped with the reason where one is absent, failed where it is required."""

from __future__ import annotations

import os
import signal
import socket
from typing import Final

import pytest

os.environ["SPECLAB_TRUST"] = "all"  # the tests' own specs, as in any container; tests of trust take it away
PORTS: Final = {"postgresql": 5432, "mariadb": 3306}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as it is behind a shell's `&`; the tests' processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def service(name: str) -> None:
    """Skip the test unless `name` listens on loopback; with SPECLAB_REQUIRE_SERVICES set, fail it."""
    port = PORTS[name]
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError as error:
        reason = f"{name} is not running on 127.0.0.1:{port}: {error}"
        if os.environ.get("SPECLAB_REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
