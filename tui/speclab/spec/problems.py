"""Problems: their codes, their place in the file, and collecting them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from speclab.core.outcome import Level

_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1, columns in characters; `length` is for underlining.

    `fix` is the text that should stand there instead, where speclab knows it (what the app's fix key writes); the
    message alone must already say what to do.
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
        """`file:line:column: CODE message`, as editors and compilers write it: a line that no terminal obeys."""
        message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], self.message)
        return f"{self.file}:{self.line}:{self.column}: {self.code} {message}"


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of problem: its title, and why it is one with the way out of it."""

    code: str
    title: str
    explanation: str


_ALL: Final = (
    Code(
        "D101",
        "A section is missing",
        "Other tools and the engine find a section by its heading. Put the heading back where the template has it.",
    ),
    Code(
        "D102",
        "A section is empty",
        "The engine needs what belongs here before it can run the spec. A draft may leave it for later.",
    ),
    Code(
        "D103",
        "A section is there twice",
        "Two sections of one heading path both speak to the engine, and only one can be meant. Merge or rename one.",
    ),
    Code(
        "D104",
        "A section has no settings block",
        "Prose is for people. What the engine needs stands in a fenced block that begins with ```yaml.",
    ),
    Code(
        "D201",
        "The Field Mapping has no rows",
        "A run writes what the rows of the table make. The template's example rows count as none.",
    ),
    Code(
        "D202",
        "A column is missing from the Field Mapping table",
        "The table needs Source Field, Target Field and Transformation, in any order; more columns are kept.",
    ),
    Code(
        "D301",
        "A target path is written twice",
        "A row's identity is its target path, so each may stand in one row only.",
    ),
    Code(
        "D302",
        "A row has no target",
        "A row without a target path makes a value that goes nowhere.",
    ),
    Code(
        "D303",
        "A path cannot be read",
        'Paths are dotted, with [n] for the items of a list and ["odd key"] for keys with odd characters.',
    ),
    Code(
        "D304",
        "A row has more cells than the table has columns",
        r"Markdown drops what is beyond the last column. A pipe inside a cell is written \|.",
    ),
    Code(
        "D105",
        "A spec is too large",
        "A file of more than 1 MB is listed, and neither parsed nor run: it would make every command slow. Split the "
        "spec, or move what is not about the integration to another file.",
    ),
    Code(
        "F101",
        "The front matter cannot be read",
        "It stands between two lines of --- at the very top of the file and is YAML.",
    ),
    Code(
        "F102",
        "A key is missing from the front matter",
        "spec_id, type and status say which spec this is, who reads it and how far it is.",
    ),
    Code(
        "F103",
        "A spec_id cannot be used",
        "It names the integration in the run log, in file names and on the command line: letters, digits, - _ and .",
    ),
    Code(
        "F104",
        "A status is unknown",
        "A spec is draft, approved, in-progress or completed.",
    ),
    Code(
        "F105",
        "A key is written twice in the front matter",
        "YAML readers silently keep one of the two; speclab keeps the last.",
    ),
    Code(
        "F106",
        "A file is of a type that does not run",
        "Only `type: integration` runs; specs of other types are listed, edited and left alone.",
    ),
    Code(
        "F107",
        "Two specs have one spec_id",
        "The run log knows a spec by it, so that they would share their cursor, their records and their dead letters. "
        "A copy needs a spec_id of its own.",
    ),
    Code(
        "S101",
        "A settings block is broken YAML",
        "Nothing in the block can be read before this is mended.",
    ),
    Code(
        "S102",
        "A value must be quoted",
        'Braces, brackets, colons and some first characters are YAML\'s own. In {upsert: "PUT /a/{id}"} the quotes '
        "make it text.",
    ),
    Code(
        "S103",
        "A key is written twice",
        "YAML readers silently keep one of the two; speclab keeps neither.",
    ),
    Code(
        "S104",
        "A settings block is no mapping",
        "A settings block is lines of `key: value`.",
    ),
    Code(
        "S105",
        "A value means different things to different readers",
        "YAML 1.1 reads yes, on, 017 and 12:30 as true, true, 15 and 750; YAML 1.2, and speclab, as they are written. "
        "Quotes make it the same everywhere.",
    ),
    Code(
        "S106",
        "Anchors, aliases, tags and merge keys are not used here",
        "A settings block is plain data that any reader understands at sight. Write the value out.",
    ),
    Code(
        "S107",
        "A settings block is never closed",
        "Everything after an open fence belongs to it. Close it with the same fence on a line of its own.",
    ),
    Code(
        "S108",
        "A settings block is nested too deep",
        "No setting is deeper than a few levels.",
    ),
    Code(
        "S109",
        "A second settings block is not read",
        "The first fenced yaml block of a section holds its settings; others are prose.",
    ),
    Code(
        "S201",
        "A setting is missing",
        "The engine has no default for it that would be right.",
    ),
    Code(
        "S202",
        "A setting is unknown",
        "A misspelt setting would be silently without effect.",
    ),
    Code(
        "S203",
        "A setting has a value of the wrong kind",
        "The message says what was expected.",
    ),
    Code(
        "S204",
        "A setting has an unknown value",
        "The message lists the values there are.",
    ),
    Code(
        "S205",
        "Settings do not go together",
        "Some settings need each other, or exclude each other.",
    ),
    Code(
        "S206",
        "A setting is known but not run yet",
        "The spec format has it; this version of speclab cannot do it.",
    ),
    Code(
        "S207",
        "A system does not say how it is read or written",
        "A source needs `read`, a target needs `write`.",
    ),
    Code(
        "S208",
        "A setting has no effect here",
        "It belongs to the other end: `read` is for the source, `write` for the target.",
    ),
    Code(
        "S209",
        "A connector cannot be used",
        "A package that is installed beside speclab gives a connector of that name, and something is wrong with the "
        "package. The message says what; other specs are not touched by it.",
    ),
    Code(
        "S210",
        "The target cannot delete",
        "What the source has no more is to be deleted there. Give the target a way to, or leave `missing` out.",
    ),
    Code(
        "S211",
        "No row makes what the target needs",
        "The key of an upsert, and what stands in braces in a request, are taken of the mapped record: without it no "
        "record can be written. Add a row for it, or name a field that the table makes.",
    ),
    Code(
        "S212",
        "Success of a batch is not defined",
        "The response to a batch is one for many records. Say with `results` where each record has its own result, or "
        "with `ok` what a successful response is; without either, only known signs of a failure are recognised.",
    ),
    Code(
        "A101",
        "A secret stands in the file",
        "A spec is shared, copied and versioned. Put the secret into the environment and its name here, as "
        "${env:NAME}; and change the secret, for it has been seen.",
    ),
    Code(
        "A102",
        "A reference is of an unknown kind",
        "References are ${env:NAME}, ${file:PATH}, ${keyring:SERVICE/NAME}, ${vault:PATH#KEY} and ${aws:NAME#KEY}.",
    ),
    Code(
        "A103",
        "A reference cannot be read",
        "It is a dollar sign and, in braces, a kind, a colon and a name: ${env:CRM_TOKEN}.",
    ),
    Code(
        "A104",
        "A password or a key stands in a URL",
        "A URL may hold references: postgresql://sync:${env:DB_PASSWORD}@db/crm.",
    ),
    Code(
        "A105",
        "Credentials are sent unencrypted",
        "Over http:// everybody on the way can read a token, key or password. Use https://; a server on this machine "
        "(localhost, 127.0.0.1) is not warned of.",
    ),
    Code(
        "C101",
        "A choice is unknown",
        "The first line of the section is one of the forms in the message; prose may follow on the lines below it.",
    ),
    Code(
        "C102",
        "A choice is known but not run yet",
        "The spec format has it; this version of speclab cannot do it.",
    ),
    Code(
        "C103",
        "A schedule cannot be kept",
        "A time of day is HH:MM, a zone an IANA name such as Europe/Berlin, a cron expression has five fields.",
    ),
    Code(
        "C201",
        "A row of Error Types is for people only",
        "When is a status (429, 5xx, 400-404) or a class (network, timeout), Action what to do. The defaults decide "
        "instead.",
    ),
    Code(
        "C202",
        "A rule can never decide",
        "A rule before it takes all it would match, or its failures are decided without the table.",
    ),
    Code(
        "C301",
        "A row of Alerts is for people only",
        'When is an expression over the run log, such as success_rate("1h") < 0.9, For a duration.',
    ),
    Code(
        "C401",
        "An expression cannot be read",
        "Alerts and acceptance criteria are written in CEL.",
    ),
)

