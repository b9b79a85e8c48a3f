"""Connector plugins: used by specs that name them, without effect on other specs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from speclab.connectors.http.settings import HttpSystem
from speclab.core.outcome import Level
from speclab.core.plugins import BrokenPlugin, PluginRegistry
from speclab.mapping import lint
from speclab.spec import auth
from speclab.spec.document import Document
from speclab.spec.guide import guide
from speclab.spec.integration import Integration
from speclab.spec.parser import read_integration
from speclab.spec.problems import Problem
from speclab.spec.settings import System

FOLDER = """
    from pydantic import Field
    from speclab.connectors.api import Connector
    from speclab.spec.settings import System

    class Folder(System):
        \"\"\"A folder of documents.

        Not for the guide.
        \"\"\"

        path: str = Field(description="the folder")
        size: int = Field(default=100, description="documents a page")

    FOLDER = Connector(Folder, None)
    """
SPEC = """\
---
spec_id: folders
type: integration
status: draft
---

# Spec: Folders

## Integration Overview

### Source System

```yaml
connector: {source}
path: people
key: file
```

### Target System

```yaml
connector: {target}
path: out.jsonl
key: id
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.file | target.id | | |
"""
IMPORTS = "from speclab.connectors.api import Connector\nfrom speclab.spec.settings import System\n"
SOURCE = "Integration Overview > Source System"
TARGET = "Integration Overview > Target System"

Install = Callable[..., None]


def put(directory: Path, package: str, code: str, group: str, **entries: str) -> None:
    """Create a package in `directory` as an installer would: a module with its name, and entry points."""
    module = package.replace("-", "_")
    (directory / f"{module}.py").write_text(dedent(code))
    info = directory / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = (f"{name} = {module}:{found}\n" for name, found in entries.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{''.join(points)}")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with entry points of the group `speclab.connectors` for the duration of the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def install(package: str, code: str, **entries: str) -> None:
        put(tmp_path, package, code, "speclab.connectors", **entries)
        monkeypatch.setattr(auth, "SYSTEMS", PluginRegistry("speclab.connectors", auth.validate_settings))

    yield install
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def read(source: str = "folder", target: str = "file", more: str = "") -> tuple[Integration | None, list[Problem]]:
    text = SPEC.format(source=source, target=target).replace("key: file", f"key: file{more}")
    return read_integration(Document.parse(text, path=Path("folders.md")))


def render(problems: list[Problem]) -> list[str]:
    return [f"{one.line}:{one.column} {one.code} {one.message}" for one in problems]


def test_spec_accepts_the_settings_of_a_package(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    integration, problems = read(more="\nsize: 7")
    assert render(problems) == []
    assert integration is not None
    assert integration.source.model_dump() == {"connector": "folder", "key": "file", "path": "people", "size": 7}


def test_problems_in_settings_of_a_plugin_are_reported(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    assert render(read(more="\nsiez: 7")[1]) == ["17:1 S202 unknown setting 'siez'; did you mean 'size'?"]


def test_misspelled_plugin_name_is_reported_with_the_nearest(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    found = read("fodler")[1]
    assert "14:12 S204 unknown connector 'fodler'; did you mean 'folder'?" in render(found)


def test_unknown_connector_is_reported_with_the_installed_ones_and_what_to_do(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    (reported,) = [line for line in render(read("kafka")[1]) if "S204" in line]
    assert reported.startswith("14:12 S204 unknown connector 'kafka'; expected one of 'external', 'file', 'http', ")
    assert reported.endswith("'folder'; other connectors need their package installed beside speclab")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import mailbox\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' at {}:2; "),
        ("class Folder(:\n", "SyntaxError: invalid syntax (speclab_folder.py, line 1); "),
        ("raise SystemExit('not on this machine')\n", "SystemExit: not on this machine at {}:1; "),
        ("", "AttributeError: module 'speclab_folder' has no attribute 'FOLDER'; "),
        (
            "from speclab.connectors.api import Connector\nFOLDER = Connector(int, None)\n",
            "speclab_folder:FOLDER of speclab-folder 1.0 has settings that are not a subclass of ",
        ),
        (
            "FOLDER = 1\n",
            "speclab_folder:FOLDER of speclab-folder 1.0 is not a speclab.connectors.api.Connector with `settings`; ",
        ),
        (
            f"{IMPORTS}class Folder(System):\n    path: 'Pfad'\nFOLDER = Connector(Folder, None)\n",
            "'Pfad' is not defined",
        ),
        (
            f"{IMPORTS}class Folder(System):\n    inner: 'Folder | None' = None\nFOLDER = Connector(Folder, None)\n",
            "of speclab-folder 1.0 has settings that contain themselves: Folder; ",
        ),
    ],
)
def test_broken_plugin_is_reported_only_in_specs_that_use_it(
    install: Install, tmp_path: Path, code: str, expected: str
) -> None:
    install("speclab-folder", code, folder="FOLDER")
    reported = render(read()[1])
    assert reported[0].startswith("14:12 S209 the connector 'folder' cannot be used: ")
    assert expected.format(tmp_path / "speclab_folder.py") in reported[0]
    assert reported[0].endswith("; fix the package, or uninstall it")
    assert read("file")[1] == []


def test_plugin_that_fails_to_check_settings_is_reported_in_the_spec(install: Install, tmp_path: Path) -> None:
    code = """\
        from pydantic import field_validator
        from speclab.connectors.api import Connector
        from speclab.spec.settings import System

        class Folder(System):
            path: str

            @field_validator("path")
            def known(cls, path):
                return {}[path]

        FOLDER = Connector(Folder, None)
        """
    install("speclab-folder", code, folder="FOLDER")
    location = f"{tmp_path / 'speclab_folder.py'}:10"
    assert render(read()[1]) == [
        f"14:12 S209 speclab-folder 1.0 failed to check these settings: KeyError: 'people' at {location}"
    ]


def test_nested_secret_of_a_plugin_must_be_a_reference(install: Install) -> None:
    code = """
        from speclab.spec.settings_types import Secret
        from speclab.spec.settings import Settings
        from speclab.connectors.api import Connector
        from speclab.spec.settings import System

        class Login(Settings):
            code: Secret

        class Folder(System):
            path: str
            login: Login

        FOLDER = Connector(Folder, None)
        """
    install("speclab-folder", code, folder="FOLDER")
    assert render(read(more="\nlogin: {code: '1234'}")[1]) == [
        "17:15 A101 the file contains a secret; move it to the environment and write ${env:SOURCE_CODE}"
    ]
    assert read(more="\nlogin: {code: '${env:CODE}'}")[1] == []


def test_guide_lists_plugins_and_their_defects(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    install("speclab-broken", "1 / 0\n", broken="Broken")
    found = {variant.name: variant for variant in guide(SOURCE).variants}
    assert next(iter(found)) == "http"
    assert found["http"].provider == ""
    assert (found["folder"].summary, found["folder"].provider) == ("A folder of documents.", "speclab-folder 1.0")
    settings = [(setting.name, setting.type, setting.default) for setting in found["folder"].settings]
    assert settings[0] == ("connector", "folder", "")
    assert settings[2:] == [("path", "text", ""), ("size", "whole number", "100")]
    assert found["broken"].summary.startswith("Not usable: speclab_broken:Broken of speclab-broken 1.0 ")


def test_read_only_system_cannot_be_a_target(install: Install) -> None:
    code = """
        from speclab.spec.settings import Settings
        from speclab.connectors.api import Connector
        from speclab.spec.settings import System

        class Feed(System):
            path: str
            read: Settings | None = None

        FEED = Connector(Feed, None)
        """
    install("speclab-feed", code, feed="FEED")
    assert "feed" in [variant.name for variant in guide(SOURCE).variants]
    assert "feed" not in [variant.name for variant in guide(TARGET).variants]
    assert render(read("file", "feed")[1]) == ["22:1 S207 'feed' has no `write`: it cannot be a target"]
    assert render(read("feed")[1]) == ["14:1 S207 `read` is missing; a source needs it"]


def test_settings_of_a_plugin_with_known_names_keep_their_own_meaning(install: Install) -> None:
    code = """
        from speclab.spec.settings import Settings
        from speclab.connectors.api import Connector
        from speclab.spec.settings import System

        class Read(Settings):
            deleted: str

        class Feed(System):
            path: str
            read: Read | None = None

        FEED = Connector(Feed, None)
        """
    install("speclab-feed", code, feed="FEED")
    document = Document.parse(
        SPEC.format(source="feed", target="file").replace("key: file", "key: file\nread: {deleted: no CEL}")
    )
    assert [problem for problem in lint(document) if problem.level is Level.ERROR] == []


def test_system_that_requires_auth_needs_an_auth_section(install: Install) -> None:
    code = """
        from speclab.connectors.api import Connector
        from speclab.spec.settings import System

        class Shop(System):
            requires_auth = True
            path: str

        SHOP = Connector(Shop, None)
        """
    install("speclab-shop", code, shop="SHOP")
    assert [line for line in render(read("shop")[1]) if "'Source System Auth' is missing" in line]


def test_plugins_cannot_replace_built_in_connectors(install: Install) -> None:
    install("aaa-speclab-http", FOLDER, http="FOLDER")
    assert auth.SYSTEMS["http"] is HttpSystem
    assert auth.SYSTEMS.provider("http") == ""


def test_name_provided_by_two_packages_is_rejected(install: Install) -> None:
    install("speclab-folder", FOLDER, folder="FOLDER")
    install("speclab-folders", FOLDER, folder="FOLDER")
    found = auth.SYSTEMS["folder"]
    assert isinstance(found, BrokenPlugin)
    assert found.reason == (
        "'folder' is given by speclab-folder 1.0 and speclab-folders 1.0; uninstall all but one of them"
    )


def test_nothing_is_imported_before_it_is_named(install: Install) -> None:
    install("speclab-folder", "1 / 0\n", folder="FOLDER")
    assert "folder" in auth.SYSTEMS
    assert read("file")[1] == []
    assert "speclab_folder" not in sys.modules


def test_every_kind_of_system_has_one_base() -> None:
    assert all(isinstance(model, type) and issubclass(model, System) for model in auth.SYSTEMS.values())
