"""The values that cross every border here: what JSON can say, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
Record: TypeAlias = dict[str, Json]
"""One record, as read or as mapped: a JSON object."""

JsonView: TypeAlias = "None | bool | int | float | str | Sequence[JsonView] | Mapping[str, JsonView]"
"""The same, for those that only look."""
