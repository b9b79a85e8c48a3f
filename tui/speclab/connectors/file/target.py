"""The file a run writes: its path, its format, who its records are, and what goes wrong with it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from speclab.connectors.base import Refusal
from speclab.connectors.file.arrow_output import ParquetForm
from speclab.connectors.file.form import Form, JsonForm, TableForm
from speclab.connectors.file.formats import rows
from speclab.connectors.file.layout import Format, Layout
from speclab.connectors.file.packing import packed, read_to_its_end, unpacked
from speclab.connectors.file.parquet import schema_of
from speclab.connectors.file.row import Row, Spot
from speclab.connectors.file.tables import Header, Misfit, cell, header
from speclab.connectors.file.whereabouts import place_of
from speclab.connectors.jsontext import encode
from speclab.connectors.references import References
from speclab.connectors.unreadable import UnreadableRecord
from speclab.errors import BadAnswer, SpecError, Unreachable
from speclab.jsonvalue import Record
from speclab.outcome import ErrorClass
from speclab.paths import FieldPath, PathSyntaxError
from speclab.spec.systems.file import FileSystem

if TYPE_CHECKING:
    import pyarrow as pa

BATCH: Final = 1000
"""Records that are written at once."""
_PASSING: Final = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR})
"""Errors that may be over when it is tried again; any other is of the path itself, or of the disk."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No record is to blame for these, and none must come to be given up."""


class Target:
    """A file as the settings describe it, references resolved."""

    def __init__(self, system: FileSystem, references: References) -> None:
        """Raises `SpecError` for settings that cannot work."""
        self.place = place_of(system, references)
        self.name = self.place.name
        self.layout = Layout.of(system.path, system)
        self._key = [_path(text) for text in ((system.key,) if isinstance(system.key, str) else system.key)]

    def columns(self) -> Sequence[str]:
        """The columns that the file says it has, if it is of a kind that does. Raises `BadAnswer`."""
        if self.layout.format is Format.PARQUET:
            schema = self._schema()
            return schema.names if schema is not None else ()
        head = self.header() if self.layout.is_table else None
        return head.columns if head else ()

    def header(self) -> Header | None:
        """The header of the table that is there; None if there is none. Raises `BadAnswer`."""
        if not self.place.exists():
            return Header(self.layout.columns, b"", Spot()) if self.layout.columns else None
        with self._opened() as stream:
            return header(stream, self.name, self.layout)

    def form(self, *, merged: bool) -> Form:
        """What the file takes, `merged` with what it holds or as a new one. Raises `BadAnswer`."""
        if self.layout.format is Format.PARQUET:
            key = [str(path) for path in self._key]
            return ParquetForm(self.name, self._schema() if merged else None, self.layout.types, key)
        if not self.layout.is_table:
            return JsonForm(self.name, self.layout)
        return TableForm(self.name, self.layout, self.header() if merged or self.layout.columns else None)

    def _schema(self) -> pa.Schema | None:
        if not self.place.exists():
            return None
        with self._opened() as stream:
            return schema_of(stream, self.name)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The text of the file that is there. Raises `BadAnswer` for what cannot be read."""
        seeking = self.layout.format is Format.PARQUET
        with read_to_its_end(self.name), unpacked(self.place.opened(seeking=seeking), self.name, self.layout) as stream:
            yield stream

    def rows(self) -> Iterator[Row]:
        """What the file holds. Raises `BadAnswer` for what cannot be read."""
        with self._opened() as stream:
            for row in rows(stream, self.name, self.layout):
                if isinstance(row.record, UnreadableRecord):
                    raise BadAnswer(f"{row.record.place}: {row.record.reason}")
                yield row

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Where to write the text that takes the place of the file when the block ends well. Raises `OSError`."""
        with self.place.replacing() as stream, packed(stream, self.layout) as text:
            yield text

    def key_of(self, record: Record) -> str | None:
        """The key of a record, or of a row that was read back as text; None where a part is missing or empty."""
        try:
            parts = [cell(path.get(record)) for path in self._key]
        except KeyError:
            return None
        return encode(parts).decode() if all(parts) else None

    def tried(self, work: Callable[[], object]) -> Refusal | None:
        """None if `work` goes well, a refusal for an error that may pass. Raises `Unreachable` for any other."""
        try:
            work()
        except OSError as error:
            reason = f"{self.name}: {error.strerror or error}"
            if error.errno not in _PASSING:
                full = error.errno in _FULL
                hint = (
                    "Make room; the next run goes on from here." if full else "Check `path`, and who may write there."
                )
                raise Unreachable(reason, hint=hint) from None
            return self.refusal(ErrorClass.SERVER, reason)
        return None

    def misfitting(self, misfit: Misfit) -> Refusal:
        """The refusal of a record that cannot be in the file."""
        return self.refusal(ErrorClass.REJECTED, misfit.message, field=misfit.field)

    def keyless(self) -> Refusal:
        """The refusal of a record without a key."""
        key = ", ".join(map(str, self._key))
        return self.refusal(ErrorClass.REJECTED, f"the key `{key}` is empty or not mapped", field=key)

    def refusal(self, error_class: ErrorClass, message: str, field: str | None = None) -> Refusal:
        """A refusal of something that surely is not in the file."""
        return Refusal(error_class, message, request=f"write {self.name}", field=field, sent=False)


def _path(text: str) -> FieldPath:
    try:
        return FieldPath.parse(text)
    except PathSyntaxError as error:
        raise SpecError(f"key: {text!r} is no path: {error}") from None
