"""The specs of the workspace as rows: each with how it runs, as sign and word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from speclab.app.glyphs import IDLE, Mark
from speclab.app.monitor.integrations import mark
from speclab.app.widgets.grid import Cell, Column, Grid, Row, Span
from speclab.monitor.health import Condition
from speclab.spec.workspace import SpecFile

if TYPE_CHECKING:
    from speclab.app.session import OpenSpec
    from speclab.monitor.health import Health, Overview


class SpecList(Grid):
    """The specs; a row's key is the file's path."""

    def __init__(self) -> None:
        super().__init__(
            _columns(()),
            heading=False,
            empty=("No specs here yet.", "n makes one."),
        )

    def show_specs(self, specs: Sequence[SpecFile], overview: Overview | None, unsaved: Sequence[OpenSpec]) -> None:
        """Show `specs`: the sign of each one's last run, and the word that matters most.

        What is `unsaved` is among them also where the file is gone: it can be gone to, and saved anew.
        """
        healths = {health.integration.spec_id: health for health in overview.integrations} if overview else {}
        changed = {spec.path.resolve() for spec in unsaved}
        there = {spec.path.resolve() for spec in specs}
        lost = [_of(spec) for spec in unsaved if spec.path.resolve() not in there]
        rows = [
            _row(spec, healths.get(spec.spec_id), unsaved=spec.path.resolve() in changed) for spec in (*specs, *lost)
        ]
        self.lay_out(_columns(rows))
        self.show(rows)


def _of(spec: OpenSpec) -> SpecFile:
    front_matter, text = spec.document.front_matter, spec.document.text
    spec_id, kind, status = (front_matter.said(key, text) for key in ("spec_id", "type", "status"))
    return SpecFile(spec.path, spec_id or spec.path.stem, kind, status, title="")


def _columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    names, words = ([cell_len(_text(row.cells[at])) for row in rows] or [0] for at in (0, 1))
    return (Column("", min(max(names), 26), flex=1), Column("", max(words), align="right", drop=1, gap=1))


def _text(cell: Cell | str) -> str:
    return cell if isinstance(cell, str) else cell.text


def _row(spec: SpecFile, health: Health | None, *, unsaved: bool) -> Row:
    sign, word = _sign(spec, health)
    text = f"{sign.glyph} {spec.spec_id}"
    told = Cell("unsaved", "live") if unsaved else Cell(word, sign.style if word[:1].isdigit() else "muted")
    return Row(str(spec.path), (Cell(text, spans=(Span(0, 1, sign.style),)), told))


def _sign(spec: SpecFile, health: Health | None) -> tuple[Mark, str]:
    if spec.type not in {"integration", ""}:
        return IDLE, spec.type
    if health is None or health.condition is Condition.IDLE:
        return IDLE, "never run" if spec.status == "in-progress" else spec.status
    condition = health.condition
    dead = health.integration.dead + health.integration.unknown
    if condition is Condition.ATTENTION and dead:
        return mark(condition), f"{dead:,} dead"
    return mark(condition), "" if condition is Condition.WELL else condition.value
