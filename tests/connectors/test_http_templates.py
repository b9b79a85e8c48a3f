from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from speclab.connectors.http.request_builder import EndpointTemplate, MissingValue, Template
from speclab.core.errors import SpecError

NAMES = frozenset({"source", "found"})


def render(text: str, record: dict[str, object], **scope: object) -> str:
    template = Template.parse(text, where="write.upsert", names=NAMES)
    return template.render(record, {"source": {}, "found": None, **scope})  # type: ignore[arg-type,dict-item]


def test_placeholders_are_paths_in_record_source_or_found_record() -> None:
    record = {"id": 7, "address": {"zip": "1/2"}, "tags": ["a b"], "odd key": True, "source": "of the record"}
    text = '/c/{id}/{address.zip}/{ tags[0] }/{["odd key"]}/{source.id}?of={source}&n={found.n}'
    found = render(text, record, source={"id": "s"}, found={"n": 1.5})
    assert found == "/c/7/1%2F2/a%20b/true/s?of=of%20the%20record&n=1.5"


@given(st.text(min_size=1))
def test_any_text_is_encoded_within_its_segment(value: str) -> None:
    assume(value not in (".", ".."))
    if any("\ud800" <= character <= "\udfff" for character in value):
        with pytest.raises(MissingValue, match="half a surrogate pair"):
            render("/customers/{id}", {"id": value})
        return
    found = render("/customers/{id}/orders?q={id}", {"id": value})
    path, _, query = found.partition("?q=")
    assert path.count("/") == 3
    assert unquote(path.split("/")[2]) == unquote(query) == value


@pytest.mark.parametrize("text", ["/a/{id}", "/a/{id}/b", "/a/{id}?x=1"])
@pytest.mark.parametrize("value", [".", ".."])
def test_dot_segment_is_rejected(text: str, value: str) -> None:
    with pytest.raises(MissingValue, match="which would change the path"):
        render(text, {"id": value})


def test_dot_segment_made_of_several_values_is_rejected() -> None:
    for template in ("/a/{id}{id}", "/a/.{id}/b"):
        with pytest.raises(MissingValue, match=r"\{id\} is '\.', which would change the path"):
            render(template, {"id": "."})


def test_dots_beside_other_text_are_text() -> None:
    assert render("/a/{id}.json?x={id}", {"id": ".."}) == "/a/...json?x=.."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/c/{id", "unmatched '{'"),
        ("/c/id}", "unmatched '}'"),
        ("/c/{}", "{} is not a valid path: a path is empty"),
        ("/c/{a b}", "{a b} is not a valid path: unexpected ' '"),
    ],
)
def test_invalid_template_is_an_error_of_the_spec(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Template.parse(text, where="write.upsert")
    assert caught.value.message.startswith(f"write.upsert: {message}")


def test_endpoint_is_a_method_and_a_path_below_the_base_url() -> None:
    for text in ("PUT /c/{id}", "PUT   c/{id}"):
        endpoint = EndpointTemplate.parse(text, where="write.upsert")
        assert (endpoint.method, endpoint.target.render({"id": 1}, {})) == ("PUT", "/c/1")


def test_request_without_a_record_has_no_placeholders() -> None:
    assert EndpointTemplate.parse_fixed("GET /c?x=1", where="read") == ("GET", "/c?x=1")
    with pytest.raises(SpecError, match=r"read: \{id\}: this request has no record to take a value from"):
        EndpointTemplate.parse_fixed("GET /c/{id}", where="read")
