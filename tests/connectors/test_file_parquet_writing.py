"""Parquet as a target: columns keep their types, other rows stay unchanged, and values that do not fit are rejected."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.connectors.conftest import item, records_of
from tests.connectors.files import Files, file_system

from speclab.connectors.api import MappedRecord, RuntimeContext
from speclab.connectors.file.arrow import ParquetOutput
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import BadResponse, SpecError
from speclab.core.json import Json, Record, encode
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth


@pytest.fixture
def files(references: References, context: RuntimeContext) -> Files:
    return Files(references, context)


def save(path: Path, columns: dict[str, Any], **more: Any) -> pa.Table:
    table = pa.table(columns)
    pq.write_table(table, path, **more)
    return table


@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_columns_have_the_types_of_the_first_values(mode: str, tmp_path: Path, files: Files) -> None:
    items = [
        item("1", n=None, price=1, ok=True, tags=["x"], home={"city": "Rome"}),
        item("2", n=7, price=1.5, more="late"),
    ]
    await files.write("a.parquet", *items, mode=mode)
    table = pq.read_table(tmp_path / "a.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "n": "int64",
        "price": "double",
        "ok": "bool",
        "tags": "string",
        "home": "string",
        "more": "string",
    }
    assert table.to_pylist() == [
        {"id": "1", "n": None, "price": 1.0, "ok": True, "tags": '["x"]', "home": '{"city":"Rome"}', "more": None},
        {"id": "2", "n": 7, "price": 1.5, "ok": None, "tags": None, "home": None, "more": "late"},
    ]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1, "x", 'a whole number; found "x"'),
        ("x", 1, "text; found 1"),
        (True, 1, "true or false; found 1"),
        (1, True, "a whole number; found true"),
        (2**53 + 1, 0.5, "a whole number; found 0.5"),
        (0.5, 2**53 + 1, "a number; found 9007199254740993"),
        (1, 2**63, "a whole number; found 9223372036854775808"),
        (1.5, [1], "a number; found [1]"),
    ],
)
async def test_value_that_does_not_fit_its_column_fails_alone(
    first: Json, second: Json, message: str, tmp_path: Path, files: Files
) -> None:
    good, bad = await files.write("a.parquet", item("1", v=first), item("2", v=second))
    assert good.effect is Effect.WRITTEN
    assert bad.error is not None
    assert bad.error.message == f"a.parquet: the column 'v' holds {message}"
    assert (bad.error.error_class, bad.error.field, bad.error.sent) == (
        ErrorClass.REJECTED,
        "v",
        False,
    )
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"id": "1", "v": first}]


TYPES: dict[str, Json] = {
    "born": "date",
    "at": "datetime",
    "price": "decimal(12, 2)",
    "photo": "binary",
    "n": "integer",
}


async def test_column_types_of_the_spec_are_used(tmp_path: Path, files: Files) -> None:
    fine = item("1", born="1815-12-10", at="2026-01-02T03:04:05+01:00", price=1.1, photo="AP8=", n=1)
    results = await files.write(
        "a.parquet",
        fine,
        item("2", born="10.12.1815"),
        item("3", at="2026-01-02T03:04:05"),
        item("4", at="2026-01-02T03:04:05.123456789Z"),
        item("5", price="1.005"),
        item("6", price=12345678901),
        item("7", photo="no base64!"),
        item("8", n=1.5),
        item("9", born=18151210),
        types=TYPES,
    )
    assert [result.effect is not None for result in results] == [True] + [False] * 8
    refusals = [result.error.message for result in results if result.error]
    assert refusals[0] == "a.parquet: the column 'born' holds date32[day]; found \"10.12.1815\""
    assert refusals[3] == "a.parquet: the column 'price' holds decimal128(12, 2); found \"1.005\""
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert table.to_pylist() == [
        {
            "born": date(1815, 12, 10),
            "at": datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC),
            "price": Decimal("1.10"),
            "photo": b"\x00\xff",
            "n": 1,
            "id": "1",
        }
    ]
    (record,) = records_of(await files.read("a.parquet"))
    assert (record["price"], record["at"]) == ("1.10", "2026-01-02 02:04:05+00:00")


async def test_upsert_keeps_types_and_rows_of_other_keys(tmp_path: Path, files: Files) -> None:
    old = save(
        tmp_path / "a.parquet",
        {
            "id": pa.array([1, 2, 3, 4], pa.int32()),
            "at": pa.array([1, 1_700_000_000_123_456_789, None, 2], pa.timestamp("ns", "+01:00")),
            "tags": [["a"], None, [], ["b", None]],
            "home": [{"city": "Rome", "zip": 1}, None, {"city": None, "zip": 2}, None],
            "kind": pa.array(["x", "y", "x", "x"]).dictionary_encode(),
            "hour": [time(1), None, time(2), None],
            "empty": pa.nulls(4),
        },
    ).replace_schema_metadata({"who": "them"})
    pq.write_table(old, tmp_path / "a.parquet")
    changed: Record = {
        "id": 2,
        "at": "2026-01-02 03:04:05.000000001+01:00",
        "tags": ["c"],
        "home": {"city": "Bern"},
        "kind": "z",
        "hour": "03:00:00",
        "empty": 5,
        "new": "n",
    }
    results = await files.write(
        "a.parquet",
        MappedRecord("2", changed, {}, ""),
        MappedRecord("4", {"id": 4}, {}, "", delete=True),
        MappedRecord("5", {"id": 5, "home": {"city": "Bern", "street": "x"}}, {}, ""),
        MappedRecord("6", {"id": 2**31}, {}, ""),
        MappedRecord("7", {"id": 7, "hour": "25:00"}, {}, ""),
        MappedRecord("8", {"id": 8}, {}, ""),
    )
    assert [result.effect for result in results] == [
        Effect.WRITTEN, Effect.DELETED, None, None, None, Effect.WRITTEN,
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.names == [*old.schema.names, "new"]
    assert [table.schema.field(name).type for name in old.schema.names[:-1]] == [field.type for field in old.schema][
        :-1
    ]
    assert table.schema.metadata[b"who"] == b"them"
    plain = [name for name in old.schema.names if name not in ("at", "empty")]
    assert table.select(plain).take([0, 2]).to_pylist() == old.select(plain).take([0, 2]).to_pylist()
    assert table.column("at").cast(pa.int64()).to_pylist() == [1, 1_767_319_445_000_000_001, None, None]
    assert table.drop_columns("at").to_pylist()[1] == {
        **{name: value for name, value in changed.items() if name != "at"},
        "home": {"city": "Bern", "zip": None},
        "hour": time(3),
    }
    assert table.column("id").to_pylist() == [1, 2, 3, 8]


async def test_non_finite_numbers_are_text_between_two_files(tmp_path: Path, files: Files) -> None:
    odd = [float("nan"), float("inf"), None, 1.5, float("-inf")]
    save(tmp_path / "a.parquet", {"id": list("12345"), "v": pa.array(odd), "of": [[v] for v in odd]})
    records = records_of(await files.read("a.parquet"))
    assert [record["v"] for record in records] == ["NaN", "Infinity", None, 1.5, "-Infinity"]
    assert [record["of"] for record in records] == [["NaN"], ["Infinity"], [None], [1.5], ["-Infinity"]]
    await files.write("b.parquet", *(item(str(record["id"]), v=record["v"]) for record in records), mode="replace")
    table = pq.read_table(tmp_path / "b.parquet")
    assert str(table.schema.field("v").type) == "double"
    assert str(table["v"].to_pylist()) == str(odd)
    (answer,) = await files.write("c.parquet", item("1", v="NaN is a name"), mode="replace")
    assert answer.error is None
    assert pq.read_table(tmp_path / "c.parquet")["v"].to_pylist() == ["NaN is a name"]


async def test_narrow_number_types_accept_values_in_their_range(tmp_path: Path, files: Files) -> None:
    columns = {"id": ["0"], "b": pa.array([0], pa.uint8()), "f": pa.array([0.5], pa.float32()), "open": pa.nulls(1)}
    save(tmp_path / "a.parquet", columns)
    fits = [item("1", b=255), item("2", f=0.1), item("3", f=2**24), item("4", open="2026-01-02")]
    misfits = [item("5", b=256), item("6", b=-1), item("7", f=1e39), item("8", f=2**24 + 1), item("9", f=True)]
    results = await files.write("a.parquet", *fits, *misfits, types={"open": "date"})
    assert [result.effect is not None for result in results] == [True] * 4 + [False] * 5
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("f").to_pylist()[2] == pytest.approx(0.1)
    assert table.column("open").to_pylist() == [None] * 4 + [date(2026, 1, 2)]


async def test_column_without_nulls_is_required(tmp_path: Path, files: Files) -> None:
    fields = [pa.field("id", pa.string()), pa.field("n", pa.int64(), nullable=False)]
    pq.write_table(pa.table({"id": ["0"], "n": [0]}, pa.schema(fields)), tmp_path / "a.parquet")
    fits, null, none = await files.write("a.parquet", item("1", n=1), item("2", n=None), item("3"))
    assert fits.effect is Effect.WRITTEN
    assert [result.error.message for result in (null, none) if result.error] == [
        "a.parquet: the column 'n' holds int64; found null",
        "a.parquet: the column 'n' takes no null, and the record has no n",
    ]
    assert pq.read_schema(tmp_path / "a.parquet").field("n").nullable is False


async def test_type_conflict_with_the_file_is_reported_and_changes_nothing(tmp_path: Path, files: Files) -> None:
    save(tmp_path / "a.parquet", {"id": ["1"], "n": [1]})
    before = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(BadResponse, match="the column 'n' is int64 in the file, and text in `types`"):
        await files.write("a.parquet", item("1", n="x"), types={"n": "text"})
    assert (tmp_path / "a.parquet").read_bytes() == before
    await files.write("a.parquet", item("1", n="x"), types={"n": "text"}, mode="replace")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"n": "x", "id": "1"}]


async def test_continued_run_keeps_the_columns_of_written_records(
    tmp_path: Path, references: References, context: RuntimeContext, files: Files
) -> None:
    broken_off = open_writer(file_system("a.parquet", mode="replace"), NoAuth(), references, context)
    await broken_off.write([item("1", n=1), item("2", n=2)])
    await broken_off.close()
    assert not (tmp_path / "a.parquet").exists()
    bad, good = await files.write("a.parquet", item("3", n="x"), item("2", n=2.5), mode="replace")
    assert bad.error is not None
    assert good.effect is Effect.WRITTEN
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"id": "1", "n": 1.0}, {"id": "2", "n": 2.5}]


def test_type_that_parquet_lacks_is_reported() -> None:
    with pytest.raises(BadResponse, match=r"a\.parquet: cannot be written as Parquet: Unhandled type"):
        ParquetOutput("a.parquet", BytesIO(), pa.schema([("every", pa.month_day_nano_interval())]))


async def test_file_without_records_has_the_key_column(tmp_path: Path, files: Files) -> None:
    await files.write("a.parquet", mode="replace")
    assert pq.read_table(tmp_path / "a.parquet").schema.names == ["id"]
    assert records_of(await files.read("a.parquet")) == []


async def test_many_rows_become_row_groups_and_are_read_back(files: Files) -> None:
    await files.write("a.parquet", *[item(str(n), text="x" * 100) for n in range(6_000)])
    await files.write("a.parquet", *[item(str(n), text="y") for n in range(0, 6_000, 3)])
    records = records_of(await files.read("a.parquet"))
    assert [record["id"] for record in records] == [str(n) for n in range(6_000)]
    assert [record["text"] == "y" for record in records] == [n % 3 == 0 for n in range(6_000)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"path": "a.parquet", "mode": "append"}, "a Parquet file cannot be appended to"),
        ({"path": "a.parquet.gz"}, "Parquet is compressed internally; remove .gz"),
    ],
)
async def test_unsupported_parquet_settings_are_reported(
    more: dict[str, str], message: str, context: RuntimeContext, tmp_path: Path
) -> None:
    settings = FileSystem.model_validate({"connector": "file", "key": "id", **more, "path": "${env:OUT}"})
    with pytest.raises(SpecError, match=message):
        open_writer(settings, NoAuth(), References({"OUT": more["path"]}, tmp_path), context)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)


@given(values=st.lists(SCALARS | st.lists(SCALARS, max_size=2), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_accepted_values_round_trip_and_others_fail(values: list[Json], tmp_path: Path, files: Files) -> None:
    (tmp_path / "a.parquet").unlink(missing_ok=True)
    items = [item(str(number), v=value) for number, value in enumerate(values)]
    results = await files.write("a.parquet", *items, mode="replace")
    taken = [each.payload["v"] for each, result in zip(items, results, strict=True) if result.effect]
    found = [record.get("v") for record in records_of(await files.read("a.parquet"))]
    assert found == [encode(value).decode() if isinstance(value, list) else value for value in taken]
