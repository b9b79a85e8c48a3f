"""Destinations: the events of a run go to a file, standard error or the journal, and never stop the run."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from speclab.core.outcome import Level
from speclab.runlog import RunLog, RunLogReader, destinations
from speclab.runlog.destinations import LogDestination


def to(directory: Path, kind: str = "file", **given: object) -> LogDestination:
    values = {"level": Level.INFO, "format": "text", "size": 10_000, "keep": 2} | given
    return LogDestination(kind=kind, directory=directory, **values)  # type: ignore[arg-type]


@pytest.fixture
def logs(path: Path) -> Path:
    return path.parent / "logs"


def test_events_of_a_run_are_lines_of_a_private_file(log: RunLog, logs: Path) -> None:
    log.send_events("crm", to(logs))
    run = log.start_run("crm", "abc", "manual")
    log.log_event("crm", run, Level.WARNING, "log", "two\nlines\x1b[0m")
    log.log_event("erp", None, Level.WARNING, "log", "of another integration")
    log.finish_run(run)
    lines = (logs / "crm.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "info    crm: started by manual",
        r"warning crm: two\nlines\x1b[0m",
        "info    crm: succeeded",
    ]
    assert (logs / "crm.log").stat().st_mode & 0o777 == 0o600


def test_json_line_has_the_fields_of_the_event(log: RunLog, reader: RunLogReader, logs: Path) -> None:
    log.send_events("crm", to(logs, format="json", level=Level.WARNING))
    log.log_event("crm", None, Level.INFO, "log", "below the level")
    log.log_event("crm", None, Level.ERROR, "guard", 'ünü"sual', {"share": 0.5})
    (line,) = (logs / "crm.log").read_text().splitlines()
    event = reader.latest_events(1)[0]
    assert json.loads(line) == {
        "id": event.id,
        "at": "2026-11-24T10:42:07.123Z",
        "spec_id": "crm",
        "run": None,
        "level": "error",
        "kind": "guard",
        "message": 'ünü"sual',
        "fields": {"share": 0.5},
    }


def test_event_that_is_rolled_back_is_not_sent(log: RunLog, logs: Path) -> None:
    log.send_events("crm", to(logs))
    with pytest.raises(TypeError):
        log.log_event("crm", None, Level.INFO, "log", "lost", {"x": {1, 2}})  # type: ignore[dict-item]
    log.log_event("crm", None, Level.INFO, "log", "kept")
    assert [line[-4:] for line in (logs / "crm.log").read_text().splitlines()] == ["kept"]


def test_writers_that_share_a_file_rotate_it_without_losing_an_event(path: Path, logs: Path) -> None:
    def write(number: int) -> None:
        with RunLog.open(path) as one:
            one.send_events("crm", to(logs, size=5000, keep=50))
            for count in range(100):
                one.log_event("crm", None, Level.INFO, "log", f"{number}-{count}")

    threads = [Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = sorted(logs.glob("crm.log*"))
    assert len(files) > 2
    assert all(file.stat().st_size <= 5000 for file in files)
    written = [line.rpartition(" ")[2] for file in files for line in file.read_text().splitlines()]
    assert sorted(written) == sorted(f"{number}-{count}" for number in range(3) for count in range(100))


def test_file_that_cannot_be_written_is_one_event_and_stops_nothing(
    log: RunLog, reader: RunLogReader, logs: Path
) -> None:
    logs.write_text("no directory")
    log.send_events("crm", to(logs))
    run = log.start_run("crm", "abc", "manual")
    log.finish_run(run)
    events = reader.latest_events()
    assert [event.message for event in events if event.kind == "logging"] == [
        f"events are only in the run log: {logs}: File exists"
    ]
    assert [event.message for event in events if event.kind == "state"] == ["started by manual", "succeeded"]


def test_full_disk_is_one_event_until_there_is_space_again(log: RunLog, reader: RunLogReader, logs: Path) -> None:
    broken, lines = True, []

    def write(line: str) -> None:
        if broken:
            raise OSError(28, "No space left on device")
        lines.append(line)

    log.send_events("crm", to(logs, "stderr"), write)
    for message in ("a", "b"):
        log.log_event("crm", None, Level.INFO, "log", message)
    broken = False
    log.log_event("crm", None, Level.INFO, "log", "c")
    broken = True
    log.log_event("crm", None, Level.INFO, "log", "d")
    assert [event.message for event in reader.latest_events() if event.kind == "logging"] == [
        "events are only in the run log: standard error: No space left on device"
    ] * 2
    assert [line[-6:] for line in lines] == ["crm: c"]


def test_run_of_the_service_writes_to_the_standard_error_of_the_service(
    log: RunLog, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("SPECLAB_LOG_FD", str(writing))
    log.send_events("crm", to(logs, "stderr", format="json"))
    log.log_event("crm", None, Level.INFO, "log", "hello")
    os.close(writing)
    with os.fdopen(reading) as file:
        assert json.loads(file.read())["message"] == "hello"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(destinations, "JOURNAL", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(5)
        yield listener


def test_journal_gets_an_event_with_its_priority_and_fields(log: RunLog, logs: Path, journal: socket.socket) -> None:
    log.send_events("crm", to(logs, "journald"))
    log.log_event("crm", None, Level.WARNING, "guard", "two\nlines", {"share": 1})
    data = journal.recv(10_000)
    message = b"crm: two\nlines"
    assert data == (
        b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\nPRIORITY=4\nSYSLOG_IDENTIFIER=speclab\n"
        b'SPECLAB_SPEC=crm\nSPECLAB_KIND=guard\nSPECLAB_FIELDS={"share": 1}\n'
    )


def test_journal_gets_an_event_that_is_too_large_for_a_datagram(
    log: RunLog, logs: Path, journal: socket.socket
) -> None:
    log.send_events("crm", to(logs, "journald"))
    log.log_event("crm", None, Level.INFO, "log", "x" * 1_000_000)
    data, (descriptor,), _, _ = socket.recv_fds(journal, 10_000, 1)
    assert data == b""
    content = os.pread(descriptor, 2_000_000, 0)
    os.close(descriptor)
    assert content.startswith(b"MESSAGE=crm: xxx")
    assert content.count(b"x") == 1_000_000


def test_missing_journal_is_an_event(log: RunLog, reader: RunLogReader, logs: Path, journal: socket.socket) -> None:
    address = journal.getsockname()
    Path(address).unlink()
    log.send_events("crm", to(logs, "journald"))
    log.log_event("crm", None, Level.INFO, "log", "hello")
    assert reader.latest_events(1)[0].message == (
        f"events are only in the run log: {address}: No such file or directory"
    )
