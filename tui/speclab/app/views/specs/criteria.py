"""Acceptance criteria in the Specs view: evaluate them, write their ticks, and add suggested expressions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from speclab.app.actions import Action, Controller
from speclab.app.dialogs import ChoiceDialog
from speclab.app.formatting import FAILED, IDLE, WELL, Icon
from speclab.app.views.specs.lifecycle import PreviewDialog
from speclab.app.views.specs.panel import Paragraph
from speclab.app.widgets.grid import GridRow
from speclab.spec.document import CRITERIA, Document
from speclab.spec.outline import comparable

if TYPE_CHECKING:
    from speclab.app.views.specs.lists import SpecsHost
    from speclab.monitor.criteria import CriterionResult, Verification
    from speclab.workbench.open_specs import OpenSpec

ACTIONS: Final = (
    Action("verify", "verify", "Evaluate the acceptance criteria over the run log.", ("v",), footer=False),
    Action("tick", "tick criteria", "Tick the criteria that pass, and untick those that fail.", ("w",), footer=False),
    Action("suggest", "add expression", "Add a suggested expression to a criterion.", ("a",), footer=False),
)
_ICONS: Final[dict[str, tuple[Icon, str]]] = {
    "pass": (WELL, "$success"),
    "fail": (FAILED, "$error"),
    "no data": (IDLE, "$warning"),
    "manual": (IDLE, "$muted"),
}


class CriteriaActions(Controller):
    """Evaluates the criteria of the open spec as it is edited, and changes them."""

    def __init__(self, host: SpecsHost) -> None:
        self._host = host
        self._verified: tuple[Document, Verification] | None = None

    @property
    def is_at_criteria(self) -> bool:
        """Whether the current section is Acceptance Criteria."""
        section = self._host.section
        return section is not None and any(comparable(title) == comparable(CRITERIA) for title in section.path)

    @property
    def verification(self) -> Verification | None:
        """The results, if the document has not changed since."""
        opened = self._host.opened
        if opened is None or self._verified is None or self._verified[0] is not opened.document:
            return None
        return self._verified[1]

    def explain_disabled(self, action: str) -> str | None:
        """Return why criteria cannot be evaluated or changed."""
        if action not in {"verify", "tick", "suggest"}:
            return None
        opened = self._host.opened
        if opened is None:
            return "no spec is open"
        if not self.is_at_criteria:
            return f"criteria are verified in the section {CRITERIA}"
        return opened.read_only or None if action != "verify" else None

    def describe(self) -> Iterator[Paragraph]:
        """Yield the results, for the guide, and the keys that apply."""
        verification = self.verification
        if verification is None:
            yield Paragraph("v verifies the criteria", "$accent")
            return
        for result in verification.results:
            yield from _describe(result)
        if any(result.suggestion is not None for result in verification.results):
            yield Paragraph("a adds a suggestion", "$accent")
        yield Paragraph("w ticks what passes", "$accent")

    def action_verify(self) -> None:
        """Evaluate the criteria, and show the results in the guide."""
        if (opened := self._host.opened) is not None:
            self._host.run_in_background(partial(self._show, opened), "ask")

    def action_tick(self) -> None:
        """Show which boxes would change, and change them if the user agrees."""
        if (opened := self._host.opened) is not None:
            self._host.run_in_background(partial(self._tick, opened), "ask")

    def action_suggest(self) -> None:
        """Choose one of the suggested expressions, and add it to its criterion."""
        if (opened := self._host.opened) is not None:
            self._host.run_in_background(partial(self._suggest, opened), "ask")

    async def _show(self, opened: OpenSpec) -> None:
        if await self._verify(opened) is not None:
            self._host.show_test()
            self._host.show_guide_panel()

    async def _verify(self, opened: OpenSpec) -> Verification | None:
        """Return the results for the document as it is now, and keep them."""
        from speclab.monitor.criteria import verify
        from speclab.workbench.lifecycle import get_spec_id

        document, now = opened.document, self._host.context.now()
        spec_id = get_spec_id(document, opened.path)
        verification = await self._host.context.ask(lambda reader: verify(document, reader, spec_id, now))
        if verification is not None:
            self._verified = document, verification
        return verification

    async def _tick(self, opened: OpenSpec) -> None:
        from speclab.monitor.criteria import find_criteria, update_ticks

        verification = await self._verify(opened)
        if verification is None or opened is not self._host.opened:
            return
        before = opened.document
        after = update_ticks(before, verification, tick=True, untick=True)
        pairs = zip(find_criteria(before), find_criteria(after), strict=True)
        lines = [f"[{'x' if new.ticked else ' '}] {new.text}" for old, new in pairs if old.ticked != new.ticked]
        if not lines:
            self._host.context.notify("No box has to change.", timeout=3)
            self._host.show_test()
            return
        question = PreviewDialog("criteria", "These boxes change:", lines, yes="change the spec")
        if await self._host.context.push_screen_wait(question) and opened.document is before:
            self._host.document.change("ticks of criteria", lambda _document: after)
            await self._show(opened)

    async def _suggest(self, opened: OpenSpec) -> None:
        from speclab.monitor.criteria import add_expression

        verification = await self._verify(opened)
        if verification is None:
            return
        before = opened.document
        offered = [(each.criterion, each.suggestion) for each in verification.results if each.suggestion is not None]
        if not offered:
            self._host.context.notify("There is no suggestion: write the criterion with a number.", timeout=5)
            return
        rows = [GridRow(str(at), (expression, one.text)) for at, (one, expression) in enumerate(offered)]
        chosen = await self._host.context.push_screen_wait(ChoiceDialog("add expression", rows))
        if chosen is not None and opened is self._host.opened and opened.document is before:
            criterion, expression = offered[int(chosen)]
            self._host.document.change(
                "expression of a criterion", lambda document: add_expression(document, criterion, expression)
            )
            await self._show(opened)


def _describe(result: CriterionResult) -> Iterator[Paragraph]:
    icon, colour = _ICONS[result.state.value]
    yield Paragraph(result.criterion.text, "", f"{icon.glyph} ", colour, hang=2)
    if result.detail:
        yield Paragraph(result.detail, "$muted", indent=2)
    if result.suggestion is not None:
        yield Paragraph(f"suggestion: {result.suggestion}", "$secondary", indent=2)
