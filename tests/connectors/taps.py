"""Test taps: `singer_programs/tap.py` executes a script."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speclab.connectors.api import Page, RuntimeContext
from speclab.connectors.secrets.references import References
from speclab.connectors.singer.reader import SingerReader
from speclab.connectors.singer.settings import SingerSystem
from speclab.core.json import Json
from speclab.core.locks import ProcessIdentity, is_alive
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings

TAP = shlex.join([sys.executable, str(Path(__file__).parent / "singer_programs" / "tap.py")])
SECRET = 'p4ss "word"/æ'
KEY = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nq83vEjRWeJq83vEj\n-----END KEY-----"


@dataclass(frozen=True)
class Taps:
    """Readers of taps in one workspace, whose environment has SECRET and KEY."""

    directory: Path
    context: RuntimeContext

    @property
    def references(self) -> References:
        """Return the references available to a spec."""
        return References({"SECRET": SECRET, "KEY": KEY}, self.directory)

    def __call__(
        self, do: list[Any], witness: Path | None = None, config: dict[str, Json] | None = None, **more: Json
    ) -> SingerReader:
        """Return a reader of a tap that executes `do`."""
        return SingerReader(
            settings(do, witness, config, **more), NoAuth(), self.references, self.context, RetrySettings()
        )


def settings(
    do: list[Any], witness: Path | None = None, config: dict[str, Json] | None = None, **more: Json
) -> SingerSystem:
    """Return the settings of a tap that executes `do` and logs its start in `witness`."""
    logged: dict[str, Json] = {"witness": str(witness)} if witness else {}
    given: dict[str, Json] = {"connector": "singer", "command": TAP, "stream": "people", "key": "id"}
    return SingerSystem.model_validate(given | {"config": {"do": do, **logged, **(config or {})}} | more)


def starts(witness: Path) -> list[Any]:
    """Return what each start of a tap received."""
    return [json.loads(line) for line in witness.read_text().splitlines()]


def numbers(pages: list[Page]) -> list[Any]:
    """Return the ids of all records."""
    return [record["id"] for page in pages for record in page.records]


def state_after(number: int) -> Json:
    """Return the STATE after a record."""
    return {"bookmarks": {"people": {"id": number}}}


def cursor(state: Json, **more: Json) -> Json:
    """Return the cursor of a read of people after a record."""
    return {"of": "tap.py: people", "state": state, **more}


async def wait_for_start(witness: Path) -> None:
    """Wait until a tap has started."""
    for _ in range(500):
        if witness.exists() and witness.read_text().endswith("\n"):  # noqa: ASYNC240
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no tap has started")


async def ends(pid: int) -> bool:
    """Return whether a process ends within seconds."""
    for _ in range(200):
        if not is_alive(ProcessIdentity.of(pid)):
            return True
        await asyncio.sleep(0.02)
    return False
