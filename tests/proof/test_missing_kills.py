"""Runs that delete missing records, killed repeatedly during reads and deletes."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from tests.connectors.conftest import Serve, serve
from tests.proof.killing import Killing, Systems

__all__ = ["serve"]

SOURCE = """\
connector: http
base_url: "%s/source"
key: id
read:
  path: /people
  records: data
  pagination: {by: cursor, next: next, param: cursor}
  missing: delete"""
TARGET = """\
connector: http
base_url: "%s/target"
key: number
limits: {concurrency: 2}
write: {upsert: "PUT /people/{number}", delete: "DELETE /people/{number}"}"""
ROWS = """\
| source.id | target.number | = "c-" + string(source.id) | |
| source.name | target.name | Direct | |"""


class People(Systems):
    """A source of people with four per page, and a target; every tenth delete gets a 503, completed or not.

    `wrongs` are deletes of people that the source had the whole time.
    """

    seconds = 0.004

    def __init__(self) -> None:
        super().__init__()
        self.people = dict.fromkeys(range(80), "as it was")
        self.there: dict[str, str] = {}
        self.staying: set[int] = set()
        self.wrongs: list[str] = []
        self.deletes = 0

    def change(self) -> None:
        """Remove, add and rename some people."""
        before = set(self.people)
        for key in self.random.sample(sorted(self.people), 9):
            del self.people[key]
        for _ in range(6):
            self.people[self.random.randrange(100)] = f"{self.random.random()}"
        self.staying = before & set(self.people)

    def expected(self) -> dict[str, str]:
        return {f"c-{key}": name for key, name in self.people.items()}

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/source/people":
            after = int(request.query.get("cursor", "-1"))
            found = sorted(key for key in self.people if key > after)
            data = [{"id": key, "name": self.people[key]} for key in found[:4]]
            return web.json_response({"data": data, "next": found[3] if len(found) > 4 else None})
        number = request.path.rpartition("/")[2]
        if request.method == "PUT":
            self.there[number] = (await request.json())["name"]
            return web.json_response({})
        self.deletes += 1
        if int(number.removeprefix("c-")) in self.staying:
            self.wrongs.append(number)
        if self.deletes % 10 == 3:
            return web.json_response({}, status=503)
        known = self.there.pop(number, None)
        if self.deletes % 10 == 7:
            return web.json_response({}, status=503)
        return web.json_response({}, status=404 if known is None else 204)


async def test_killed_reads_and_deletes_leave_the_target_equal_to_the_source(tmp_path: Path, serve: Serve) -> None:
    systems = People()
    url = await serve(systems)
    killing = Killing(tmp_path, systems)
    killing.write(SOURCE % url, TARGET % url, ROWS)
    await killing.run_to_end()
    assert systems.there == systems.expected()
    for _ in range(2):
        systems.change()
        await killing.run_and_kill(systems.random.randrange(3, 20))  # during the read
        pages = -(-len(systems.people) // 4)
        await killing.run_and_kill(pages + systems.random.randrange(8))  # during the deletes
        await killing.run_to_end()
        assert systems.there == systems.expected()
    assert killing.kills >= 3
    assert systems.deletes >= 15
    assert systems.wrongs == []
    killing.check_runs()
