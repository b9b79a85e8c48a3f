"""What a read would find missing, foretold for a plan: the run log is read, and nothing in it is changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from speclab.jsonvalue import Record
from speclab.runlog.encoding import as_json, text
from speclab.runlog.presence import PLACE, Missing, Sweep
from speclab.runlog.trouble import telling

_SOME: Final = 500
_MISSING: Final = f"""
WITH known AS (
    SELECT key, max(sweep) AS sweep, max(identity) AS identity, min(gone) AS gone FROM (
        SELECT key, sweep, identity, gone FROM presence WHERE integration = :integration
        UNION ALL SELECT key, sweep, identity, 0 FROM unmerged)
    GROUP BY key),
taken AS (
    SELECT place FROM seen
    UNION SELECT {PLACE} FROM known WHERE sweep >= :before OR key IN (SELECT key FROM seen))
SELECT key, identity FROM known
WHERE sweep < :before AND NOT gone AND identity IS NOT NULL AND key NOT IN (SELECT key FROM seen)
    AND NOT EXISTS (SELECT 1 FROM taken WHERE place = {PLACE})"""


class Foresight:
    """The records of one integration, and which of them a read has seen; those are kept in a temporary table."""

    def __init__(self, path: Path, spec_id: str, target: str) -> None:
        """Of `spec_id` in the run log at `path`, whose records are at `target`."""
        self._path = path
        with telling(path):
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._db.execute("CREATE TEMP TABLE seen (key TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
            self._db.execute("CREATE TEMP TABLE unmerged (sweep INTEGER, key TEXT, identity TEXT)")
            row = self._db.execute(
                "SELECT id, latest, held, CASE WHEN undecided THEN complete ELSE 0 END "
                "FROM integration LEFT JOIN sweep ON integration = id AND target = ? WHERE spec_id = ?",
                (text(target), spec_id),
            ).fetchone()
            self._integration = row[0] if row else -1
            pages = self._db.execute(
                "SELECT sweep, keys, identities FROM presence_page WHERE integration = ?", (self._integration,)
            )
            for sweep, keys, identities in pages:
                of_page = zip(repeat(sweep), json.loads(keys), json.loads(identities), strict=False)
                self._db.executemany("INSERT INTO unmerged VALUES (?, ?, ?)", of_page)
        known = row is not None and row[1] is not None
        self.sweep = Sweep(row[1], row[2]) if known else Sweep(0, 0)
        """How the reads of the whole source stand."""
        self.undecided = int(row[3]) if known else 0
        """Number of the read that found what is to be deleted and was not yet; 0 if there is nothing of that kind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def saw(self, identities: Mapping[str, Record | None]) -> None:
        """Take note that the source has these keys, and what the target would know each by; see `presence.Seen`."""
        rows = [(text(key), None if one is None else as_json(one)) for key, one in identities.items()]
        one = "SELECT ? AS key, ? AS identity"
        self._db.executemany(f"INSERT OR REPLACE INTO seen SELECT key, {PLACE} FROM ({one})", rows)

    def missing(self, before: int) -> Iterator[list[Missing]]:
        """Records that were seen neither now nor in the reads from number `before` on, some at a time."""
        with telling(self._path):
            found = self._db.execute(_MISSING, {"integration": self._integration, "before": before})
            while some := found.fetchmany(_SOME):
                yield [Missing(key, json.loads(identity)) for key, identity in some]

    def known(self, deleted: bytes) -> int:
        """How many records are known to be at the target, but for what the latest pages of a killed run told."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM record_state WHERE integration = ? AND hash <> ?", (self._integration, deleted)
        ).fetchone()
        return int(count)
