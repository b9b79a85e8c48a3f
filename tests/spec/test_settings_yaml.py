"""YAML of settings blocks: values, and problems of invalid or ambiguous YAML with their locations."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.spec.test_settings_models import problems_of

from speclab.core.json import Json
from speclab.spec.document import Document
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.settings import RetrySettings
from speclab.spec.settings_block import parse_settings, read_block


def read(yaml: str) -> tuple[dict[str, Json] | None, list[Problem]]:
    """Return the values of a block and its problems; line 1 is the first line of the block."""
    document = Document.parse(yaml)
    findings = ProblemCollector("spec.md", yaml, document.position)
    tree = parse_settings(yaml, 0, findings)
    return None if tree is None else tree.value, findings.in_order()


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


def test_plain_values_follow_yaml_1_2() -> None:
    values, problems = read(
        dedent("""\
        whole: 200
        hex: 0x1F
        fraction: 1.50
        large: 1e3
        truth: true
        nothing: ~
        empty:
        text: PUT /a/{id}
        date: 2024-01-01
        moment: 2024-01-01T10:00:00Z
        infinite: .inf
        reference: ${env:CRM_URL}/v3
        quoted: "200"
        list: [a, 1, null]
        """)
    )
    assert values == {
        "whole": 200,
        "hex": 31,
        "fraction": 1.5,
        "large": 1000.0,
        "truth": True,
        "nothing": None,
        "empty": None,
        "text": "PUT /a/{id}",
        "date": "2024-01-01",
        "moment": "2024-01-01T10:00:00Z",
        "infinite": ".inf",
        "reference": "${env:CRM_URL}/v3",
        "quoted": "200",
        "list": ["a", 1, None],
    }
    assert problems == []


def test_keys_are_text_as_written() -> None:
    assert read("1: a\ntrue: b\n2024-01-01: c\n")[0] == {"1": "a", "true": "b", "2024-01-01": "c"}


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        ("yes", "'yes' is text here, but true in YAML 1.1; write true, or quote it"),
        ("Off", "'Off' is text here, but false in YAML 1.1; write false, or quote it"),
        ("017", "'017' is 17 here, but 15 in YAML 1.1; quote it"),
        ("12:30", "'12:30' is text here, but a base-60 number in YAML 1.1; quote it"),
    ],
)
def test_ambiguous_value_is_reported_with_its_quoted_form(value: str, reading: str) -> None:
    _, problems = read(f"params:\n  active: {value}\n")
    assert render(problems) == [f"2:11 S105 {reading}"]
    assert problems[0].fix == f'"{value}"'
    assert problems[0].length == len(value)


def test_ambiguous_keys_are_reported_unless_quoted() -> None:
    _, problems = read('country: {NO: Norway, "ON": Ontario, SE: Sweden}\n')
    assert render(problems) == ["1:11 S105 'NO' is text here, but false in YAML 1.1; write false, or quote it"]


def test_unquoted_brace_in_a_flow_mapping_is_reported() -> None:
    _, problems = read("write: {upsert: PUT /customers/{external_id}}\n")
    assert render(problems) == [
        '1:17 S102 quote this value: "PUT /customers/{external_id}"; without quotes, the `{` in it starts a mapping'
    ]
    assert problems[0].fix == '"PUT /customers/{external_id}"'
    assert problems[0].length == len("PUT /customers/{external_id}")


@pytest.mark.parametrize(
    ("yaml", "column", "fix"),
    [
        ("auth: {type: bearer, token: ${env:T}}", 29, '"${env:T}"'),
        ("base_url: {host}/v3  # the host", 11, '"{host}/v3"'),
        ("errors: {at: errors[*], field: name}", 14, '"errors[*]"'),
        ("errors: {at: [*]}", 15, '"*"'),
        ("title: CRM: the new one", 8, '"CRM: the new one"'),
        ("{a: b: c, d: e}", 5, '"b: c"'),
        ("handle: @crm", 9, '"@crm"'),
        ("name: {a: it's {x}, b: 1}", 11, '"it\'s {x}"'),
        ("paths: [/a/{id}/b, /c]", 9, '"/a/{id}/b"'),
        ("token_url: ${env:URL}/tokenclient_id: ${env:ID}", 12, '"${env:URL}/tokenclient_id: ${env:ID}"'),
        ("query: SELECT a, b FROM c: d", 8, '"SELECT a, b FROM c: d"'),
    ],
)
def test_unquoted_values_are_found_completely(yaml: str, column: int, fix: str) -> None:
    _, problems = read(yaml)
    assert [(problem.code, problem.column, problem.fix) for problem in problems] == [("S102", column, fix)]
    mended = yaml[: column - 1] + fix + yaml[column - 1 + problems[0].length :]
    assert read(mended)[1] == []


def test_long_unquoted_line_is_reported_in_linear_time() -> None:
    _, problems = read(f"query: SELECT {'a, b ' * 20_000}: c\n")
    assert [(problem.code, problem.column) for problem in problems] == [("S102", 8)]


def test_number_of_reported_unquoted_values_is_bounded() -> None:
    values, problems = read("a: @b\n" * 5_000)
    assert values is None
    assert [problem.line for problem in problems] == list(range(1, 51))


def test_parsing_continues_after_an_unquoted_value() -> None:
    values, problems = read(
        dedent("""\
        write: {upsert: PUT /a/{id}, lookup: GET /a?x={x}}
        size: 1
        size: 2
        """)
    )
    assert [(problem.line, problem.column, problem.code) for problem in problems] == [
        (1, 17, "S102"),
        (1, 38, "S102"),
        (3, 1, "S103"),
    ]
    assert values is not None
    assert values["write"] == {"upsert": "PUT /a/{id}", "lookup": "GET /a?x={x}"}


def test_repeated_key_is_reported_at_the_second_and_in_every_mapping() -> None:
    _, problems = read("key: a\nread: {path: /a, path: /b}\nkey: b\n")
    assert render(problems) == [
        "2:18 S103 'path' appears twice; remove one of the two",
        "3:1 S103 'key' appears twice; remove one of the two",
    ]


def test_first_value_of_a_repeated_key_is_used_and_checked() -> None:
    problems = problems_of(RetrySettings, "attempts: 3\nbackoff: exponential\nbackoff: linear\nattempts: x\n")
    assert [problem.code for problem in problems] == ["S103", "S103"]


@pytest.mark.parametrize(
    ("yaml", "location", "message"),
    [
        ("read:\n\tpath: /a\n", "2:1", "tabs cannot be used for indentation; use spaces"),
        ("read: {path: /a\nkey: id\n", "1:7", "the { here is not closed"),
        ("key: [a, b\nread: 1\n", "1:6", "the [ here is not closed"),
        ('path: "/a\nkey: id\n', "1:7", 'the " here is not closed'),
        ("path: 'it's here'\n", "1:10", "the quoted value ends here; inside it, write a ' as ''"),
        ("key: id\nbase_url\nsize: 2\n", "2:1", "expected `key: value` on this line"),
        (
            "key: id\n  path: /a\n",
            "2:3",
            "unexpected key: the line above is already a value; check the indentation",
        ),
        (
            "a:\n  b: 1\n c: 2\n",
            "3:2",
            "indentation does not match any line above; indent all keys of a mapping equally",
        ),
        ("a: 1\x07\n", "1:5", "the character U+0007 is not allowed here"),
        ("a: \udc80\n", "1:4", "a byte that is not UTF-8 is not allowed here"),
        ("\ufeffa: 1\n", "1:1", "the character U+FEFF is not allowed here"),
    ],
)
def test_invalid_yaml_is_reported_at_its_exact_place(yaml: str, location: str, message: str) -> None:
    values, problems = read(yaml)
    assert values is None
    assert render(problems) == [f"{location} S101 invalid YAML: {message}"]


def test_columns_count_characters_for_all_line_ends_and_scripts() -> None:
    values, problems = read('title: Ünïcödé 😀\r\nnote: a\u2028b\rodd: "a\x85b"\nbad: {x: /😀/{id}}\r\n')
    assert values == {"title": "Ünïcödé 😀", "note": "a\u2028b", "odd": "a\x85b", "bad": {"x": "/😀/{id}"}}
    assert render(problems) == [
        '4:10 S102 quote this value: "/😀/{id}"; without quotes, the `{` in it starts a mapping'
    ]


@pytest.mark.parametrize("yaml", ["- a\n- b\n", "just text\n", "[a, b]\n"])
def test_block_that_is_not_a_mapping_is_reported(yaml: str) -> None:
    values, problems = read(yaml)
    assert values is None
    assert render(problems) == ["1:1 S104 expected lines of `key: value`"]


def test_block_is_one_document_with_text_keys() -> None:
    assert render(read("a: 1\n---\nb: 2\n")[1]) == ["2:1 S104 a settings block is one YAML document; remove this `---`"]
    assert render(read("? [a, b]\n: c\n")[1]) == ["1:3 S104 a key must be text"]


def test_anchors_aliases_tags_and_merge_keys_are_rejected_and_nothing_is_evaluated() -> None:
    _, problems = read(
        dedent("""\
        a: &base 1
        b: *base
        c: !!python/object/apply:os.system ["true"]
        <<: {d: 1}
        """)
    )
    assert render(problems) == [
        "1:4 S106 `&base` is a YAML anchor; write the value out, or quote it",
        "2:4 S106 `*base` is a YAML alias; write the value out, or quote it",
        "3:4 S106 remove this YAML tag; every setting has a fixed type",
        "4:1 S106 `<<` merges mappings in YAML 1.1 only; write the settings out",
    ]


@pytest.mark.parametrize("yaml", ["a: " + "[" * 50_000, "- " * 50_000, "a: " + "{b: " * 50_000])
def test_deep_nesting_is_reported_and_not_followed(yaml: str) -> None:
    values, problems = read(yaml)
    assert values is None
    assert [problem.code for problem in problems] == ["S108"]


def test_unclosed_block_is_reported_at_its_fence() -> None:
    document = Document.parse("## Retry Logic\n\nFive tries.\n\n```yaml\nattempts: 5\n")
    findings = ProblemCollector("spec.md", document.text, document.position)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    assert tree.value == {"attempts": 5}
    assert render(findings.in_order()) == ["5:1 S107 this settings block is not closed; close it with the same fence"]


def test_first_yaml_block_of_a_section_holds_its_settings() -> None:
    document = Document.parse(
        "## Retry Logic\n\n````markdown\n```yaml\nattempts: 1\n```\n````\n\n"
        "~~~YAML\nattempts: 2\n~~~\n\n```json\n{}\n```\n\n```yml\nattempts: 3\n```\n"
    )
    findings = ProblemCollector("spec.md", document.text, document.position)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    assert tree.value == {"attempts": 2}
    assert render(findings.in_order()) == [
        "17:1 S109 a second settings block is ignored; only the first of a section is read"
    ]


@given(st.text(alphabet="ab:{}[]-\"'\\,#&*!|>%@`?~ \t\n\r0.\x00é\udc80", max_size=60))
def test_any_text_is_parsed_or_reported_within_the_text(yaml: str) -> None:
    values, problems = read(yaml)
    lines = Document.parse(yaml).lines
    assert values is not None or problems
    for problem in problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines.content(problem.line - 1)) + 1
