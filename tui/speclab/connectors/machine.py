"""The runtime context of this machine: its environment, time, randomness and network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from speclab.connectors.api import Report, RuntimeContext, ignore_report
from speclab.connectors.secrets.references import References
from speclab.connectors.trust import Approve, refuse, require_trust, what_is_wanted
from speclab.core.clock import SystemClock

if TYPE_CHECKING:
    from speclab.spec.integration import Endpoint


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


def ungated(workspace: Path, report: Report = ignore_report) -> tuple[References, RuntimeContext]:
    """Return the same as `this_machine` without a trust check, for settings that are not from a spec: tests."""
    return References(os.environ, workspace), RuntimeContext(clock=SystemClock(), random=SystemRandom(), report=report)
