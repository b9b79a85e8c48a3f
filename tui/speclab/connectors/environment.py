"""The environment that references look into: the process's variables, and behind them those of a workspace's `.env`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from speclab.errors import UnresolvedReference


class Environment(Mapping[str, str]):
    """Variables by name; what the process was started with wins. The file is read when it is first needed."""

    def __init__(self, process: Mapping[str, str], file: Path) -> None:
        self._process = process
        self._file = file

    def __getitem__(self, name: str) -> str:
        """The value of `name`. Raises `KeyError`, and `UnresolvedReference` for a file that cannot be read."""
        return self._process[name] if name in self._process else self._of_file[name]

    def __iter__(self) -> Iterator[str]:
        """The names, those of the process first."""
        yield from self._process
        yield from (name for name in self._of_file if name not in self._process)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._process.keys() | self._of_file.keys())

    @cached_property
    def _of_file(self) -> Mapping[str, str]:
        """The file's variables as python-dotenv reads them; nothing in a value is interpreted."""
        from dotenv.parser import parse_stream

        try:
            with self._file.open(encoding="utf-8") as lines:
                bindings = list(parse_stream(lines))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UnresolvedReference(f"{self._file}: cannot be read: {reason}") from None
        for binding in bindings:
            if binding.error:
                line = binding.original.line
                raise UnresolvedReference(
                    f"{self._file}:{line}: expected NAME=value", hint="Quote a value of many lines."
                )
        return {one.key: one.value for one in bindings if one.key is not None and one.value is not None}
