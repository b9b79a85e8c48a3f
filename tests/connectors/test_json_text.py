from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json, decode, encode, encode_canonical

values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_written_records_are_read_back(value: Json) -> None:
    assert decode(encode(value)) == value
    assert decode(encode_canonical(value)) == value


@given(st.dictionaries(st.text(), st.integers()))
def test_equal_objects_are_sorted_to_equal_bytes(value: dict[str, int]) -> None:
    backwards: Json = dict(reversed(value.items()))
    assert encode_canonical(backwards) == encode_canonical({**value})


def test_long_integers_keep_every_digit_also_in_a_large_body() -> None:
    assert decode(b'[18446744073709551616, "12345678901234567890"]') == [2**64, "12345678901234567890"]


def test_byte_order_mark_is_skipped() -> None:
    assert decode(b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize("text", [b"", b"{", b"[NaN]", b"\xff", b"[1,]"])
def test_invalid_json_is_rejected(text: bytes) -> None:
    with pytest.raises(ValueError, match="line 1 column"):
        decode(text)
