"""Comparison of measurements with their budgets, with one line each and a summary at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

_WIDTH: Final = 78


@dataclass(slots=True)
class BudgetTally:
    """The number of budgets met, and the names of those missed."""

    met: int = 0
    missed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the summary: `9 of 10 budgets met; missed: ...`."""
        text = f"{self.met} of {self.met + len(self.missed)} budgets met"
        return f"{text}; missed: {', '.join(self.missed)}" if self.missed else text


TALLY: Final = BudgetTally()


def at_least(what: str, figure: float, budget: float, unit: str = "") -> None:
    """Check and print a figure that must be large."""
    _print(what, f"{figure:,.2f}{unit}", f"≥ {budget:,g}{unit}", met=figure >= budget)


def at_most(what: str, figure: float, budget: float, unit: str = "") -> None:
    """Check and print a figure that must be small."""
    _print(what, f"{figure:,.1f}{unit}", f"≤ {budget:,g}{unit}", met=figure <= budget)


def machine() -> str:
    """Return the state of the machine: its processors, and how many processes were waiting for one."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"


def _print(what: str, figure: str, budget: str, *, met: bool) -> None:
    print(f"  {what:<{_WIDTH - 30}} {figure:>12}   {budget:<10} {'met' if met else 'MISSED'}")
    if met:
        TALLY.met += 1
    else:
        TALLY.missed.append(f"{what} ({figure}, {budget})")
