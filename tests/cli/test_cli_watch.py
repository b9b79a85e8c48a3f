"""`speclab watch`: every saved change of a spec or its sample is checked."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cli.conftest import Shell

Said = Callable[[str], None]


@contextmanager
def watching(shell: Shell) -> Iterator[Said]:
    """Run `speclab watch`; yield a function that waits for its next output."""
    output = shell.directory / "watch.txt"
    seen = 0
    with (
        output.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "speclab", "watch"], cwd=shell.directory, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):

        def printed(text: str) -> None:
            nonlocal seen
            end = time.monotonic() + 60
            while (found := output.read_text().find(text, seen)) < 0:
                assert time.monotonic() < end, output.read_text()
                time.sleep(0.05)
            seen = found + len(text)

        try:
            yield printed
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_watch_lints_and_maps_the_sample_on_a_change(people: Shell) -> None:
    sample = people.directory / ".speclab/samples/people.jsonl"
    sample.parent.mkdir(parents=True)
    shutil.copy(people.directory / "in.jsonl", sample)
    spec = people.directory / "specs/people.md"
    good = spec.read_text()
    with watching(people) as printed:
        printed("specs/people.md:46:33: 1 of 3 fail on name: the value is null or missing\n")
        printed("specs/people.md: sample of 3: 2 pass, 0 filtered, 1 fail\n")
        printed("watching 1 spec;")
        spec.write_text(good.replace("Required, Trim", "Trimm"))
        printed("specs/people.md:46:33: M101 unknown step 'Trimm'. Did you mean 'Trim'?\n")
        printed("specs/people.md: 1 error, 0 warnings\n")
        spec.write_text(good.replace("source.name", "source.nmae").replace("Required, Trim", "Trim"))
        printed("M201 'nmae' is missing in all 3 sample records and is null. Did you mean 'name'?\n")
        spec.write_text(good.replace("Required, Trim", "Trim"))
        printed("sample of 3: 3 pass")
        sample.write_text('{"id": 1, "name": "Ada"}\n')
        printed("sample of 1: 1 pass")
        people("new", "orders")
        printed("specs/orders.md: ")


def test_watch_lints_a_spec_in_a_new_directory(people: Shell) -> None:
    with watching(people) as printed:
        printed("watching 1 spec;")
        (people.directory / "new" / "deep").mkdir(parents=True)
        time.sleep(1)
        shutil.copy(people.directory / "specs/people.md", people.directory / "new/deep/orders.md")
        printed("new/deep/orders.md: 0 errors")
