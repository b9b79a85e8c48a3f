"""`speclab map`: what the mapping makes of sample records, as JSON lines, failures with their place on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from speclab.cli.output import print_json, tell
from speclab.cli.place import spec_argument

if TYPE_CHECKING:
    from speclab.jsonvalue import Record


@click.command("map", short_help="Map sample records; nothing is sent.")
@spec_argument
@click.option("--sample", type=click.File("rb"), default="-", help="JSON lines to map  [default: standard input]")
def map_(spec: Path, sample: BinaryIO) -> None:
    """Map records with the Field Mapping of SPEC and print the results as JSON lines; nothing is sent anywhere.

    \b
    speclab map crm --sample contacts.jsonl
    curl -s https://crm.example/contacts | jq -c '.data[]' | speclab map crm

    Exits 1 if a record fails; where and why is on stderr.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.connectors.file.lines import limited_lines
    from speclab.connectors.unreadable import UnreadableRecord
    from speclab.errors import UsageError
    from speclab.mapping import MappingFailure
    from speclab.spec.document import Document
    from speclab.sync.prepare import prepare_mapping

    if sample.isatty():
        raise UsageError("no sample to map", hint="Give --sample FILE.jsonl, or pipe JSON lines in.")
    mapper = prepare_mapping(Document.load(spec))
    mapped = filtered = failed = 0
    for number, (line, size) in enumerate(limited_lines(sample), 1):
        if not line.strip():
            continue
        record = _record(line, size, f"{sample.name}:{number}")
        if isinstance(record, UnreadableRecord):
            failed += 1
            tell(f"{record.place}: record {number}: {record.reason}")
            continue
        try:
            if not mapper.accepts(record):
                filtered += 1
                continue
            result = mapper.map(record)
            failures = mapper.check(result)
        except MappingFailure as failure:
            failures = failure.failures
        if failures:
            failed += 1
            for one in failures:
                tell(f"{spec}:{one.line}:{one.column}: record {number}: {one.row or 'filter'}: {one.reason}")
        else:
            mapped += 1
            print_json(result)
    tell(f"{mapped} mapped, {filtered} filtered, {failed} failed")
    click.get_current_context().exit(1 if failed else 0)


def _record(line: bytes, size: int, place: str) -> Record:
    """Return the record on a line of `size` bytes. Raises `UsageError` where there is none."""
    from speclab.connectors.file.lines import too_long
    from speclab.connectors.jsontext import decode_leniently
    from speclab.connectors.unreadable import checked
    from speclab.errors import UsageError

    if size > len(line):
        return too_long(line, size, place)
    try:
        found = decode_leniently(line)
    except ValueError as error:
        raise UsageError(f"{place}: no JSON: {error}") from error
    if not isinstance(found.value, dict):
        raise UsageError(f"{place}: expected a record, which is a JSON object in braces")
    return found.value if found.is_clean else checked(found.value, line, place)
