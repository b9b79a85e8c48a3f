"""What connectors take from outside, as it is on this machine: its environment, time, chance and network."""

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
    """What references mean for the spec at `spec`, and the seams, for one piece of work on `ends` of it.

    This is the one gate before a connection, a program or a secret. Raises `Untrusted` if the spec may not use what
    `ends` name and `approve` does not agree to it.
    """
    wanted = what_is_wanted(spec, ends)
    require_trust(wanted, approve)
    return ungated(wanted.workspace, report)


def ungated(workspace: Path, report: Report = ignore_report) -> tuple[References, RuntimeContext]:
    """What `this_machine` returns, for settings that no spec holds: those of the tests of a connector."""
    return References(os.environ, workspace), RuntimeContext(clock=SystemClock(), random=SystemRandom(), report=report)
