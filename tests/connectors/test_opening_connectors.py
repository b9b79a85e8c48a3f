from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.spec.test_settings_of_others import put

from speclab.connectors import References, open_reader, open_writer, opening
from speclab.connectors.base import Connector, Seams
from speclab.errors import SpecError
from speclab.installed import Installed
from speclab.spec.auth import NoAuth
from speclab.spec.system import System
from speclab.spec.systems.file import FileSystem
from speclab.spec.systems.http import HttpSystem
from speclab.spec.systems.sql import SqlSystem


def test_opening_needs_no_connection_and_no_loop(references: References, seams: Seams) -> None:
    http = HttpSystem(connector="http", base_url="http://127.0.0.1:1", key="id")
    sql = SqlSystem(connector="sql", url="sqlite:///x.db", key="id")
    for system, words in ((http, "an http source needs `read`"), (sql, "a sql source needs `read`")):
        with pytest.raises(SpecError, match=words):
            open_reader(system, NoAuth(), references, seams)
    for system, words in ((http, "an http target needs `write`"), (sql, "a sql target needs `write`")):
        with pytest.raises(SpecError, match=words):
            open_writer(system, NoAuth(), references, seams)
    open_reader(FileSystem(connector="file", path="*.csv", key="id"), NoAuth(), references, seams)


def test_what_is_for_one_end_alone_says_so_at_the_other(
    references: References, seams: Seams, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Connector[System] = Connector(None, None)
    monkeypatch.setattr(opening, "connector_of", lambda _: nothing)
    system = FileSystem(connector="file", path="*.csv", key="id")
    with pytest.raises(SpecError, match="the connector 'file' cannot read: it is for targets alone"):
        open_reader(system, NoAuth(), references, seams)
    with pytest.raises(SpecError, match="the connector 'file' cannot write: it is for sources alone"):
        open_writer(system, NoAuth(), references, seams)


def test_a_connector_that_is_not_installed_is_named(references: References, seams: Seams) -> None:
    system = HttpSystem.model_construct(connector="soap")
    with pytest.raises(SpecError, match="there is no connector 'soap' here; there is file, http, "):
        open_reader(system, NoAuth(), references, seams)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "1 / 0\n",
            r"speclab_soap:SOAP of speclab-soap 1\.0 cannot be loaded: ZeroDivisionError: .* at .*soap\.py:1; mend",
        ),
        ("SOAP = 1\n", r"speclab_soap:SOAP of speclab-soap 1\.0 is no speclab\.connectors\.base\.Connector; mend"),
    ],
)
def test_a_connector_that_is_broken_says_of_which_package_it_is(
    code: str, words: str, references: References, seams: Seams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "speclab-soap", code, "speclab.connectors", soap="SOAP")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "speclab_soap", raising=False)
    monkeypatch.setattr(opening, "CONNECTORS", Installed("speclab.connectors", opening.checked))
    with pytest.raises(SpecError, match=f"the connector 'soap' cannot be used: {words}"):
        open_reader(HttpSystem.model_construct(connector="soap"), NoAuth(), references, seams)


def test_connectors_are_loaded_when_they_are_opened_and_not_before() -> None:
    code = "import sys, speclab.connectors; print([m for m in ('httpx', 'aiohttp', 'sqlalchemy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
