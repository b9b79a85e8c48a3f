"""The specs of the workspace as rows: each with its errors or the state of its last run, as icon and word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from speclab.app.glyphs import ATTENTION, FAILED, IDLE, Mark
from speclab.app.monitor.integrations import mark
from speclab.app.widgets.grid import Cell, Column, Grid, Row, Span
from speclab.monitor.health import Condition
from speclab.plural import plural
from speclab.spec.files import real_path
from speclab.spec.workspace import SpecFile

if TYPE_CHECKING:
    from speclab.app.session import OpenSpec
    from speclab.monitor.health import Health, Overview

_SHORTEST: Final = 8
"""Cells that a name has at least."""


class SpecList(Grid):
    """The specs; a row's key is the file's path."""

    def __init__(self) -> None:
        super().__init__(
            _columns(()),
            heading=False,
            empty=("No specs here yet.", "n makes one."),
        )

    def show_specs(
        self,
        specs: Sequence[SpecFile],
        overview: Overview | None,
        unsaved: Sequence[OpenSpec],
        errors: Mapping[Path, int],
    ) -> None:
        """Show `specs`: the icon of each one's state, and the word that matters most.

        A spec that is `unsaved` is listed also where its file is gone: it can be opened and saved again. `errors` are
        the numbers of errors by resolved path, of the specs that were checked so far.
        """
        healths = {health.integration.spec_id: health for health in overview.integrations} if overview else {}
        changed = {real_path(spec.path) for spec in unsaved}
        there = {real_path(spec.path) for spec in specs}
        lost = [_of(spec) for spec in unsaved if real_path(spec.path) not in there]
        rows = []
        for spec in (*specs, *lost):
            path = real_path(spec.path)
            rows.append(_row(spec, healths.get(spec.spec_id), errors.get(path, 0), unsaved=path in changed))
        self.lay_out(_columns(rows))
        self.show(rows)


def _of(spec: OpenSpec) -> SpecFile:
    front_matter, text = spec.document.front_matter, spec.document.text
    spec_id, kind, status = (front_matter.said(key, text) for key in ("spec_id", "type", "status"))
    return SpecFile(spec.path, spec_id or spec.path.stem, kind, status, title="")


def _columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns: the state is always shown whole, a name that is too long is cut."""
    word = max((cell_len(_text(row.cells[1])) for row in rows), default=0)
    return (Column("", _SHORTEST, flex=1, gap=1), Column("", word, align="right", gap=1))


def _text(cell: Cell | str) -> str:
    return cell if isinstance(cell, str) else cell.text


def _row(spec: SpecFile, health: Health | None, errors: int, *, unsaved: bool) -> Row:
    sign, word = _sign(spec, health)
    running = health is not None and health.condition is Condition.RUNNING
    if errors and not running:
        sign, word = FAILED, plural(errors, "error")
    text = f"{sign.glyph} {spec.spec_id}"
    told = Cell("unsaved", "live") if unsaved else Cell(word, sign.style if word[:1].isdigit() else "muted")
    return Row(str(spec.path), (Cell(text, spans=(Span(0, 1, sign.style),)), told))


def _sign(spec: SpecFile, health: Health | None) -> tuple[Mark, str]:
    if spec.too_large:
        return ATTENTION, "too large"
    if spec.type not in {"integration", ""}:
        return IDLE, spec.type
    if health is None or health.condition is Condition.IDLE:
        return IDLE, "never run" if spec.status == "in-progress" else spec.status
    condition = health.condition
    dead = health.integration.dead + health.integration.unknown
    if condition is Condition.ATTENTION and dead:
        return mark(condition), f"{dead:,} dead"
    return mark(condition), "" if condition is Condition.WELL else condition.value
