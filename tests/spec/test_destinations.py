from __future__ import annotations

from pydantic import Field

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.sql.settings import SqlSystem
from speclab.spec.settings import Limited, System
from speclab.spec.settings_types import Secret


class Queue(Limited):
    """A queue without a location."""

    broker: str
    token: Secret = ""
    options: dict[str, str] = Field(default_factory=dict)


def http(base_url: str, upsert: str = "PUT /customers/{id}") -> System:
    return HttpSystem.model_validate(
        {"connector": "http", "base_url": base_url, "key": "id", "write": {"upsert": upsert}}
    )


def sql(url: str, table: str = "customers") -> System:
    return SqlSystem.model_validate({"connector": "sql", "url": url, "key": "id", "write": {"upsert": table}})


def queue(broker: str = "b:1", **more: object) -> System:
    return Queue.model_validate({"connector": "queue", "broker": broker, "key": "id", **more})


def test_destination_depends_on_location_and_requests() -> None:
    names = [
        http("https://a.example").destination(),
        http("https://b.example").destination(),
        http("https://a.example", "PUT /people/{id}").destination(),
        sql("sqlite:///a.db").destination(),
        sql("sqlite:///a.db", "people").destination(),
        FileSystem.model_validate({"connector": "file", "path": "a.jsonl", "key": "id"}).destination(),
    ]
    assert len(set(names)) == len(names)


def test_new_credentials_do_not_make_another_target() -> None:
    assert sql("postgresql://app:old@db/crm").destination() == sql("postgresql://app:new@db/crm").destination()
    assert "new" not in sql("postgresql://app:new@db/crm").destination()


def test_default_destination_covers_all_settings_except_limits_and_secrets() -> None:
    here = queue().destination()
    assert here.startswith("queue ")
    assert queue("b:2").destination() != here != queue(options={"topic": "a"}).destination()
    assert queue(token="new", limits={"rate": "1/s"}).destination() == here
