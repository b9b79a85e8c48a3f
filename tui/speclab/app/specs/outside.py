"""A section in the editor of a person's choice: `$VISUAL`, `$EDITOR` or vi, on a file of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from speclab.errors import SpeclabError
from speclab.launcher import attach, detach


def edited(body: str, name: str) -> str:
    """`body` after a person edited it in a file called like `name`; waits for the editor to end.

    Raises `SpeclabError` if the editor cannot be started or ends badly.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="speclab-") as directory:
        path = Path(directory, f"{name}.md")
        path.write_bytes(body.encode("utf-8", "surrogateescape"))
        try:
            process = subprocess.Popen([*shlex.split(command), str(path)])
        except (OSError, ValueError) as error:
            hint = "set EDITOR to one that is there, such as EDITOR=nano"
            raise SpeclabError(f"the editor {command!r} cannot be started: {error}", hint=hint) from error
        attach(process.pid)
        code = process.wait()
        detach(process.pid)
        if code != 0:
            raise SpeclabError(f"the editor {command!r} ended with exit code {code}")
        return path.read_bytes().decode("utf-8", "surrogateescape")
