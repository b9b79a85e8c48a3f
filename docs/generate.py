"""Writes docs/reference/ from the program itself, so that the reference cannot say other than what is done.

`python docs/generate.py` writes the pages; with `--check` it names those that are out of date and exits 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click

REFERENCE = Path(__file__).parent / "reference"

JSON = {
    "lint --format json": "file line column code level message fix",
    "fields": "end field type required share example",
    "auth": "end connector auth granted references token token_expires_at request response error hint",
    "plan": "spec_id resumed cut read create update same delete unknown unchanged filtered fail waiting faults "
    "examples source target alarms notes",
    "run": "run spec_id spec_hash trigger state started_at ended_at read written created updated deleted unchanged "
    "filtered waiting dead unknown bytes_in bytes_out cursor error",
    "status": "spec_id condition success_rate read errors duration_p95 waiting dead unknown last_run last_run_at next "
    "paused_at paused_by paused_reason parked_until",
    "failures": "id run spec_id key state stage class status message row column file line attempts first_at last_at "
    "next_attempt_at",
}
"""The fields of the rows that `--json` prints; a test holds them to what is printed."""


def command_line() -> Iterator[str]:
    """Every command with its help."""
    from speclab.cli.app import open_app
    from speclab.cli.group import speclab

    yield "# The command line\n\nData goes to stdout and talk to stderr. `--json` prints a JSON row a line.\n"
    yield from table(
        ("exit code", "means"),
        (
            ("0", "well"),
            ("1", "problems were found, or a run was not fully successful"),
            ("2", "wrong usage"),
            ("3", "a spec that cannot run"),
            ("4", "a system cannot be reached, or refuses the credentials"),
            ("130", "interrupted"),
        ),
    )
    group = click.Context(speclab, info_name="speclab", max_content_width=100)
    yield f"\n```text\n{speclab.get_help(group)}\n```"
    commands = {f"speclab {name}": speclab.get_command(group, name) for name in speclab.list_commands(group)}
    for name, command in {"speclab": open_app, **commands}.items():
        assert command is not None  # noqa: S101 - it is in the list
        help_text = command.get_help(
            click.Context(command, info_name=name, help_option_names=["-h", "--help"], max_content_width=100)
        )
        yield f"\n## {name}\n\n```text\n{help_text}\n```"
    yield "\n## JSON rows\n\nTimes are UTC, ISO 8601 with milliseconds; what is not known is null.\n"
    rows = [(f"`speclab {name}`", f"`{fields}`") for name, fields in JSON.items()]
    like = [
        ("`speclab runs`", "as `run`"),
        ("`speclab failures --full`", "as `failures`, and `source payload request response`"),
        ("`speclab retry`", "as `failures`, and `became`"),
    ]
    yield from table(("command", "fields of a row"), [*rows, *like])


def settings() -> Iterator[str]:
    """The settings blocks, section by section."""
    from speclab.spec.guide import SUMMARIES, guide

    yield "# Settings\n\nThe first fenced `yaml` block of a section; prose around it is prose.\n"
    yield "References such as `${env:NAME}` ([all kinds](../how-to/authenticate.md)) are replaced when a run starts;"
    yield "nothing else in a spec is interpreted."
    for address in SUMMARIES:
        found = guide(address)
        if not (found.variants or found.choices):
            continue
        yield f"\n## {address}\n\n{found.summary}"
        for choice in found.choices:
            yield f"- `{choice.text}`: {choice.summary}"
        for variant in (one for one in found.variants if not one.provider):
            yield (f"\n### {variant.name}" if variant.name else "") + f"\n\n{variant.summary}\n"
            rows = (
                (f"`{one.name}`", one.type, "required" if one.required else code(one.default), one.description)
                for one in variant.settings
            )
            yield from table(("setting", "type", "default", ""), rows)
            if variant.example:
                yield f"\n{variant.example.strip()}"


def steps() -> Iterator[str]:
    """The steps of the Transformation cell."""
    from speclab.mapping.cel.functions import FUNCTIONS
    from speclab.mapping.steps.catalogue import STEPS

    yield "# Mapping steps\n\nThe Transformation cell is a list of steps, applied from left to right. Their names"
    yield "are in any case; an empty cell is `Direct`. An expression in CEL may stand first, after `=`.\n"
    rows = (
        (
            f"`{step.signature}`",
            step.summary,
            "yes" if step.may_fail else "",
            code(step.example.cell),
            shown(step.example.given, step.example.result),
        )
        for step in STEPS.values()
    )
    yield "Null passes through, but where a step says what it does with it. A value of another kind than a step takes"
    yield "fails the record; a step that may fail does so on values of the right kind, too, and guesses nothing.\n"
    yield from table(("step", "does", "may fail", "for example", ""), rows)
    yield "\n## Functions in expressions\n\nBeside CEL's own (`has size contains startsWith endsWith matches` and the"
    yield "macros `all exists exists_one map filter`): " + ", ".join(f"`{name}`" for name in FUNCTIONS) + "."
    yield "\nNumbers are numbers, whole or not: `1999 / 100` is 19.99 and `2000 / 100` is 20. `int(1999 / 100)` cuts"
    yield "the fraction off, and `%` gives the remainder of whole numbers."


def problems() -> Iterator[str]:
    """The problem codes."""
    from speclab.mapping.problems import CODES as MAPPING_CODES
    from speclab.spec.problems import CODES

    yield "# Problems\n\nWhat `speclab lint` prints as `file:line:column: CODE message`. Codes do not change.\n"
    found = [*CODES.values(), *MAPPING_CODES.values()]
    yield from table(
        ("code", "means", "why, and what to do"), ((one.code, one.title, one.explanation) for one in found)
    )


def keys() -> Iterator[str]:
    """The keys of the app, place by place."""
    from speclab.app.actions import key_name
    from speclab.app.application import APP
    from speclab.app.mapping.view import MAPPING
    from speclab.app.monitor.failures import RECORD
    from speclab.app.monitor.runs import RUNS
    from speclab.app.monitor.view import MONITOR
    from speclab.app.specs.view import SPECS
    from speclab.app.view import PANES

    places = {
        "Everywhere": (*APP, *PANES),
        "Specs": SPECS,
        "Mapping": MAPPING,
        "Monitor": MONITOR,
        "The runs of an integration": RUNS,
        "A record that failed": RECORD,
    }
    yield "# Keys\n\nEverything here is also in the palette (ctrl+p) and in the help (F1)."
    for place, actions in places.items():
        yield f"\n## {place}\n"
        rows = ((" ".join(key_name(key) for key in one.keys) or "palette", one.description) for one in actions)
        yield from table(("key", "does"), rows)


def run_log() -> Iterator[str]:
    """The tables of the run log."""
    from speclab.runlog import schema

    yield "# The run log\n\n`.speclab/runlog.db` in the workspace, SQLite in WAL mode.\n"
    yield (schema.__doc__ or "").split("\n", 2)[2].strip()
    yield f"\n```sql\n{schema.TABLES.strip()}\n```"
    for version, statements in enumerate(schema.VERSIONS[1:], start=2):
        yield f"\nSince version {version} of the schema (`PRAGMA user_version`):"
        yield f"\n```sql\n{statements.strip()}\n```"


PAGES: dict[str, Callable[[], Iterable[str]]] = {
    "command-line.md": command_line,
    "settings.md": settings,
    "steps.md": steps,
    "problems.md": problems,
    "keys.md": keys,
    "run-log.md": run_log,
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table, line by line."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row) + " |"


def code(text: str) -> str:
    """`text` as code; nothing as nothing."""
    return f"`{text}`" if text else ""


def shown(*values: object) -> str:
    """Values as JSON, as code, one coming from the other."""
    import orjson

    return " → ".join(code(orjson.dumps(value).decode()) for value in values)


def main() -> int:
    """Write the pages, or check them."""
    stale = []
    for name, page in PAGES.items():
        text = "<!-- Made by docs/generate.py. -->\n\n" + "\n".join(page()) + "\n"
        path = REFERENCE / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
    for name in stale:
        click.echo(f"docs/reference/{name}: {'out of date; make docs' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
