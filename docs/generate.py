"""Generate docs/reference/ from the program itself, so that the reference is always accurate.

`python docs/generate.py` writes the pages; with `--check` it lists the pages that are out of date and exits with 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from speclab.spec.guide import Variant

REFERENCE = Path(__file__).parent / "reference"

JSON = {
    "lint --format json": "file line column code level message fix",
    "fields": "end field type required share example",
    "auth": "end connector auth granted references token token_expires_at request response error hint",
    "plan": "spec_id resumed cut read create update same delete unknown unchanged filtered fail waiting faults "
    "examples source target alarms notes",
    "run": "run spec_id spec_hash trigger state started_at ended_at read written created updated deleted unchanged "
    "filtered waiting dead unknown bytes_in bytes_out cursor error",
    "status": "spec_id condition running success_rate read errors duration_p95 waiting dead unknown last_run "
    "last_run_at next paused_at paused_by paused_reason parked_until",
    "verify": "criterion state ticked expression detail line suggestion",
    "logs": "id at spec_id run level kind message fields",
    "doctor": "check state what todo",
    "reconcile": "spec_id at method sample read filtered failed source target same unknown differences examples notes",
    "alerts": "spec_id alert state since severity detail notified_at silenced_until silenced_by silence_reason "
    "undelivered delivery_error",
    "failures": "id run spec_id key state stage class status message row column file line attempts first_at last_at "
    "next_attempt_at",
}
"""The fields of the rows that `--json` prints; `tests/docs/test_json_rows.py` compares them with the output."""


def command_line() -> Iterator[str]:
    """Yield the help of every command."""
    from speclab.cli.app import open_app
    from speclab.cli.group import speclab

    yield "# Command line\n\nData goes to stdout, messages to stderr. `--json` prints one JSON object per line.\n"
    yield from table(
        ("Exit code", "Meaning"),
        (
            ("0", "success"),
            ("1", "problems found, or a run that was not fully successful"),
            ("2", "invalid usage"),
            ("3", "a spec that cannot run"),
            ("4", "a system cannot be reached or rejects the credentials"),
            ("130", "interrupted"),
        ),
    )
    group = click.Context(speclab, info_name="speclab", max_content_width=100)
    yield f"\n```text\n{speclab.get_help(group)}\n```"
    for name, command in [("speclab", open_app), *commands(speclab, group)]:
        help_text = command.get_help(
            click.Context(command, info_name=name, help_option_names=["-h", "--help"], max_content_width=100)
        )
        yield f"\n## {name}\n\n```text\n{help_text}\n```"
    yield "\n## JSON rows\n\nTimes are UTC in ISO 8601 with milliseconds. Unknown values are null.\n"
    rows = [(f"`speclab {name}`", f"`{fields}`") for name, fields in JSON.items()]
    like = [
        ("`speclab runs`", "like `run`"),
        ("`speclab failures --full`", "like `failures`, plus `source payload request response`"),
        ("`speclab log progress`, `fail`, `end`", "like `run`"),
        ("`speclab retry`", "like `failures`, plus `became`"),
    ]
    yield from table(("Command", "Fields"), [*rows, *like])


def commands(parent: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands of a group with their full names, each group before its commands."""
    for name in parent.list_commands(context):
        command = parent.get_command(context, name)
        assert command is not None  # noqa: S101 - the name comes from the list of commands
        full = f"{context.command_path} {name}"
        yield full, command
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, info_name=name, parent=context))


def settings() -> Iterator[str]:
    """Yield the settings blocks, section by section."""
    from speclab.spec.guide import SUMMARIES, guide

    yield "# Settings\n\nSettings are in the first fenced `yaml` block of a section. Other text is for people."
    yield "\nReferences such as `${env:NAME}` ([all kinds](../how-to/authenticate.md)) are resolved when a run starts."
    yield "Nothing else in a spec is evaluated."
    known: dict[object, str] = {}
    for address in SUMMARIES:
        found = guide(address)
        if not (found.variants or found.choices):
            continue
        title = address.split(" > ")[-1]
        yield f"\n## {address}\n\n{found.summary}" + ("\n" if found.choices else "")
        for choice in found.choices:
            yield f"- `{choice.text}`: {choice.summary}"
        variants = tuple(one for one in found.variants if not one.provider)
        signature = tuple((one.name, one.settings) for one in variants)
        if variants and signature in known:
            yield f"\nSame settings as {known[signature]}."
            continue
        known[signature] = title
        for variant in variants:
            yield f"\n### {variant.name}\n\n{variant.summary}" if variant.name else f"\n{variant.summary}"
            yield from setting_tables(variant, f"{variant.name} in {title}" if variant.name else title, known)
            if variant.example:
                yield f"\n{variant.example.strip()}"


