"""What the end of a tap or target means: in words, and as a class of failure."""

from __future__ import annotations

import re
import signal
from typing import Final

from speclab.connectors.singer.program import Program
from speclab.errors import BadAnswer, SystemFailure, Unauthorized, Unreachable
from speclab.outcome import ErrorClass

_MEANINGS: Final = (
    (
        re.compile(
            r"\b40[13]\b.*(client error|unauthori[sz]ed|forbidden)|unauthori[sz]ed|invalid_grant|authentication failed",
            re.IGNORECASE,
        ),
        ErrorClass.UNAUTHORIZED,
    ),
    (re.compile(r"timed? ?out|timeout ?error", re.IGNORECASE), ErrorClass.TIMEOUT),
    (
        re.compile(
            r"connection (refused|reset|aborted)|could not connect|failed to (connect|establish)|no route to host"
            r"|name or service not known|name resolution|nodename nor servname|getaddrinfo|max retries exceeded",
            re.IGNORECASE,
        ),
        ErrorClass.NETWORK,
    ),
)
"""How the libraries that taps and targets are made with put it; a Singer process says no more than that it failed."""

_PLACE: Final = re.compile(
    r"\[Errno \d+\]|permission denied|no space left|read-only file system|disk full", re.IGNORECASE
)


def meaning(text: str) -> ErrorClass | None:
    """The class of failure that a line of a log speaks of, where it is one that no record is to blame for."""
    return next((kind for pattern, kind in _MEANINGS if pattern.search(text)), None)


def is_of_the_place(text: str) -> bool:
    """Whether a line of a log speaks of the machine or the place that is written to, and of no record."""
    return _PLACE.search(text) is not None


def how_it_ended(program: Program, code: int) -> str:
    """A process that did not end well, in words, with what it said last."""
    how = f"ended by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    cause = program.log.cause
    return f"{program.name}: {how}: {cause}" if cause else f"{program.name}: {how} and said nothing"


def failure(program: Program, code: int, request: str) -> SystemFailure:
    """The error of a tap or target that ended with `code`; its last lines are the answer it gave."""
    message, response = how_it_ended(program, code), program.log.tail
    match meaning(program.log.cause):
        case ErrorClass.UNAUTHORIZED:
            return Unauthorized(message, request=request, response=response, hint="Check the secrets in `config`.")
        case ErrorClass.NETWORK | ErrorClass.TIMEOUT:
            return Unreachable(message, request=request, response=response)
    hint = "Its last lines are in the run log." if response else "Try it by hand."
    if code == -signal.SIGKILL:
        hint = "Nothing here kills a program at work; is there too little memory?"
    return BadAnswer(message, request=request, response=response, hint=hint)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
