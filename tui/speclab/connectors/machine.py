"""What connectors take from outside, as it is on this machine: its environment, time, chance and network."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

from speclab.clock import SystemClock
from speclab.connectors.base import Report, Seams, silent
from speclab.connectors.references import References


def this_machine(workspace: Path, report: Report = silent) -> tuple[References, Seams]:
    """What references mean in `workspace`, and the seams, for one piece of work on its specs."""
    return References(os.environ, workspace), Seams(clock=SystemClock(), random=SystemRandom(), report=report)
