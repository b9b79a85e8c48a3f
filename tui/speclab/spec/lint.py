"""The problems of a document as it is now: a draft may be unfinished, another's file is left alone."""

from __future__ import annotations

from speclab.outcome import Level
from speclab.spec.document import Document
from speclab.spec.header import is_other, is_readable
from speclab.spec.problem import Problem
from speclab.spec.read import Reading, read


def lint(document: Document) -> list[Problem]:
    """The problems of `document` by place, those of its CEL and its mapping's cells not among them."""
    return list(examine(document).problems)


def examine(document: Document) -> Reading:
    """What `document` says, and its problems.

    What is not filled in yet is a note, and an error once the spec is in progress. A file of another type, or without
    front matter that can be read, says nothing and has no problems but those of the front matter.
    """
    front_matter = document.front_matter
    if is_other(document) or not front_matter.present or not is_readable(document):
        return Reading(None, (), None, (), front_matter.problems)
    return read(document, Level.ERROR if front_matter.get("status") == "in-progress" else Level.INFO)