CODES: Final = {code.code: code for code in _ALL}


_LINE_END: Final = re.compile(r"[\r\n]")


class TextRange(Protocol):
    """Anything that lies between two offsets in a file's text."""

    @property
    def start(self) -> int:
        """Offset of the first character."""

    @property
    def end(self) -> int:
        """Offset after the last character."""


class ProblemCollector:
    """The problems of one file.

    `position` gives line and column (from 1) of an offset in `text`. `needs` is how much it matters that something
    is not there yet or cannot be run yet: an error to a run, a mere note about a draft.
    """

    def __init__(
        self, file: str, text: str, position: Callable[[int], tuple[int, int]], *, needs: Level = Level.ERROR
    ) -> None:
        self._file = file
        self.text = text
        self._position = position
        self._needs = needs
        self._problems: list[Problem] = []

    def error(self, code: str, at: TextRange, message: str, fix: str | None = None) -> None:
        """Something wrong; `fix` is what should stand at `at` instead."""
        self._add(Level.ERROR, code, at, message, fix)

    def warning(self, code: str, at: TextRange, message: str, fix: str | None = None) -> None:
        """Something that is probably not what is meant."""
        self._add(Level.WARNING, code, at, message, fix)

    def note(self, code: str, at: TextRange, message: str) -> None:
        """Something worth knowing."""
        self._add(Level.INFO, code, at, message, None)

    def need(self, code: str, at: TextRange, message: str) -> None:
        """Something a run needs that is not there yet."""
        self._add(self._needs, code, at, message, None)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Problems found elsewhere, as they are."""
        self._problems.extend(problems)

    @property
    def errors(self) -> int:
        """How many of them are errors."""
        return sum(problem.level is Level.ERROR for problem in self._problems)

    def in_order(self) -> list[Problem]:
        """All of them by place; of different levels at one place the gravest, for the others follow from it."""
        gravest: dict[tuple[int, int], Level] = {}
        levels = list(Level)
        for problem in self._problems:
            place = (problem.line, problem.column)
            gravest[place] = min(gravest.get(place, problem.level), problem.level, key=levels.index)
        told = dict.fromkeys(self._problems)
        kept = [problem for problem in told if gravest[problem.line, problem.column] is problem.level]
        return sorted(kept, key=lambda problem: (problem.line, problem.column))

    def _add(self, level: Level, code: str, at: TextRange, message: str, fix: str | None) -> None:
        line, column = self._position(at.start)
        line_end = _LINE_END.search(self.text, at.start, at.end)
        length = max(1, (line_end.start() if line_end else at.end) - at.start)
        self._problems.append(Problem(self._file, line, column, code, level, message, fix, length))
