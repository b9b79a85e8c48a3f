from __future__ import annotations

import pytest

from speclab.connectors.http.response import find_message
from speclab.core.json import Json


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
def test_error_message_is_found_under_common_names(body: Json, message: str | None) -> None:
    assert find_message(body) == message
