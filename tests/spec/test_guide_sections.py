"""The guide: the purpose of each section, its settings and choices, and valid examples."""

from __future__ import annotations

import pytest

from speclab.spec.document import Document
from speclab.spec.guide import OUTLINE, TEMPLATE, Guide, SectionForm, SettingHelp, guide
from speclab.spec.parser import lint

GUIDES = [guide(address) for address in OUTLINE]
EXAMPLES = [
    pytest.param(one.address, example, id=f"{one.address} {name}")
    for one in GUIDES
    for name, example in [("", one.example), *((variant.name, variant.example) for variant in one.variants)]
    if example
]


def settings(address: str, variant: str) -> dict[str, SettingHelp]:
    found = next(one for one in guide(address).variants if one.name == variant)
    return {setting.name: setting for setting in found.settings}


def test_every_section_of_the_template_has_a_guide() -> None:
    assert [one.address for one in GUIDES] == list(OUTLINE)
    for one in GUIDES:
        assert one.summary.endswith(".")
        assert "It is kept as it is" not in one.summary


def test_guide_is_found_in_any_case_and_spacing() -> None:
    assert guide("data flow >  FREQUENCY") == guide("Data Flow > Frequency")


def test_custom_section_is_free_text() -> None:
    assert guide("Glossary") == Guide("Glossary", "Free text. It is kept unchanged.", SectionForm.PROSE)


def test_guide_has_the_form_of_each_section() -> None:
    forms = {one.address.rpartition(" > ")[2]: one.form for one in GUIDES}
    assert {title for title, form in forms.items() if form is SectionForm.CHOICE} == {
        "Integration Type",
        "Direction",
        "Frequency",
    }
    assert {title for title, form in forms.items() if form is SectionForm.TABLE} == {
        "Field Mapping",
        "Error Types",
        "Alerts",
    }
    assert {title for title, form in forms.items() if form is SectionForm.CHECK_LIST} == {"Acceptance Criteria"}
    assert {title for title, form in forms.items() if form is SectionForm.SETTINGS} == {
        "Source System",
        "Target System",
        "Volume",
        "Source System Auth",
        "Target System Auth",
        "Retry Logic",
        "Error Notifications",
        "Logging",
    }


def test_choices_of_a_choice_section_are_listed() -> None:
    frequency = guide("Data Flow > Frequency")
    assert [choice.text for choice in frequency.choices][:3] == [
        "Hourly",
        "Daily at 02:00 Europe/Berlin",
        "Every 15 minutes",
    ]
    assert [choice.text for choice in guide("Data Flow > Direction").choices if choice.runs] == [
        "One-way (Source → Target)"
    ]


def test_settings_have_type_requirement_default_and_description_of_the_models() -> None:
    http = settings("Integration Overview > Source System", "http")
    assert http["base_url"] == SettingHelp("base_url", "URL", True, "", "URL that every path is appended to.")
    assert http["limits.timeout"] == SettingHelp("limits.timeout", "duration", False, "30s", "Timeout of one request.")
    assert http["limits.response"].default == "50MB"
    assert http["read.pagination.by"].type == "auto | cursor | page | offset | next_url | link | none"
    assert http["read.since.sorted"].default == "false"
    assert http["read.for_each.as"].required
    assert http["key"].type == "path, or list of paths"
    assert settings("Authentication > Source System Auth", "bearer")["token"].type == "secret, as a ${...} reference"
    assert settings("Error Handling & Retry Strategy > Retry Logic", "")["cap"].default == "5m"
    assert settings("Field Mapping", "")["lookups"].type == "mapping of mapping of any value"
    for one in GUIDES:
        for variant in one.variants:
            assert all(setting.description and setting.type for setting in variant.settings)


def test_each_endpoint_section_shows_its_settings_and_which_are_required() -> None:
    source = settings("Integration Overview > Source System", "sql")
    target = settings("Integration Overview > Target System", "sql")
    assert source["read"].required
    assert not [name for name in source if name.startswith("write")]
    assert target["write"].required
    assert not [name for name in target if name.startswith("read")]


@pytest.mark.parametrize(("address", "example"), EXAMPLES)
def test_example_of_a_section_is_valid(address: str, example: str) -> None:
    document = Document.parse(TEMPLATE)
    section = document.section(address)
    filled = document.with_body(section, f"{document.body(section)}\n\n{example}")
    first = filled.section(address)
    reported = [
        problem for problem in lint(filled) if first.line <= problem.line < first.line + example.count("\n") + 5
    ]
    assert [problem for problem in reported if problem.code not in {"D102", "D201"}] == []
    if first.blocks and "```" in example:
        assert [problem for problem in reported if problem.code == "D102" and problem.line == first.line] == []
