"""Every error speclab raises on purpose, in one tree, each with the exit code its family has.

SpeclabError
├── UsageError             a wrong argument, an unknown spec, section or row             exit 2
├── SpecError              a spec that cannot run; carries its problems                  exit 3
│   ├── UnresolvedReference    `${env:NAME}` and the like name nothing                   exit 3
│   └── Untrusted              it uses what nobody has agreed to                         exit 3
├── EditRefused            an edit that would change more than it is about               exit 1
├── SaveConflict           a file changed on disk, and cannot be merged (in `speclab.spec.merge`)  exit 1
├── SystemFailure          a system at either end                                        exit 1
│   ├── Unreachable        no connection, or none in time                                exit 4
│   ├── Unauthorized       it refuses the credentials                                    exit 4
│   └── BadAnswer          it answers something that is not what the spec says           exit 1
│       └── IncompleteRead     the read went to its end and may have missed records      exit 1
├── MappingFailure         a record its mapping cannot take (in `speclab.mapping`)       exit 1
├── SpecHeld               another run of the same spec is alive                         exit 1
├── WorkspaceHeld          another `speclab up` of the same workspace is alive           exit 1
└── RunLogError            the run log cannot be read or written                         exit 1
    ├── RunLogTooNew       its schema is newer than this speclab                         exit 1
    └── RunLogTooOld       its schema is older, and whoever reads may not change it      exit 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from speclab.core.outcome import ErrorClass

if TYPE_CHECKING:
    from speclab.spec.problems import Problem


class SpeclabError(Exception):
    """What went wrong, in a sentence; `hint` says what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SpeclabError):
    """An argument, or a name of something that is not there."""

    exit_code = 2


class SpecError(SpeclabError):
    """A spec that cannot run, with every problem that stands in the way."""

    exit_code = 3

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class UnresolvedReference(SpecError):
    """A `${kind:name}` whose kind is unknown or whose name is not set."""


class Untrusted(SpecError):
    """A spec that uses hosts, programs, secrets or files outside of its workspace to which nobody has agreed."""


class EditRejected(SpeclabError):
    """An edit that would change what stands around it; nothing was changed."""


class EndpointError(SpeclabError):
    """A system at either end; `request` and `response` are what was sent and what came, secrets taken out.

    `error_class` is what a run that ends by it is counted under: given where it is known, else the usual one.
    `retry_after` are the seconds that the system asks to be left alone for, where it does.
    """

    default_class: ClassVar[ErrorClass] = ErrorClass.BAD_ANSWER

    def __init__(
        self,
        message: str,
        *,
        request: str = "",
        response: str = "",
        hint: str = "",
        error_class: ErrorClass | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.request = request
        self.response = response
        self.error_class = error_class or self.default_class
        self.retry_after = retry_after


class Unreachable(EndpointError):
    """No connection, or no answer in time, after the retries the spec allows."""

    exit_code = 4
    default_class = ErrorClass.NETWORK


class Unauthorized(EndpointError):
    """The system refuses the credentials (401 or 403)."""

    exit_code = 4
    default_class = ErrorClass.UNAUTHORIZED


class BadResponse(EndpointError):
    """The system answered, but not with what the spec says: no JSON, no list at `records`, a loop of pages."""


class IncompleteRead(BadResponse):
    """The read went to its end and may have missed records: the run is partial and the next one reads them again."""


class SpecLocked(SpeclabError):
    """Another live process runs this spec."""


class WorkspaceLocked(SpeclabError):
    """Another live process runs the specs of this workspace on their schedules."""


class RunLogError(SpeclabError):
    """The run log cannot be opened, read or written."""


class RunLogTooNew(RunLogError):
    """The run log was written by a newer speclab."""


class RunLogTooOld(RunLogError):
    """The run log was written by an older speclab, and nothing has brought it up to date yet: a reader may not."""
