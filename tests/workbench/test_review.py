"""The review report: complete, self-contained, without scripts, and without secrets."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from speclab.cli.group import speclab
from speclab.core.json import Record
from speclab.spec.document import Document
from speclab.spec.guide import build_spec
from speclab.workbench.lifecycle import with_approval
from speclab.workbench.review import Review, build_review

DEMO = Path(__file__).parents[2] / "specs" / "crm-contacts-to-billing.md"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
ADA: Record = {
    "id": 7, "name": {"given": " Ada", "family": "Lovelace"}, "email": "Ada@Example.org ", "born": "10/12/1815",
    "state": 2, "turnover": "12.5", "tel": "+44 20 1", "address": {"city": "London", "country": "gb"}, "test": False,
}  # fmt: skip


class Page(HTMLParser):
    """Collects the tags, attributes and text of a page, and checks that its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag != "meta":  # the only tag without an end in the head
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def review(document: Document, *samples: Record) -> Review:
    return build_review(document, document.path or Path("spec.md"), samples, NOW)


def demo(*changes: tuple[str, str]) -> Document:
    text = DEMO.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Document.parse(text, DEMO)


def mapping_row(report: Review, target: str) -> list[str]:
    line = next(line for line in report.to_markdown().splitlines() if line.startswith(f"| `{target}` |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_report_has_every_part_that_the_owners_sign() -> None:
    page = Page(review(demo(), ADA).to_html())
    for part in (
        "Acme CRM, API v3", "PUT /customers/{external_id}", "Every 15 minutes", "billing names the rejected field",
        "give_up_after: 24h", "CRM API v3 is supported until 2028", "☐ Finance has verified ten customers",
        "Owner of the target system", "not approved yet", "Open problems", "Of 1 sample record: 1 mapped",
    ):  # fmt: skip
        assert part in page.text
    assert {"ul", "table", "pre", "h2", "h3"} <= set(page.tags)


def test_the_mapping_shows_a_sample_before_and_after_each_row() -> None:
    report = review(demo(), {"id": 1}, ADA)
    assert mapping_row(report, "full_name")[-2:] == ['`" Ada", "Lovelace"`', '`"Ada Lovelace"`']
    assert mapping_row(report, "revenue_cents")[-2:] == ['`"12.5"`', "`1250`"]
    assert mapping_row(report, "origin")[-2:] == ["", '`"crm"`']
    assert "Of 2 sample records: 1 mapped, 0 left out by the filter, 1 failed, at " in report.to_markdown()
    assert len(mapping_row(review(demo()), "origin")) == 4


def test_private_fields_are_masked_before_and_after() -> None:
    changes = ("| source.tel | target.phone |", "| source.tel | target.card_number |")
    report = review(demo(changes, ("source.email |", "source.token |")), {**ADA, "token": "ada@example.org"})
    text = report.to_markdown()
    assert mapping_row(report, "card_number")[-2:] == ['`"***masked***"`'] * 2
    assert mapping_row(report, "email")[-2:] == ['`"***masked***"`'] * 2
    assert "+44" not in text
    assert "ada@example.org" not in text


def test_the_logging_section_says_which_sample_fields_are_private() -> None:
    report = review(demo(("retention: 30d", "retention: 30d\nfields: {born: hash, tel: mask}")), ADA)
    assert "1815" not in report.to_html()
    assert mapping_row(report, "phone")[-1] == '`"***masked***"`'


@pytest.mark.parametrize(
    "secret", ["token: s3cr3t-0123456789", "token: |\n  s3cr3t-first-line\n  s3cr3t-second-line"], ids=["line", "block"]
)
def test_a_settings_block_with_a_secret_is_left_out(secret: str) -> None:
    report = review(demo(("token: ${env:CRM_TOKEN}", secret)), ADA)
    for text in (report.to_markdown(), report.to_html()):
        assert "s3cr3t" not in text
        assert "(left out: it contains a secret on line" in text


def test_nothing_in_a_spec_can_run_or_load_anything() -> None:
    attack = "<script>alert(1)</script> <img src=x onerror=alert(2)> ![i](https://a.example/p.png) [l](javascript:a(3))"
    document = demo(
        ("Companies, orders,", f"{attack} Companies, orders,"),
        ("| invoices go here |", f"| {attack} |"),
        ("# Spec: CRM Contacts to Billing", "# <script>alert(4)</script>"),
        ("Finance has verified", f"{attack} Finance has verified"),
    )
    html = review(document, {**ADA, "email": "<b onclick=alert(5)>@example.org"}).to_html()
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "b"} & set(page.tags)
    assert not {"src", "onerror", "onclick"} & page.attributes.keys()
    assert all(not target.startswith("javascript:") for target in page.attributes.get("href", []))
    assert "default-src 'none'" in html
    assert "@media print" in html


def test_a_new_spec_has_a_report_too() -> None:
    document = Document.parse(build_spec("crm", date(2026, 1, 2)))
    text = review(document, ADA).to_markdown()
    assert text.startswith("# Review: Crm\n")
    assert text.count("Not described yet.") > 10
    assert "run needs" in text.partition("## Open problems")[2]
    assert "cannot be mapped" in text or "Field mapping\n\nNot described yet." in text
    Page(review(document).to_html())


def test_odd_characters_and_cells_survive() -> None:
    document = demo(("invoices go here", "a \\| b `c` \x1b[31m"), ("Orders.", "Orders \udcff \x00."))
    report = review(document, {**ADA, "name": {"given": "a|b", "family": "`c`"}})
    assert len(mapping_row(report, "email")) == len(mapping_row(report, "full_name")) == 6
    for text in (report.to_markdown(), report.to_html()):
        text.encode("utf-8")
        assert "\x1b" not in text
        assert "\x00" not in text


def test_the_approval_and_a_later_change_are_shown() -> None:
    approved = with_approval(demo(), "Ann", NOW)
    assert "approved by Ann on 2026-11-25" in review(approved).to_markdown()
    changed = Document.parse(approved.text.replace("Every 15 minutes", "Hourly"), DEMO)
    assert "approved by Ann on 2026-11-25; the spec changed since" in review(changed).to_markdown()


def test_show_prints_the_report_with_the_sample_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crm.md").write_bytes(DEMO.read_bytes())
    (tmp_path / "in.jsonl").write_text('{"id": 3}\n')
    found = CliRunner().invoke(speclab, ["show", "crm.md", "--format", "html", "--sample", "in.jsonl"])
    assert found.exit_code == 0
    Page(found.stdout)
    assert "Of 1 sample record: 0 mapped" in found.stdout
    assert CliRunner().invoke(speclab, ["show", "crm.md", "--format", "md"]).stdout.startswith("# Review: CRM")
    refused = CliRunner().invoke(speclab, ["show", "crm.md", "status", "--format", "md"])
    assert "without ADDRESS" in str(refused.exception)
