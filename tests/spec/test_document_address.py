"""Addresses of keys, sections and cells for `show` and `set`."""

from __future__ import annotations

from datetime import date

import pytest

from speclab.core.errors import EditRejected, UsageError
from speclab.spec.address import read, write
from speclab.spec.document import Document
from speclab.spec.guide import TEMPLATE

SPEC = (
    "---\nspec_id: x\nstatus: 'draft'\ncreated: 2026-11-24\nrate: 1.10\nVolume: of the key\n---\n\n"
    "## Data Flow\n\n### Volume\n\n500\n\n### Frequency\n\nHourly\n\n"
    "## Field Mapping\n\n| Source | Target | Transformation |\n|---|---|---|\n"
    '| a | target.email | Trim |\n| b | target.tags[0] | |\n| c | target["odd key"] | Direct |\n\n'
    "## Alerts\n\n| Alert | When |\n|---|---|\n| Too slow | x |\n\n## Alerts\n\ntext\n"
)


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("status", "draft"),
        ("created", "2026-11-24"),
        ("rate", "1.10"),
        ("Data Flow > Volume", "500"),
        ("data flow>VOLUME", "500"),
        ("Volume", "of the key"),
        ("Frequency", "Hourly"),
        ("Data Flow", ""),
        ("Alerts[1]", "text"),
        ("Field Mapping[target.email].Transformation", "Trim"),
        ("Field Mapping[email].transformation", "Trim"),
        ("field mapping [ target.email ] . Transform", "Trim"),
        ("Field Mapping[target.tags[0]].Source Field", "b"),
        ('Field Mapping[target["odd key"]].Transformation', "Direct"),
        ("Alerts[Too slow].When", "x"),
    ],
)
def test_content_at_an_address_is_read(address: str, value: str) -> None:
    assert read(Document.parse(SPEC), address) == value


@pytest.mark.parametrize(
    ("address", "value", "old", "new"),
    [
        ("status", "approved", "'draft'", "'approved'"),
        ("created", "2026-11-25", "2026-11-24", "2026-11-25"),
        ("created", "2026-13-45", "2026-11-24", "2026-13-45"),
        ("updated", "2026-11-25", "of the key\n", "of the key\nupdated: 2026-11-25\n"),
        ("ctm_task", "null", "of the key\n", "of the key\nctm_task: 'null'\n"),
        ("Data Flow > Volume", "many\n", "500", "many"),
        ("Alerts[1]", "other", "\ntext", "\nother"),
        ("Field Mapping[target.email].Transformation", "Trim, Lowercase", "| Trim |", "| Trim, Lowercase |"),
        ('Field Mapping[target["odd key"]].Source', "d", "| c |", "| d |"),
        ("Alerts[Too slow].When", "a | b", "| x |", "| a \\| b |"),
    ],
)
def test_write_at_an_address_changes_only_that_part(address: str, value: str, old: str, new: str) -> None:
    document = Document.parse(SPEC)
    after = write(document, address, value)
    assert after.text == SPEC.replace(old, new, 1)
    assert read(after, address) == value.rstrip("\n")


def test_date_is_written_as_a_date() -> None:
    after = write(Document.parse(TEMPLATE), "created", "2026-11-24")
    assert after.front_matter.get("created") == date(2026, 11, 24)
    assert after.text == TEMPLATE.replace("created: {date}", "created: 2026-11-24")


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("stauts", "no key or section 'stauts'", "did you mean 'status'?"),
        ("owner", "no section 'owner'", "its sections are 'Data Flow'"),
        ("Data Flow > Volum", "no section 'Data Flow > Volum'", "did you mean 'Data Flow > Volume'"),
        ("Field Maping[email].Source", "no section 'Field Maping'", "did you mean 'Field Mapping'?"),
        ("Field Mapping[emial].Source", "no row 'emial'", "did you mean 'email'?"),
        ("Field Mapping[email].Sauces", "no column 'Sauces'", "its columns are 'Source Field',"),
        ("Data Flow[email].Source", "the section 'Data Flow' has no table", ""),
    ],
)
def test_unknown_address_is_reported_with_similar_names(address: str, message: str, hint: str) -> None:
    document = Document.parse(SPEC)
    for use in (lambda: read(document, address), lambda: write(document, address, "x")):
        with pytest.raises(UsageError) as error:
            use()
        assert error.value.message == message
        assert error.value.hint.startswith(hint)


def test_missing_key_of_the_template_can_be_written_but_not_read() -> None:
    with pytest.raises(UsageError, match="the front matter has no key 'ctm_task'"):
        read(Document.parse(SPEC), "ctm_task")


def test_value_that_cannot_be_written_is_rejected() -> None:
    document = Document.parse(SPEC)
    with pytest.raises(EditRejected, match="swallow the section 'Frequency'"):
        write(document, "Data Flow > Volume", "```")
    with pytest.raises(EditRejected, match="one line of text"):
        write(document, "Alerts[Too slow].When", "a\nb")


@pytest.mark.parametrize(
    ("address", "value", "message"),
    [
        ("status", "bogus", "status: unknown status 'bogus'; expected one of"),
        ("status", "in-progres", "status: unknown status 'in-progres'; did you mean 'in-progress'"),
        ("spec_id", "crm to billing", "spec_id: 'crm to billing' is not a valid spec_id"),
        ("type", "integraton", "type: unknown type 'integraton'"),
        ("Data Flow > Frequency", "Sometimes", "Data Flow > Frequency: 'Sometimes' is not one of the choices: Hourly"),
        ("Data Flow > Frequency", "Daily at 25:00", "Data Flow > Frequency: expected a time of day such as 02:00"),
        ("Data Flow > Frequency", "Daily at 02:00 Mars/Base", "Data Flow > Frequency: unknown time zone 'Mars/Base'"),
        ("Data Flow > Frequency", "`61 * * * *`", "Data Flow > Frequency: '61 * * * *' is not a cron expression"),
        ("Data Flow > Direction", "Sideways", "Data Flow > Direction: 'Sideways' is not one of the choices: One-way"),
    ],
)
def test_write_refuses_a_value_that_is_not_one_of_the_choices(address: str, value: str, message: str) -> None:
    document = Document.parse(TEMPLATE)
    with pytest.raises(UsageError) as error:
        write(document, address, value)
    assert error.value.message.casefold().startswith(message.casefold())


def test_write_accepts_any_choice_beside_one_that_was_wrong_before() -> None:
    document = Document.parse(TEMPLATE.replace("status: draft", "status: bogus"))
    assert read(write(document, "Data Flow > Frequency", "Hourly"), "Data Flow > Frequency").strip() == "Hourly"
    assert read(write(document, "status", "approved"), "status") == "approved"
    assert read(write(Document.parse(TEMPLATE), "type", "hubspot"), "type") == "hubspot"
