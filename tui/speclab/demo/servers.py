"""The demo's two systems as a process of their own, started with the path of billing's database.

It listens on two free loopback ports, prints one JSON line that says where, and ends when its standard input does, so
it never outlives the demo that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from speclab.errors import SpeclabError
from speclab.launcher import attach, detach, module_command

_GRACE: Final = 1
"""Seconds in which requests may still be answered when the demo ends."""


@contextmanager
def running(database: Path) -> Iterator[dict[str, str]]:
    """Start both systems, stop them at the end; yields the environment the demo's spec refers to.

    `database` is the SQLite file billing keeps its customers in. Raises `SpeclabError` where they do not start.
    """
    process = subprocess.Popen(
        module_command(__name__, str(database)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    attach(process.pid)
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101
    try:
        line = process.stdout.readline()
        if not line:
            raise SpeclabError(f"the demo's two systems did not start (exit {process.wait()}); what they said is above")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait()
        detach(process.pid)
        process.stdout.close()


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


async def _serve(database: Path) -> None:
    import uvicorn

    from speclab.demo.billing import Billing
    from speclab.demo.crm import Crm

    token, key = secrets.token_hex(16), secrets.token_hex(16)
    apps = (Crm(token, time.monotonic).app(), Billing(key, database).app())
    listeners = [_listen(), _listen()]
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                loop="asyncio",
                timeout_graceful_shutdown=_GRACE,
            )
        )
        for app in apps
    ]
    tasks = [asyncio.create_task(server.serve([listener])) for server, listener in zip(servers, listeners, strict=True)]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
        for task in tasks:
            if task.done():
                task.result()
    crm, billing = (f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
    print(json.dumps({"CRM_URL": crm, "CRM_TOKEN": token, "BILLING_URL": billing, "BILLING_KEY": key}), flush=True)  # noqa: T201 - the line the demo waits for
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    os.setpgrp()  # a ctrl+c at the demo ends the demo, and the demo ends this
    asyncio.run(_serve(Path(sys.argv[1])))
