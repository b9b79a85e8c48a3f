"""The mapper alone: CPU microseconds per record for a typical mapping of CRM contacts with ten rows.

Budget (DESIGN): at most 20. Also measured: the slow path, the filter, the contract, and explanations of 100 rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Final

from tests.bench.budget import at_most

from speclab.core.json import Record
from speclab.mapping import Mapper, compile_mapping
from speclab.spec.integration import MappingRow
from speclab.spec.settings import MappingSettings

RECORDS: Final = 20_000
ROUNDS: Final = 7
ROWS: Final = (
    ("id", "external_id", ""),
    ("name.given, name.family", "full_name", 'Trim, Concat(" ")'),
    ("email", "email", "Required, Trim, Lowercase"),
    ("born", "birth_date", 'Date("%d/%m/%Y")'),
    ("state", "stage", "Lookup(stage)"),
    ("turnover", "revenue", "Decimal(2)"),
    ("phone", "phone", 'Default("")'),
    ("address.city", "address.city", "Trim"),
    ("address.country", "address.country", "Uppercase"),
    ("", "origin", 'Constant("crm")'),
)
SETTINGS: Final = MappingSettings.model_validate(
    {
        "filter": 'source.email != ""',
        "lookups": {"stage": {"1": "lead", "2": "client", "3": "former"}},
        "check": {"email": {"format": "email"}, "full_name": {"minLength": 3}, "revenue": {"minimum": 0}},
    }
)


def main() -> None:
    """Measure and print the results."""
    mapper = compiled(ROWS)
    records = contacts(RECORDS)
    mapped = [mapper.map(record) for record in records]
    fast = _each(mapper.map, records)
    careful = _each(mapper._map_carefully, records[: RECORDS // 10])
    accepts = _each(mapper.accepts, records[: RECORDS // 4])
    check = _each(mapper.check, mapped)
    hundred = compiled([(source, f"t{n}.{target}", cell) for n in range(10) for source, target, cell in ROWS])
    explain = _each(hundred.explain, records[:20]) / 1000
    print(
        f"mapper: filter {accepts:.1f} µs, contract of three fields {check:.1f} µs, the careful way {careful:.0f} µs, "
        f"100 rows explained {explain:.1f} ms"
    )
    at_most("a record of ten rows", fast, 20, " µs")


def compiled(rows: tuple[tuple[str, str, str], ...] | list[tuple[str, str, str]]) -> Mapper:
    """Return the mapper of (source, target, transformation) rows."""
    made: list[MappingRow] = []
    for line, (source, target, cell) in enumerate(rows, 1):
        sources = tuple(part.strip() for part in source.split(",")) if source else ()
        made.append(MappingRow(sources, target, cell, "", line, (1,) * len(sources), 20, 40))
    return compile_mapping(
        made, SETTINGS.model_copy(update={} if len(rows) == len(ROWS) else {"check": {}}), "bench.md"
    )


def contacts(count: int, seed: int = 1) -> list[Record]:
    """Return different contacts of about 380 bytes."""
    random = Random(seed)  # repeatable, not secret
    return [
        {
            "id": f"c_{number:07}",
            "name": {"given": random.choice(("Ada ", "Grace", "Edsger")), "family": f"Family{number}"},
            "email": f" Person.{number}@Example.org",
            "born": f"{random.randint(1, 28):02}/{random.randint(1, 12):02}/{random.randint(1930, 2005)}",
            "state": random.choice("123"),
            "turnover": f"{random.randint(0, 10**6)}.{random.randint(0, 99):02}",
            "phone": random.choice((None, "+44 20 7946 0000")),
            "address": {"city": "London ", "country": "gb", "street": "St James's Square 12"},
            "notes": "Met at the exhibition; wants the analytical engine's manual and a second appointment.",
            "updated_at": "2026-11-24T10:42:30Z",
            "tags": ["customer", "newsletter"],
        }
        for number in range(count)
    ]


def _each(run: Callable[[Record], object], records: list[Record]) -> float:
    """Return the CPU microseconds for one record: the median of several rounds."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for record in records:
            run(record)
        rounds.append(time.process_time() - started)
    return median(rounds) / len(records) * 1_000_000
