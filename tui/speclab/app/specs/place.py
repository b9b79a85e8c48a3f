"""The Specs place."""

from __future__ import annotations

from textual.app import ComposeResult

from speclab.app.place import Place
from speclab.app.widgets.grid import Column, Grid
from speclab.app.widgets.panel import Panel


class SpecsPlace(Place):
    """The Specs place."""

    NAME = "specs"

    def compose(self) -> ComposeResult:
        """Its panels."""
        yield Panel(Grid([Column("spec", 20, flex=1)]), title="specs")
