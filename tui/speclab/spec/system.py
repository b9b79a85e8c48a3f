"""What the settings of every system have, whichever connector reads and writes it.

A connector, also one in a package of its own, describes its systems with a subclass of `System` and installs it as an
entry point of the group `speclab.settings`, under the name that specs use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, StrictBool

from speclab.paths import FieldPath
from speclab.spec.kinds import Duration, Key, Rates, Size, Text, Timeout, is_secret
from speclab.spec.reach import Reach
from speclab.spec.settings import Settings


class Limits(Settings):
    """What a system may be asked for."""

    rate: Rates = Field(
        default=(), description="requests a window, such as 100/min, or of several windows: [10/s, 1000/h]"
    )
    concurrency: int = Field(default=4, ge=1, le=1000, description="requests at once")
    timeout: Timeout = Field(default=30.0, description="how long one request may take")
    response: Size = Field(default=50_000_000, description="the largest answer that is read, unpacked")


class Since(Settings):
    """How only what changed is asked for."""

    param: Text | None = Field(default=None, description="parameter that carries the time or number to read from")
    field: Text = Field(description="path of the time or number in a record")
    start: Text | None = Field(default=None, description="where the very first run begins")
    lookback: Duration = Field(default=0.0, description="how far before the last one seen to ask again")
    sorted: StrictBool = Field(default=False, description="true if the source gives records in the order of `field`")


Missing = Annotated[
    Literal["keep", "delete"],
    Field(description="what becomes at the target of records that the source has no more, once all of it was read"),
]
"""What is done about records that are gone at the source."""


class System(Settings):
    """The settings of a Source System or a Target System section.

    A subclass that has a field `read` must be given it at the source, and one that has `write` at the target; its
    docstring and the descriptions of its fields are what the guide and the reference say.
    """

    logs_in: ClassVar[bool] = False
    """Whether a spec must say how to log in; otherwise it may."""

    connector: str = Field(description="what kind of system it is")
    key: Key = Field(description="path of a record's identity, or several")

    def destination(self) -> str:
        """Where records go, without credentials: what was written is remembered of that place and of no other.

        By default it is told by all settings, except limits and secrets. References are resolved when this is asked.
        """
        secrets = {name for name, info in type(self).model_fields.items() if is_secret(info)}
        settings = self.model_dump_json(exclude={"limits", *secrets})
        return f"{self.connector} {hashlib.sha256(settings.encode()).hexdigest()[:16]}"

    def reaches(self, role: str, workspace: Path) -> Iterator[Reach]:  # noqa: ARG002 - for subclasses
        """What this system uses outside of `workspace` beside its references and the hosts of URLs in its settings.

        References still stand in the settings. A connector that starts programs or opens files overrides this.
        """
        yield from ()

    def deletes_missing(self) -> bool:
        """Whether what this source has no more is to be deleted at the target, once all of the source was read.

        A connector whose settings can say so gives pages that tell whether the read is of the `whole` source.
        """
        return False

    def why_not_delete(self) -> str:
        """Why no record can be deleted at this target, and what to do; nothing if one can."""
        return ""

    def known_by(self) -> Sequence[FieldPath]:
        """What a delete at this target takes of a mapped record, or after `source` of the record before mapping."""
        return [FieldPath.parse(path) for path in ([self.key] if isinstance(self.key, str) else self.key)]

    def unclear_success(self) -> tuple[tuple[str, ...], str] | None:
        """The setting whose responses may not say what they did, and what is missing; None where all is clear."""
        return None

    def needs(self) -> Mapping[tuple[str, ...], Sequence[FieldPath]]:
        """What a mapped record must hold to be written at this target, by the setting that says so.

        By default nothing is known of that.
        """
        return {}


class Limited(System):
    """A system that must not be asked for more than its limits."""

    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")


def without_login(url: str) -> str:
    """`url` without who logs in, and without what goes with the database or the request but is not the place."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


NOT_RUN_YET: Final = frozenset({"webhook"})
"""Connectors that the format knows and this version cannot do."""
