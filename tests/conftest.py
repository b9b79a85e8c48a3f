"""Services that some tests need: a missing one skips the test with the reason, or fails it where it is required."""

from __future__ import annotations

import os
import signal
import socket
from typing import Final

import pytest

os.environ["SPECLAB_TRUST"] = "all"  # the specs of the tests are trusted, as in a container; tests of trust remove it
PORTS: Final = {"postgresql": 5432, "mariadb": 3306}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as behind a shell's `&`; the processes of the tests inherit it
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