def setting_tables(variant: Variant, title: str, known: dict[object, str]) -> Iterator[str]:
    """Yield one table for each block of settings, required settings first.

    A block that was shown before (`known`, block -> where) is only referred to.
    """
    blocks = [one for one in variant.settings if one.type == "settings"]
    for prefix, description in [("", ""), *((one.name, one.description) for one in blocks)]:
        rows = [one for one in variant.settings if one.type != "settings" and one.name.rpartition(".")[0] == prefix]
        if not rows:
            continue
        leaf = prefix.rpartition(".")[2]
        content = (leaf, *(replace(one, name=one.name.rpartition(".")[2]) for one in rows))
        required = any(one.required for one in blocks if one.name == prefix)
        same = f"Same settings as {known[content].removesuffix(f' of {title}')}." if content in known else ""
        if prefix:
            heading = f"\n`{prefix}`{' (required)' if required else ''}: {description.removesuffix('.')}."
            yield f"{heading} {same}".rstrip()
        elif same:
            yield f"\n{same}"
        if same:
            continue
        known[content] = f"`{prefix}` of {title}" if prefix else title
        yield ""
        yield from table(
            ("Setting", "Type", "Default", "Description"),
            (
                (f"`{one.name}`", one.type, "required" if one.required else code(one.default), one.description)
                for one in sorted(rows, key=lambda one: not one.required)
            ),
        )


def steps() -> Iterator[str]:
    """Yield the steps of the Transformation cell."""
    from speclab.mapping.cel.functions import FUNCTIONS
    from speclab.mapping.steps import STEPS

    yield "# Mapping steps\n\nThe Transformation cell is a list of steps, separated by commas and applied from left to"
    yield "right. Step names are case-insensitive. An empty cell means `Direct`. The first step may be a CEL expression"
    yield "after `=`.\n"
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
    yield "Null passes through a step unless its description says otherwise. A value of the wrong type fails the"
    yield "record. A step that may fail can also fail for values of the right type. Values are never guessed.\n"
    yield from table(("Step", "Description", "May fail", "Example", "Result"), rows)
    yield "\n## Functions in expressions\n\nIn addition to CEL's own functions (`has size contains startsWith endsWith"
    yield (
        "matches`) and macros (`all exists exists_one map filter`): "
        + ", ".join(f"`{name}`" for name in FUNCTIONS)
        + "."
    )
    yield "\nInteger and decimal numbers mix freely: `1999 / 100` is 19.99 and `2000 / 100` is 20. `int(1999 / 100)`"
    yield "drops the fraction, and `%` is the remainder of integers."


def problems() -> Iterator[str]:
    """Yield the problem codes."""
    from speclab.mapping.problems import CODES as MAPPING_CODES
    from speclab.spec.problems import CODES

    yield "# Problems\n\n`speclab lint` prints problems as `file:line:column: CODE message`. Codes are stable.\n"
    found = [*CODES.values(), *MAPPING_CODES.values()]
    yield from table(
        ("Code", "Problem", "Why, and what to do"), ((one.code, one.title, one.explanation) for one in found)
    )


