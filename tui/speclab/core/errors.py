"""The errors that speclab raises, in one tree, and the exit code of each family.

SpeclabError
├── UsageError              an invalid argument, an unknown spec, section or row           exit 2
│   ├── TooLarge            a spec over the size limit                                     exit 2
│   ├── RunNotFound         a report about a run that no report started                    exit 2
│   └── RunEnded            a report about a run that has ended                            exit 2
├── SpecError               a spec that cannot run, with its problems                      exit 3
│   ├── UnresolvedReference a reference such as `${env:NAME}` without a value              exit 3
│   └── Untrusted           a spec that uses resources that are not trusted yet            exit 3
├── EditRejected            an edit that would change more than it should                  exit 1
├── StatusRefused           a status whose conditions do not hold                          exit 1
├── SaveConflict            conflicting changes of a file (`speclab.spec.store`)           exit 1
├── EndpointError           a failure of the source or the target                          exit 1
│   ├── Unreachable         no connection, or no response in time                          exit 4
│   │   └── SilentProgram   a Singer program is silent (`speclab.connectors.singer`)       exit 4
│   ├── Unauthorized        rejected credentials                                           exit 4
│   │   └── GrantRejected   a rejected OAuth 2.0 grant (`speclab.connectors.auth`)         exit 4
│   └── BadResponse         a response that does not match the spec                        exit 1
│       └── IncompleteRead  a complete read that may have missed records                   exit 1
├── MappingFailure          a record that cannot be mapped (`speclab.mapping`)             exit 1
├── SpecLocked              another process is running the spec                            exit 1
├── WorkspaceLocked         another `speclab up` serves the workspace                      exit 1
└── RunLogError             a run log that cannot be read or written                       exit 1
    ├── RunLogTooNew        the schema is newer than this speclab                          exit 1
    └── RunLogTooOld        the schema is older and the reader cannot migrate it           exit 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from speclab.core.outcome import ErrorClass

if TYPE_CHECKING:
    from speclab.spec.problems import Problem


class SpeclabError(Exception):
    """The root of all errors of speclab: a message, and a `hint` with what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SpeclabError):
    """An argument is invalid, or names something that does not exist."""

    exit_code = 2


class TooLarge(UsageError):
    """A spec is larger than `speclab.core.files.MAX_SPEC_SIZE`: it is listed, but not parsed."""


class RunNotFound(UsageError):
    """A report names a run that does not exist, or that speclab runs itself."""


class RunEnded(UsageError):
    """A report names a run that has ended."""


class SpecError(SpeclabError):
    """A spec cannot run; `problems` are the reasons."""

    exit_code = 3

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class UnresolvedReference(SpecError):
    """A reference `${kind:name}` has an unknown kind, or its name is not set."""


class Untrusted(SpecError):
    """A spec uses hosts, programs, secrets or files outside its workspace that are not trusted yet."""


class EditRejected(SpeclabError):
    """An edit would change more than it should; nothing was changed."""


class StatusRefused(SpeclabError):
    """A spec does not meet the conditions of the status it should get; nothing was changed."""


class EndpointError(SpeclabError):
    """A source or target failed; `request` and `response` are shown with secrets redacted.

    `error_class` is the class of a run that ends with this error. `retry_after` are the seconds that the system asks to
    wait.
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
    """No connection, or no response in time, after the retries of the spec."""

    exit_code = 4
    default_class = ErrorClass.NETWORK


class Unauthorized(EndpointError):
    """The system rejected the credentials (401 or 403)."""

    exit_code = 4
    default_class = ErrorClass.UNAUTHORIZED


class BadResponse(EndpointError):
    """A response does not match the spec: not JSON, no list at `records`, a loop of pages."""


class IncompleteRead(BadResponse):
    """The read was complete but may have missed records: the run is partial, and the next one reads them again."""


class SpecLocked(SpeclabError):
    """Another process is running this spec."""


class WorkspaceLocked(SpeclabError):
    """Another process runs the specs of this workspace on their schedules."""


class RunLogError(SpeclabError):
    """The run log cannot be opened, read or written."""


class RunLogTooNew(RunLogError):
    """The run log was written by a newer speclab."""


class RunLogTooOld(RunLogError):
    """The run log was written by an older speclab and is not migrated yet; a reader cannot migrate it."""
