from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.spec.test_settings_of_others import put

from speclab.connectors import registry
from speclab.connectors.api import Connector, ConnectorParts, RuntimeContext
from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.errors import SpecError
from speclab.core.plugins import PluginRegistry
from speclab.spec.auth import NoAuth
from speclab.spec.settings import System


def test_opening_needs_no_connection_and_no_loop(references: References, context: RuntimeContext) -> None:
    http = HttpSystem(connector="http", base_url="http://127.0.0.1:1", key="id")
    sql = SqlSystem(connector="sql", url="sqlite:///x.db", key="id")
    for system, message in ((http, "an http source needs `read`"), (sql, "a sql source needs `read`")):
        with pytest.raises(SpecError, match=message):
            open_reader(system, NoAuth(), references, context)
    for system, message in ((http, "an http target needs `write`"), (sql, "a sql target needs `write`")):
        with pytest.raises(SpecError, match=message):
            open_writer(system, NoAuth(), references, context)
    open_reader(FileSystem(connector="file", path="*.csv", key="id"), NoAuth(), references, context)


def test_setting_for_one_role_is_rejected_for_the_other(
    references: References, context: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: ConnectorParts[System] = ConnectorParts()
    monkeypatch.setattr(registry, "load_parts", lambda _: nothing)
    system = FileSystem(connector="file", path="*.csv", key="id")
    with pytest.raises(SpecError, match="the connector 'file' cannot be a source: it only writes"):
        open_reader(system, NoAuth(), references, context)
    with pytest.raises(SpecError, match="the connector 'file' cannot be a target: it only reads"):
        open_writer(system, NoAuth(), references, context)


def test_missing_connector_is_named(references: References, context: RuntimeContext) -> None:
    system = HttpSystem.model_construct(connector="soap")
    with pytest.raises(SpecError, match="the connector 'soap' is not installed; installed are external, file, http, "):
        open_reader(system, NoAuth(), references, context)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "1 / 0\n",
            r"speclab_soap:SOAP of speclab-soap 1\.0 cannot be loaded: ZeroDivisionError: .* at .*soap\.py:1; fix",
        ),
        ("SOAP = 1\n", r"speclab_soap:SOAP of speclab-soap 1\.0 is not a speclab\.connectors\.api\.Connector; fix"),
    ],
)
def test_broken_connector_names_its_package(
    code: str,
    message: str,
    references: References,
    context: RuntimeContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(tmp_path, "speclab-soap", code, "speclab.connectors", soap="SOAP")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "speclab_soap", raising=False)
    monkeypatch.setattr(registry, "CONNECTORS", PluginRegistry("speclab.connectors", registry.validate_connector))
    with pytest.raises(SpecError, match=f"the connector 'soap' cannot be used: {message}"):
        open_reader(HttpSystem.model_construct(connector="soap"), NoAuth(), references, context)


def test_connector_whose_parts_cannot_be_imported_is_an_error_of_the_spec(
    references: References, context: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> ConnectorParts[System]:
        raise ImportError("no driver for soap")

    monkeypatch.setattr(registry, "CONNECTORS", {"soap": Connector(System, load)})
    reason = "the connector 'soap' cannot be used: its parts cannot be loaded: ImportError: no driver for soap"
    with pytest.raises(SpecError, match=reason):
        open_reader(HttpSystem.model_construct(connector="soap"), NoAuth(), references, context)


SPEC_OF_ALL_CONNECTORS = """\
---
spec_id: all
type: integration
---
# Spec: All
## Integration Overview
### Source System
```yaml
connector: {source}
```
### Target System
```yaml
connector: {target}
```
"""
LOADED = """
import sys
from speclab.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"httpx", "aiohttp", "sqlalchemy", "fsspec", "pyarrow"}
parts = ("reader", "writer", "discovery", "journal")
ours = (name for name in sys.modules if name.startswith("speclab.connectors."))
print(sorted([*(heavy & sys.modules.keys()), *(name for name in ours if name.endswith(parts))]))
"""


@pytest.mark.parametrize(("source", "target"), [("http", "sql"), ("file", "singer")])
def test_linting_a_spec_loads_only_the_settings_of_its_connectors(source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "all.md").write_text(SPEC_OF_ALL_CONNECTORS.format(source=source, target=target))
    command = [sys.executable, "-c", LOADED, "lint", "all.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "S201" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


async def test_reader_that_does_not_override_acknowledge_ignores_it(
    references: References, context: RuntimeContext
) -> None:
    reader = open_reader(FileSystem(connector="file", path="*.csv", key="id"), NoAuth(), references, context)
    await reader.acknowledge({"any": "cursor"})