def keys() -> Iterator[str]:
    """Yield the keys of the app, view by view."""
    from speclab.app.actions import key_name
    from speclab.app.application import APP
    from speclab.app.main_screen import PANES
    from speclab.app.views.mapping.view import MAPPING
    from speclab.app.views.monitor.failures import RECORD
    from speclab.app.views.monitor.runs import RUNS
    from speclab.app.views.monitor.view import MONITOR
    from speclab.app.views.specs.view import SPECS

    places = {
        "Everywhere": (*APP, *PANES),
        "Specs": SPECS,
        "Mapping": MAPPING,
        "Monitor": MONITOR,
        "The runs of an integration": RUNS,
        "A record that failed": RECORD,
    }
    yield "# Keys\n\nAll actions are also in the command palette (ctrl+p) and in the help (F1)."
    for place, actions in places.items():
        yield f"\n## {place}\n"
        rows = ((" ".join(key_name(key) for key in one.keys) or "palette", one.description) for one in actions)
        yield from table(("Key", "Action"), rows)


def run_log() -> Iterator[str]:
    """Yield the tables of the run log."""
    from speclab.runlog import schema

    yield "# Run log\n\nThe run log is `.speclab/runlog.db` in the workspace, a SQLite database in WAL mode.\n"
    yield (
        "Times are UTC ISO 8601 text with milliseconds (`2026-11-24T10:42:07.000Z`), so they compare as text. Ids of "
        "runs and\nfailures are UUIDs of version 7, so they sort by time. JSON values are JSON text. Anything may read "
        "the file with\nplain SQLite; all writes go through `RunLog`."
    )
    yield f"\nVersion {schema.VERSION} of the schema (`PRAGMA user_version`):"
    yield f"\n```sql\n{schema.SCHEMA.strip()}\n```"


def metrics() -> Iterator[str]:
    """Yield the metrics."""
    from speclab.monitor.metrics import DURATIONS, MAX_ALERTS, MAX_INTEGRATIONS, METRICS
    from speclab.service.openapi import ROUTES

    yield (
        "# Metrics and HTTP\n\n"
        "`speclab up --listen ADDR` serves these paths; `/openapi.json` describes them in full. With `--token`, a\n"
        "path with the access `bearer` requires `Authorization: Bearer TOKEN`. A path with the access `url` contains\n"
        "a signature that `speclab log url` prints.\n"
    )
    rows = ((f"`{one.method} {one.path}`", one.access, one.summary) for one in ROUTES)
    yield from table(("Path", "Access", "Meaning"), rows)
    yield (
        "\n## Metrics\n\n"
        "`/metrics` has the Prometheus text format or OpenMetrics, by the `Accept` header. Counters of records, bytes\n"
        "and errors continue over restarts; runs and their durations count from the start of the process. Labels\n"
        "never come from records, and their number is bounded: the first "
        f"{MAX_INTEGRATIONS:,} integrations by name, and\n{MAX_ALERTS} alerts of each.\n"
    )
    described = (
        (f"`{one.sample}`", one.type, one.unit or "-", " ".join(f"`{name}`" for name in one.labels) or "-", one.help)
        for one in METRICS.values()
    )
    yield from table(("Metric", "Type", "Unit", "Labels", "Meaning"), described)
    bounds = ", ".join(f"{bound:g}" for bound in DURATIONS)
    yield f"\nThe histogram has buckets up to {bounds} seconds, and more."
    yield (
        "\nDuration and status of requests are not among them, because the run log does not store single requests. "
        "Runs send\nthem with [OpenTelemetry](../how-to/run-as-a-service.md)."
    )


PAGES: dict[str, Callable[[], Iterable[str]]] = {
    "command-line.md": command_line,
    "settings.md": settings,
    "steps.md": steps,
    "problems.md": problems,
    "keys.md": keys,
    "metrics.md": metrics,
    "run-log.md": run_log,
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row) + " |"


def code(text: str) -> str:
    """Return `text` as inline code, or an empty string."""
    return f"`{text}`" if text else ""


def shown(*values: object) -> str:
    """Return values as JSON in inline code, joined by arrows."""
    import orjson

    return " → ".join(code(orjson.dumps(value).decode()) for value in values)


def main() -> int:
    """Write the pages, or check them with `--check`."""
    stale = []
    for name, page in PAGES.items():
        text = "<!-- Generated by docs/generate.py. -->\n\n" + "\n".join(page()) + "\n"
        path = REFERENCE / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
    for name in stale:
        click.echo(f"docs/reference/{name}: {'out of date; run `make docs`' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
