"""Problems of a spec: their codes, their locations in the file, and their collection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from speclab.core.outcome import Level
from speclab.spec.outline import TextLines

_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem. `line` and `column` count from 1, columns in characters; `length` is that of the underline.

    `fix` is the text that should replace the underlined one, if it is known; the app's fix key inserts it. The message
    must say what to do even without it.
    """

    file: str
    line: int
    column: int
    code: str
    level: Level
    message: str
    fix: str | None = None
    length: int = 1

    def __str__(self) -> str:
        """Return `file:line:column: CODE message`, as compilers print it, with control characters escaped."""
        message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], self.message)
        return f"{self.file}:{self.line}:{self.column}: {self.code} {message}"


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of problem: its title, and an explanation of why it is one and what to do."""

    code: str
    title: str
    explanation: str


_ALL: Final = (
    Code(
        "D101",
        "A section is missing",
        "The engine and other tools find a section by its heading. Restore the heading where the template has it.",
    ),
    Code(
        "D102",
        "A section is empty",
        "A run needs the content of this section. A draft may leave it for later.",
    ),
    Code(
        "D103",
        "A section appears twice",
        "Two sections have the same heading path, and the engine can read only one. Merge them, or rename one.",
    ),
    Code(
        "D104",
        "A section has no settings block",
        "The engine reads the first fenced block that starts with ```yaml. Add one; text around it is for people.",
    ),
    Code(
        "D201",
        "The Field Mapping has no rows",
        "A run writes one target field per row of the table. The template's example rows do not count. Add a row.",
    ),
    Code(
        "D202",
        "A column is missing from the Field Mapping table",
        "The table needs the columns Source Field, Target Field and Transformation, in any order. More columns "
        "are kept.",
    ),
    Code(
        "D301",
        "A target path appears twice",
        "A row is identified by its target path, so each path may be in one row only. Remove or rename one of them.",
    ),
    Code(
        "D302",
        "A row has no target",
        "Without a target path the row's value goes nowhere. Fill in the target, or remove the row.",
    ),
    Code(
        "D303",
        "A path is not valid",
        'Paths are dotted, with [n] for an element of a list and ["odd key"] for keys with special characters.',
    ),
    Code(
        "D304",
        "A row has more cells than the table has columns",
        r"Markdown drops the cells after the last column. Write a pipe inside a cell as \|.",
    ),
    Code(
        "D105",
        "A spec is too large",
        "A file of more than 1 MB is listed, but not parsed or run: it would slow down every command. Split the "
        "spec, or move text that is not about the integration to another file.",
    ),
    Code(
        "F101",
        "The front matter cannot be read",
        "Front matter is YAML between two lines of --- at the very top of the file.",
    ),
    Code(
        "F102",
        "A key is missing from the front matter",
        "spec_id, type and status are required: they identify the spec, say which tool reads it, and whether it "
        "is ready to run.",
    ),
    Code(
        "F103",
        "A spec_id is not valid",
        "A spec_id names the integration in the run log, in file names and on the command line. Use letters, "
        "digits, - _ and . only.",
    ),
    Code(
        "F104",
        "A status is unknown",
        "The status is one of draft, approved, in-progress and completed.",
    ),
    Code(
        "F105",
        "A key appears twice in the front matter",
        "YAML readers silently keep one of the two; speclab keeps the last. Remove one.",
    ),
    Code(
        "F106",
        "A file has a type that does not run",
        "Only `type: integration` runs. Specs of other types are listed, can be edited, and are otherwise ignored.",
    ),
    Code(
        "F107",
        "Two specs have the same spec_id",
        "The run log identifies a spec by its spec_id: the two would share their cursor, record state and dead "
        "letters. Give the copy its own spec_id.",
    ),
    Code(
        "F108",
        "A spec changed after its approval",
        "The text is not the one that was approved: `approved_hash` has its hash. Tasks, ticks of acceptance criteria "
        "and the front matter may change. Review the change, and run `speclab approve` again.",
    ),
    Code(
        "S101",
        "A settings block is not valid YAML",
        "No setting of the block can be read until this is fixed.",
    ),
    Code(
        "S102",
        "A value must be quoted",
        "Braces, brackets, colons and some first characters have a meaning in YAML. Quotes make the value text: "
        '{upsert: "PUT /a/{id}"}.',
    ),
    Code(
        "S103",
        "A key appears twice",
        "YAML readers silently keep one of the two; speclab rejects both. Remove one.",
    ),
    Code(
        "S104",
        "A settings block is not a mapping",
        "A settings block consists of `key: value` lines.",
    ),
    Code(
        "S105",
        "A value is ambiguous",
        "YAML 1.1 reads yes, on, 017 and 12:30 as true, true, 15 and 750; YAML 1.2 and speclab read them as "
        "written. Quote the value: every reader then reads it the same way.",
    ),
    Code(
        "S106",
        "Anchors, aliases, tags and merge keys are not supported",
        "A settings block is plain data that any reader understands. Write the value out.",
    ),
    Code(
        "S107",
        "A settings block is not closed",
        "Everything after an open fence belongs to it. Close it with the same fence on a separate line.",
    ),
    Code(
        "S108",
        "A settings block is nested too deeply",
        "No setting is nested deeper than a few levels.",
    ),
    Code(
        "S109",
        "A second settings block is ignored",
        "Only the first fenced yaml block of a section is read as settings. Merge the two, or remove one.",
    ),
    Code(
        "S201",
        "A required setting is missing",
        "This setting has no safe default. Add it.",
    ),
    Code(
        "S202",
        "A setting is unknown",
        "A misspelled setting would silently have no effect. Correct its name, or remove it.",
    ),
    Code(
        "S203",
        "A setting has an invalid value",
        "The message says which value was expected.",
    ),
    Code(
        "S204",
        "A setting is not one of its choices",
        "The message lists the valid choices.",
    ),
    Code(
        "S205",
        "Settings contradict each other",
        "Some settings require or exclude one another. The message names them.",
    ),
    Code(
        "S206",
        "A setting is not supported yet",
        "The spec format defines it, but this version of speclab cannot run it.",
    ),
    Code(
        "S207",
        "A system has no `read` or `write`",
        "A source needs `read`, a target needs `write`.",
    ),
    Code(
        "S208",
        "A setting has no effect here",
        "The setting applies to the other endpoint: `read` to the source, `write` to the target. Remove it.",
    ),
    Code(
        "S209",
        "A connector cannot be used",
        "An installed package provides this connector, and the package has a defect, which the message describes. "
        "Other specs are not affected. Update or remove the package.",
    ),
    Code(
        "S210",
        "The target cannot delete",
        "`missing: delete` deletes target records that the source no longer has, and this target has no way to "
        "delete. Configure one, or remove `missing`.",
    ),
    Code(
        "S211",
        "No row produces a field that the target needs",
        "The key of an upsert, and each path in braces in a request, are taken from the mapped record; without "
        "them it cannot be written. Add a row for the field, or name a field that the table produces.",
    ),
    Code(
        "S212",
        "Success of a batch is not defined",
        "One response covers many records. Set `results` where the response has one result per record, or `ok` to "
        "define a successful response. Without either, only well-known signs of a failure are recognized.",
    ),
    Code(
        "A101",
        "The file contains a secret",
        "A spec is shared, copied and versioned. Move the secret to an environment variable and write ${env:NAME} "
        "here. Then rotate the secret: it has been exposed.",
    ),
    Code(
        "A102",
        "A reference has an unknown kind",
        "References are ${env:NAME}, ${file:PATH}, ${keyring:SERVICE/NAME}, ${vault:PATH#KEY} and ${aws:NAME#KEY}.",
    ),
    Code(
        "A103",
        "A reference is not valid",
        "A reference is a dollar sign followed by a kind, a colon and a name in braces: ${env:CRM_TOKEN}.",
    ),
    Code(
        "A104",
        "A URL contains a password or a key",
        "Use a reference in the URL: postgresql://sync:${env:DB_PASSWORD}@db/crm.",
    ),
    Code(
        "A105",
        "Credentials are sent unencrypted",
        "Over http:// anyone on the network path can read a token, key or password. Use https://. A server on "
        "this machine (localhost, 127.0.0.1) is exempt.",
    ),
    Code(
        "C101",
        "A choice is unknown",
        "The first line of the section must be one of the choices in the message. Text may follow on the lines below.",
    ),
    Code(
        "C102",
        "A choice is not supported yet",
        "The spec format defines it, but this version of speclab cannot run it.",
    ),
    Code(
        "C103",
        "A schedule is not valid",
        "A time of day is HH:MM, a zone an IANA name such as Europe/Berlin, and a cron expression has five fields.",
    ),
    Code(
        "C201",
        "A row of Error Types is ignored",
        "`When` must be a status (429, 5xx, 400-404) or a class (network, timeout), and `Action` one of the "
        "actions. Until then the row is documentation and the defaults apply.",
    ),
    Code(
        "C202",
        "An error rule never applies",
        "An earlier rule matches everything that this one matches, or the failures it names never reach the "
        "table. Reorder or remove it.",
    ),
    Code(
        "C301",
        "A row of Alerts is ignored",
        '`When` must be an expression over the run log, such as success_rate("1h") < 0.9, and `For` a duration. '
        "Until then the row is documentation.",
    ),
    Code(
        "C302",
        "A channel or a severity of an alert is unknown",
        "`Notify` names channels of the section Error Notifications, separated by commas; `log` and `dashboard` always "
        "exist. Until then the alert goes to the channels that `on` names. A severity is critical or warning.",
    ),
    Code(
        "C303",
        "A threshold has the wrong unit",
        "A success rate is between 0 and 1, so a comparison with a larger number always has the same result.",
    ),
    Code(
        "C401",
        "An expression is not valid",
        "Alerts and acceptance criteria are CEL expressions.",
    ),
    Code(
        "C501",
        "A metric is not measured",
        "An item of a list in the section Metrics starts with the name of something that speclab measures, or contains "
        "an expression over the run log or the name of a metric at /metrics in a code span. Other promises are text "
        "outside of lists.",
    ),
)

CODES: Final = {code.code: code for code in _ALL}


_LINE_END: Final = re.compile(r"[\r\n]")


class TextRange(Protocol):
    """Anything between two offsets in a file's text."""

    @property
    def start(self) -> int:
        """Offset of the first character."""

    @property
    def end(self) -> int:
        """Offset after the last character."""


