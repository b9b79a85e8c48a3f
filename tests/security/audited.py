"""`python audited.py LOG OUTSIDE ARGS...`: run `speclab ARGS` and log its system access to LOG.

A line is `event detail`: connections, processes, opened files below OUTSIDE, and at the end the peak memory.
"""

from __future__ import annotations

import atexit
import os
import resource
import sys

_LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_OUTSIDE = sys.argv[2]
_EVENTS = frozenset(
    {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}
)


def _note(event: str, what: object) -> None:
    os.write(_LOG, f"{event} {what!r}\n".encode("utf-8", "backslashreplace"))


def _peak() -> int:
    """Return the peak memory in KB, since this program started where the kernel reports that.

    `ru_maxrss` also counts the process that forked this one: a test run of several hundred MB.
    """
    try:
        with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123 - few imports before the hook
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event in _EVENTS:
        _note(event, args[:2])
    elif event in {"open", "sqlite3.connect"} and isinstance(args[0], str | bytes | os.PathLike):
        follows = event != "open" or not (isinstance(args[2], int) and args[2] & os.O_NOFOLLOW)
        if follows and os.path.realpath(os.fsdecode(args[0])).startswith(_OUTSIDE):
            _note(event, args[0])


sys.addaudithook(_hook)
atexit.register(lambda: _note("peak", _peak()))
sys.argv = ["speclab", *sys.argv[3:]]

from speclab.cli import main  # noqa: E402 - after the hook

main()
