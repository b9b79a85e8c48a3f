"""The settings that the page on writing over HTTP shows are ones that a spec can have, and a run can work with."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.docs.test_docs import ROOT, blocks

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.spec.auth import NoAuth
from speclab.spec.document import Document
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings_block import read_block, to_model

PAGE = ROOT / "docs" / "how-to" / "write-over-http.md"
SYSTEM = "connector: http\nbase_url: https://api.example.com\nkey: id\n"


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"))
async def test_each_block_is_well(block: str, tmp_path: Path) -> None:
    document = Document.parse(f"## Target System\n```yaml\n{SYSTEM}{block}```\n")
    findings = ProblemCollector("page.md", document.text, document.position)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    system = to_model(tree, HttpSystem, findings)
    assert findings.in_order() == []
    assert system is not None
    writer = open_writer(system, NoAuth(), References({}, tmp_path), RuntimeContext(SystemClock(), Random(0)))
    await writer.close()