@dataclass(frozen=True, slots=True)
class TextLocation:
    """A part of one line; line and column count from 1."""

    line: int
    column: int
    length: int


class ProblemCollector:
    """Collects the problems of one file.

    A problem is reported at a location, or at a range of `text`; then `position` returns the line and the column of
    an offset, both from 1. `needs` is the level of what is missing or not supported yet: an error before a run, only
    a note in a draft.
    """

    def __init__(
        self,
        file: str,
        text: str = "",
        position: Callable[[int], tuple[int, int]] | None = None,
        *,
        needs: Level = Level.ERROR,
    ) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self._file = file
        self._position = position or TextLines.of_file(text).position
        self._needs = needs

    def error(self, code: str, at: TextRange | TextLocation, message: str, fix: str | None = None) -> None:
        """Report an error; `fix` is the text that should replace the one at `at`."""
        self._add(Level.ERROR, code, at, message, fix)

    def warning(self, code: str, at: TextRange | TextLocation, message: str, fix: str | None = None) -> None:
        """Report something that is probably not intended."""
        self._add(Level.WARNING, code, at, message, fix)

    def note(self, code: str, at: TextRange | TextLocation, message: str) -> None:
        """Report something worth knowing."""
        self._add(Level.INFO, code, at, message, None)

    def need(self, code: str, at: TextRange | TextLocation, message: str) -> None:
        """Report something that a run needs and that is missing or not supported yet."""
        self._add(self._needs, code, at, message, None)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add problems that were found elsewhere."""
        self.problems.extend(problems)

    @property
    def errors(self) -> int:
        """The number of errors."""
        return sum(problem.level is Level.ERROR for problem in self.problems)

    def in_order(self) -> list[Problem]:
        """Return the problems by location, without duplicates; of several at one location only the most severe."""
        most_severe: dict[tuple[int, int], Level] = {}
        levels = list(Level)
        for problem in self.problems:
            location = (problem.line, problem.column)
            most_severe[location] = min(most_severe.get(location, problem.level), problem.level, key=levels.index)
        unique = dict.fromkeys(self.problems)
        kept = [problem for problem in unique if most_severe[problem.line, problem.column] is problem.level]
        return sorted(kept, key=lambda problem: (problem.line, problem.column))

    def _add(self, level: Level, code: str, at: TextRange | TextLocation, message: str, fix: str | None) -> None:
        where = at if isinstance(at, TextLocation) else self._locate(at)
        self.problems.append(Problem(self._file, where.line, where.column, code, level, message, fix, where.length))

    def _locate(self, at: TextRange) -> TextLocation:
        line, column = self._position(at.start)
        line_end = _LINE_END.search(self.text, at.start, at.end)
        return TextLocation(line, column, max(1, (line_end.start() if line_end else at.end) - at.start))
