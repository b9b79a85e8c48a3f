"""Parquet as it is written: rows of the old file as they were, new ones in their place, in groups that fit memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

from speclab.connectors.file.arrow_columns import Columns, batch_of
from speclab.connectors.file.parquet import ArrowRow, unwritable
from speclab.connectors.file.row import Row
from speclab.connectors.file.tables import Misfit
from speclab.errors import BadAnswer
from speclab.jsonvalue import Record

if TYPE_CHECKING:
    import pyarrow as pa

_RECORDS: Final = 1000
"""Records that are held before they become a batch, which takes far less memory."""
_GROUP_ROWS: Final = 200_000
_GROUP_BYTES: Final = 16_000_000


class ParquetForm:
    """Parquet, whose columns have types."""

    def __init__(self, name: str, old: pa.Schema | None, declared: Mapping[str, str], key: Sequence[str]) -> None:
        """A file with the columns of the `old` one, if they stay, and the types the spec has `declared`."""
        self._name = name
        self._columns = Columns(name, old, declared, key)

    def recall(self, records: Iterable[Record]) -> None:
        """Take `records`, which fit."""
        for record in records:
            self._columns.misfit(record)

    def misfit(self, record: Record) -> Misfit | None:
        """A value that its column does not hold."""
        return self._columns.misfit(record)

    def output(self, stream: BinaryIO, records: Iterable[Record]) -> ParquetOutput:
        """A file with the columns that `records` need. Raises `BadAnswer` if they fit the file no longer."""
        for record in records:
            misfit = self._columns.misfit(record)
            if misfit is not None:
                raise BadAnswer(misfit.message, hint="The file has changed since the record was taken.")
        return ParquetOutput(self._name, stream, self._columns.schema())


class ParquetOutput:
    """One file, in row groups. What cannot be written raises `BadAnswer`, as of types that Parquet has not."""

    def __init__(self, name: str, stream: BinaryIO, schema: pa.Schema) -> None:
        """The file `name`, with the columns of `schema`."""
        import pyarrow.parquet as pq

        self._name = name
        self._schema = schema
        with unwritable(name):
            self._writer = pq.ParquetWriter(stream, schema)
        self._run: tuple[pa.RecordBatch, int, int] | None = None
        self._records: list[Record] = []
        self._group: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def copy(self, row: Row) -> None:
        """Write a row of the old file as it was."""
        if not isinstance(row, ArrowRow):
            self.add(row.record)
            return
        if self._run is not None and self._run[0] is row.batch and self._run[2] == row.index:
            self._run = (row.batch, self._run[1], row.index + 1)
            return
        self._settle()
        self._run = (row.batch, row.index, row.index + 1)

    def add(self, record: Record) -> None:
        """Write a new record."""
        if self._run is not None or len(self._records) >= _RECORDS:
            self._settle()
        self._records.append(record)

    def end(self) -> None:
        """Write what is left, and the footer."""
        self._settle()
        with unwritable(self._name):
            self._write()
        self.close()

    def close(self) -> None:
        """Write the footer of what is there, also of a file that is given up."""
        self._writer.close()

    def _settle(self) -> None:
        """Make batches of what is held."""
        with unwritable(self._name):
            if self._run is not None:
                batch, start, stop = self._run
                self._gather(self._widened(batch.slice(start, stop - start)))
            if self._records:
                self._gather(batch_of(self._records, self._schema))
        self._run, self._records = None, []

    def _gather(self, batch: pa.RecordBatch) -> None:
        self._group.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._group:
            self._writer.write_table(pa.Table.from_batches(self._group, self._schema), row_group_size=_GROUP_ROWS)
        self._group, self._rows, self._bytes = [], 0, 0
        pa.default_memory_pool().release_unused()  # which keeps far more than a group ever takes

    def _widened(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the old file with the columns that are new."""
        import pyarrow as pa

        if batch.schema.equals(self._schema):
            return batch
        columns = [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
