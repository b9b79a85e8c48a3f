"""`speclab new`, `show` and `set`: specs made, read and edited from a shell, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from speclab.cli.output import json_option, print_json, tell
from speclab.cli.place import spec_argument
from speclab.errors import UsageError


@click.command(short_help="Make a spec from the template.")
@click.argument("name")
@click.option("--directory", "-d", type=click.Path(file_okay=False, path_type=Path), help="Where  [default: specs]")
def new(name: str, directory: Path | None) -> None:
    """Make a spec called NAME from the template: specs/NAME.md."""
    from datetime import date

    from speclab.spec.template import create_spec

    path = create_spec(directory or Path("specs"), name, date.today())  # noqa: DTZ011 - the day where the user is
    click.echo(path)
    tell(f"Fill it in with 'speclab' or any editor; 'speclab lint {path}' says what is still open.")


@click.command(short_help="Print a spec, or a part of it.")
@spec_argument
@click.argument("where", required=False)
@json_option
def show(spec: Path, where: str | None, as_json: bool) -> None:  # noqa: FBT001 - click hands flags by name
    """Print SPEC, or what stands at WHERE in it.

    WHERE is a front-matter key (status), a section ("Data Flow > Volume") or a cell of the mapping
    ("Field Mapping[target.email].Transformation").
    """
    from speclab.spec.address import read
    from speclab.spec.document import Document

    document = Document.load(spec)
    text = document.text if where is None else read(document, where)
    if as_json:
        print_json(text)
    elif sys.stdout.isatty():
        click.echo(text, nl=not text.endswith(("\n", "\r")))
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        if where and not text.endswith(("\n", "\r")):
            click.echo()


@click.command("set", short_help="Write one value in a spec.")
@spec_argument
@click.argument("where")
@click.argument("value")
def set_(spec: Path, where: str, value: str) -> None:
    """Write VALUE (`-`: standard input, without its last line end) at WHERE in SPEC; every other byte stays.

    \b
    speclab set crm status approved
    speclab set crm "Data Flow > Frequency" Hourly
    speclab set crm "Field Mapping[target.email].Transformation" "Trim, Lowercase"
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.spec.address import write
    from speclab.spec.document import Document
    from speclab.spec.store import save

    if value == "-":
        if sys.stdin.isatty():
            raise UsageError("'-' reads the value from standard input, and that is a terminal", hint="Pipe it in.")
        value = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        value = value.removesuffix("\n").removesuffix("\r")
    document = Document.load(spec)
    save(write(document, where, value), document)
