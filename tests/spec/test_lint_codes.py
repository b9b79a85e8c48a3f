"""The catalogue of problem codes is complete: every code is explained and used."""

from __future__ import annotations

import re
from pathlib import Path

import speclab.spec
from speclab.spec.problems import CODES

PACKAGE = Path(speclab.spec.__path__[0])
_CODE = re.compile(r'"([DFSAC]\d{3})"')


def test_every_raised_code_is_explained_and_every_explained_code_is_raised() -> None:
    raised = {
        code
        for part in ("spec", "mapping", "cli")
        for path in (PACKAGE.parent / part).rglob("*.py")
        if path.name != "codes.py"
        for code in _CODE.findall(path.read_text(encoding="utf-8"))
    }
    assert raised == set(CODES)


def test_codes_are_in_families_with_a_title_and_an_explanation() -> None:
    assert list(CODES) == [code.code for code in CODES.values()]
    for code in CODES.values():
        assert re.fullmatch(r"[DFSAC]\d{3}", code.code)
        assert code.title[0].isupper()
        assert not code.title.endswith(".")
        assert code.explanation.endswith(".")
    families = [code[0] for code in CODES]
    assert families == sorted(families, key="DFSAC".index)
