from __future__ import annotations

import pytest

from speclab.connectors.http.answers import Blame, message_in
from speclab.jsonvalue import Json


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "about:blank", "title": "Not valid", "detail": "email is taken"}, "email is taken"),
        ({"error": {"code": 7, "message": "email is taken"}}, "email is taken"),
        ({"error": "invalid_grant", "error_description": "email is taken"}, "email is taken"),
        ({"errors": [{"detail": "email is taken"}]}, "email is taken"),
        ({"detail": [{"loc": ["body", "email"], "msg": "email is taken"}]}, "email is taken"),
        ("email\n is  taken", "email is taken"),
        ({"message": ""}, None),
        ({"code": 7}, None),
        (None, None),
        ([], None),
    ],
)
def test_what_an_error_says_is_found_in_the_usual_places(body: Json, message: str | None) -> None:
    assert message_in(body) == message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"errors": [{"field": "email", "detail": "taken"}]}, "email"),
        ({"errors": [{"pointer": "#/address/lines/0", "detail": "empty"}]}, "address.lines[0]"),
        ({"errors": [{"pointer": "/odd~1key", "detail": "empty"}]}, "odd/key"),
        ({"errors": [{"pointer": "/lines/\u00b2", "detail": "empty"}]}, "lines.\u00b2"),
        ({"errors": [{"source": {"pointer": "/data/email"}, "detail": "taken"}]}, "email"),
        ({"errors": {"email": ["is taken"]}}, "email"),
        ({"detail": [{"loc": ["body", "address", "zip"], "msg": "too long"}]}, "address.zip"),
        ({"error": {"param": "email", "message": "taken"}}, "email"),
        ({"violations": [{"property": "data.email", "message": "taken"}]}, "email"),
        ({"error": "Not Found", "path": "/customers/7", "status": 404}, None),
        ({"errors": ["email is taken"]}, None),
        ({"errors": [{"field": "", "detail": "?"}, {"field": "email"}]}, "email"),
        ("no", None),
    ],
)
def test_a_blamed_field_is_found_in_the_usual_places(body: Json, field: str | None) -> None:
    assert Blame(None, ("data",)).find(body)[0] == field
