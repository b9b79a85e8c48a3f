"""Keys, hashes and idempotency keys: equal for equal records, everywhere and always."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json, Record, encode_canonical
from speclab.sync.record_keys import Hasher, RecordKey, build_idempotency_key

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from(["b", "é", "\ud800"]), scalars)
records = st.dictionaries(st.sampled_from(["id", "region", "a", "b"]), values)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"id": "c_1"}, "c_1"),
        ({"id": 17}, "17"),
        ({"id": 1.5}, "1.5"),
        ({"id": 2**70}, str(2**70)),
        ({"id": 0}, "0"),
        ({"id": ""}, None),
        ({"id": None}, None),
        ({"id": True}, None),
        ({"id": ["c_1"]}, None),
        ({}, None),
    ],
)
def test_key_is_text_or_a_number(record: Record, key: str | None) -> None:
    assert RecordKey("id").extract(record) == key
    assert RecordKey("id").extract_all([record]) == [key]


def test_key_may_be_nested_and_have_several_parts() -> None:
    record: Record = {"meta": {"id": 7}, "region": "eu"}
    assert RecordKey("meta.id").extract_all([record]) == ["7"]
    assert RecordKey(("region", "meta.id")).extract_all([record]) == ['["eu",7]']
    assert RecordKey(("region", "meta.name")).extract_all([record]) == [None]


def test_parts_of_a_key_are_separated() -> None:
    key = RecordKey(("a", "b"))
    assert key.extract({"a": "x,y", "b": "z"}) != key.extract({"a": "x", "b": "y,z"})


@given(st.lists(records, max_size=4))
def test_batch_of_keys_equals_single_keys(several: list[Record]) -> None:
    for paths in ("id", "a.b", ("region", "id")):
        key = RecordKey(paths)
        alone = [key.extract(record) for record in several]
        assert all(one in (None, other) for one, other in zip(key.extract_all(several), alone, strict=True))
        assert [RecordKey(paths).extract_all([record]) for record in several] == [[one] for one in alone]


@pytest.mark.parametrize("path", ["id", "meta.id"])
@pytest.mark.parametrize(
    ("pages", "keys"),
    [
        ([[1, "1", 2, "a"], ["2", 3]], ["1", None, "2", "a", None, "3"]),
        ([["1", "b", 1], [2, "3"]], ["1", "b", None, None, "3"]),
        ([["a"], [1], ["1"]], ["a", "1", None]),
        ([[1], ["a"], ["1"], [2]], ["1", "a", None, "2"]),
        ([["1"], ["2"], [1.5], ["x"]], ["1", "2", None, "x"]),
        ([["1c9f-4", "-", 5]], ["1c9f-4", "-", "5"]),
        ([[1], [2.5], ["-3"]], ["1", "2.5", None]),
    ],
)
def test_text_and_number_that_look_alike_are_different_keys(
    path: str, pages: list[list[Json]], keys: list[str]
) -> None:
    key = RecordKey(path)
    records: list[list[Record]] = [[{"id": id_, "meta": {"id": id_}} for id_ in page] for page in pages]
    assert [found for page in records for found in key.extract_all(page)] == keys


@given(records)
def test_order_of_fields_does_not_change_the_hash(record: Record) -> None:
    backwards = dict(reversed(record.items()))
    assert Hasher("t").hash(record) == Hasher("t").hash(backwards)
    assert len(Hasher("t").hash(record)) == 16


@given(st.lists(records, max_size=4))
def test_batch_of_hashes_equals_single_hashes(several: list[Record]) -> None:
    hasher = Hasher("t")
    assert hasher.hash_all(several) == [hasher.hash(record) for record in several]


@given(values, values)
def test_different_values_are_encoded_differently(one: Json, other: Json) -> None:
    if encode_canonical(one) == encode_canonical(other):
        assert one == other


def test_same_record_at_another_target_has_another_hash() -> None:
    assert Hasher("http a").hash({"id": 1}) != Hasher("http b").hash({"id": 1})


def test_no_record_has_the_hash_of_a_deleted_one() -> None:
    assert Hasher("t").deleted not in Hasher("t").hash_all([{}, {"deleted": True}])


def test_idempotency_key_is_a_uuid_of_everything_that_identifies_a_write() -> None:
    hash_ = Hasher("t").hash({"id": 1})
    key = build_idempotency_key("crm", "t", "1", hash_)
    assert uuid.UUID(key).version == 5
    assert key == build_idempotency_key("crm", "t", "1", hash_)
    others = {
        build_idempotency_key("erp", "t", "1", hash_),
        build_idempotency_key("crm", "u", "1", hash_),
        build_idempotency_key("crm", "t", "2", hash_),
        build_idempotency_key("crm", "t", "1", Hasher("t").hash({"id": 2})),
    }
    assert len(others - {key}) == 4
