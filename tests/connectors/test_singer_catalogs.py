"""Catalogs of taps: the selected stream and its fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.conftest import read_all, read_to_failure
from tests.connectors.taps import Taps, numbers, settings, starts

from speclab.connectors.singer.reader import discover
from speclab.core.errors import SpecError
from speclab.core.json import Json
from speclab.spec.auth import NoAuth

pytestmark = pytest.mark.usefixtures("singer_files")


async def test_stream_is_selected_with_all_its_fields_and_no_other_stream(tap: Taps, witness: Path) -> None:
    await read_all(tap([], witness, replication={"method": "incremental", "key": "id"}))
    people, orders = starts(witness)[0]["catalog"]["streams"]
    selected = {tuple(one["breadcrumb"]): one["metadata"] for one in people["metadata"]}
    assert selected == {
        (): {
            "inclusion": "available",
            "selected": True,
            "replication-method": "INCREMENTAL",
            "replication-key": "id",
        },
        ("properties", "id"): {"inclusion": "automatic", "selected": True},
        ("properties", "name"): {"selected": True},
        ("properties", "born"): {"selected": True},
        ("properties", "odd"): {"inclusion": "unsupported", "selected": False},
    }
    assert people["schema"]["selected"] is True
    assert (people["replication_method"], people["replication_key"]) == ("INCREMENTAL", "id")
    assert orders["schema"]["selected"] is False
    assert orders["metadata"] == [{"breadcrumb": [], "metadata": {"selected": False}}]


async def test_older_tap_has_its_selection_in_the_schema(tap: Taps, witness: Path) -> None:
    old: Json = {"streams": [{"stream": "people", "schema": {"type": "object", "properties": {"id": {}}}}]}
    await read_all(tap([], witness, {"catalog": old}))
    (people,) = starts(witness)[0]["catalog"]["streams"]
    assert people["schema"] == {"type": "object", "properties": {"id": {"selected": True}}, "selected": True}


async def test_catalog_of_the_spec_keeps_its_selection_of_fields(tap: Taps, witness: Path, tmp_path: Path) -> None:
    field = {"breadcrumb": ["properties", "name"], "metadata": {"selected": False}}
    parents = {"stream": "orders", "schema": {}, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}
    people = {"tap_stream_id": "people", "schema": {"properties": {"name": {}}}, "metadata": [field]}
    own = {"streams": [people, parents]}
    (tmp_path / "catalog.json").write_text(json.dumps(own))
    await read_all(tap([], witness, {"discovering": [{"exit": 1}]}, catalog="catalog.json"))
    people, others = starts(witness)[0]["catalog"]["streams"]
    assert others == parents
    assert people["metadata"] == [field, {"breadcrumb": [], "metadata": {"selected": True}}]
    with pytest.raises(SpecError, match=r"nowhere\.json: No such file"):
        await read_all(tap([], catalog="nowhere.json"))


async def test_tap_without_discovery_is_read_without_a_catalog(tap: Taps, witness: Path) -> None:
    _, error = await read_to_failure(tap([], config={"discovering": [{"exit": 2}]}))
    assert "catalog: none" in error.hint
    await read_all(tap([], witness, {"discovering": [{"exit": 2}]}, catalog="none"))
    assert starts(witness)[0]["catalog"] is None


async def test_missing_stream_is_reported_with_the_available_ones(tap: Taps) -> None:
    _, error = await read_to_failure(tap([], stream="peopel"))
    assert str(error).endswith("has no stream 'peopel', but people, orders. Did you mean 'people'?")


async def test_stream_is_named_as_in_its_records_or_by_its_id(tap: Taps) -> None:
    """Database taps name a stream `db-people` in the catalog and `people` in its messages."""
    catalog: Json = {"streams": [{"tap_stream_id": "db-people", "stream": "people", "schema": {}}]}
    for name in ("db-people", "people"):
        pages = await read_all(tap([{"count": [1, 3]}], config={"catalog": catalog}, stream=name))
        assert numbers(pages) == [1, 2, 3]


async def test_tap_without_the_stream_has_not_been_read(tap: Taps) -> None:
    _, error = await read_to_failure(tap([{"count": [1, 3]}], stream="peple", catalog="none"))
    assert str(error) == "tap.py: peple: the tap does not know it; its records are of people"
    schema: Any = {"say": {"type": "SCHEMA", "stream": "peple", "schema": {}}}
    (page,) = await read_all(tap([schema, {"count": [1, 3]}], stream="peple", catalog="none"))
    assert page.complete  # the stream exists and is empty


async def test_fields_of_a_stream_come_from_the_catalog(tap: Taps) -> None:
    found = await discover("source", settings([]), NoAuth(), tap.references, tap.context, 500)
    assert found is not None
    assert [(str(field.path), field.declared, field.required) for field in found.fields] == [
        ("id", "integer", True),
        ("name", "string", False),
        ("born", "string (date)", False),
        ("odd", "string", False),
    ]
    assert await discover("source", settings([], catalog="none"), NoAuth(), tap.references, tap.context, 500) is None
