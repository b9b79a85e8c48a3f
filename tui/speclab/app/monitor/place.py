"""The Monitor place."""

from __future__ import annotations

from textual.app import ComposeResult

from speclab.app.place import Place
from speclab.app.widgets.grid import Column, Grid, Row
from speclab.app.widgets.panel import Panel


class MonitorPlace(Place):
    """The Monitor place."""

    NAME = "monitor"

    def compose(self) -> ComposeResult:
        """Its panels."""
        yield Panel(
            Grid([Column("spec", 20, flex=1), Column("dead", 6, align="right")], [Row("a", ("crm", "14"))]),
            title="integrations",
        )
