"""The demo: a workspace with a spec that syncs two systems on loopback (`servers`)."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from speclab.core.files import make_private_directory, refuse_symlinks
from speclab.core.json import Record

COUNT: Final = 1200
SEED: Final = 1815  # Ada Lovelace's year

BAD: Final = {
    "no id": 1,  # has no key: fails when it is read
    "no e-mail": 9,  # fails the mapping: Required
    "date in the wrong order": 11,  # fails the mapping: Date("%d/%m/%Y")
    "unknown status": 7,  # fails the mapping: Lookup(stage)
    "broken e-mail": 5,  # fails the check: format email
    "unknown country": 6,  # rejected by billing: 422
    "test contact": 14,  # filtered
}

_GIVEN: Final = (
    "Ada Grace Alan Edsger Barbara Donald Katherine Dennis Radia Ken Frances Tony Margaret Niklaus Hedy John Lynn "
    "Leslie Mary Claude Joan Peter Sophie Vint Evelyn Robin Annie Kurt Emmy Haskell Dorothy Alonzo"
).split()
_FAMILY: Final = (
    "Lovelace Hopper Turing Dijkstra Liskov Knuth Johnson Ritchie Perlman Thompson Allen Hoare Hamilton Wirth Lamarr "
    "Backus Conway Lamport Keller Shannon Clarke Naur Wilson Cerf Boyd Milner Easley Gödel Noether Curry Vaughan Church"
).split()
_CITIES: Final = (
    ("GB", "London"), ("GB", "Leeds"), ("DE", "Berlin"), ("DE", "Köln"), ("FR", "Lyon"), ("NL", "Utrecht"),
    ("SE", "Malmö"), ("PL", "Gdańsk"), ("IT", "Torino"), ("ES", "Bilbao"), ("IE", "Cork"), ("AT", "Graz"),
)  # fmt: skip


def make_contacts() -> list[Record]:
    """Return all contacts, oldest change first; always the same list."""
    random = Random(SEED)  # noqa: S311 - a story, not a secret
    start = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
    contacts = [_contact(number, start + timedelta(minutes=47 * number), random) for number in range(COUNT)]
    _add_faults(contacts, random)
    return contacts


def _contact(number: int, changed: datetime, random: Random) -> Record:
    given, family = random.choice(_GIVEN), random.choice(_FAMILY)
    country, city = random.choice(_CITIES)
    born = date(1948, 1, 1) + timedelta(days=random.randrange(20_000))
    return {
        "id": f"c_{8000 + number}",
        "name": {"given": given + (" " if random.random() < 0.05 else ""), "family": family},
        "email": f"{given}.{number}@Example.org",
        "born": born.strftime("%d/%m/%Y"),
        "state": random.choice(("1", "2", "2", "2", "3")),
        "turnover": f"{random.randrange(100, 5_000_000) / 100:.2f}",
        "tel": f"+44 20 7946 {number:04d}",
        "address": {"city": city, "country": country},
        "tags": random.sample(("newsletter", "beta", "partner", "vip"), random.randrange(3)),
        "test": False,
        "updated_at": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _add_faults(contacts: list[Record], random: Random) -> None:
    """Make contacts faulty, as many of each kind as in `BAD`."""
    chosen = iter(random.sample(range(COUNT), sum(BAD.values())))
    for reason, count in BAD.items():
        for _ in range(count):
            contact = contacts[next(chosen)]
            match reason:
                case "no id":
                    contact["id"] = None
                case "no e-mail":
                    contact["email"] = None
                case "date in the wrong order":
                    day, month, year = str(contact["born"]).split("/")
                    contact["born"] = f"{year}-{month}-{day}"
                case "unknown status":
                    contact["state"] = "9"
                case "broken e-mail":
                    contact["email"] = str(contact["email"]).replace("@", " at ")
                case "unknown country":
                    contact["address"] = {"city": "Atlantis", "country": "XA"}
                case "test contact":
                    contact["test"] = True


SPEC: Final = "crm-contacts-to-billing.md"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of the demo's files."""

    directory: Path

    @property
    def spec(self) -> Path:
        """The integration's spec, which is never overwritten: the user may have edited it."""
        return self.directory / "specs" / SPEC

    @property
    def is_own(self) -> bool:
        """Whether the spec is exactly the one of the demo."""
        return self.spec.read_bytes() == Path(__file__).with_name(SPEC).read_bytes()

    @property
    def runlog(self) -> Path:
        """The run log."""
        return self.directory / ".speclab" / "runlog.db"

    @property
    def billing(self) -> Path:
        """The SQLite file of the billing system."""
        return self.directory / ".speclab" / "billing.db"


def create_workspace(directory: Path | None) -> Workspace:
    """Create or reuse the workspace in `directory`; None: a new temporary directory, which is kept."""
    workspace = Workspace((directory or Path(tempfile.mkdtemp(prefix="speclab-demo-"))).resolve())
    workspace.spec.parent.mkdir(parents=True, exist_ok=True)
    make_private_directory(workspace.billing.parent)
    refuse_symlinks(workspace.billing)
    with suppress(FileExistsError), workspace.spec.open("xb") as spec:
        spec.write(Path(__file__).with_name(SPEC).read_bytes())
    return workspace
