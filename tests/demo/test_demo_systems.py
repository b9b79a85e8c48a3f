"""The demo's two systems behave like real ones, and are deterministic."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from speclab.demo import BAD, COUNT, make_contacts
from speclab.demo.servers import run_servers


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with run_servers(tmp_path_factory.mktemp("demo") / "billing.db") as env:
        yield env


@pytest.fixture(scope="module")
def crm(env: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=env["CRM_URL"], headers={"Authorization": f"Bearer {env['CRM_TOKEN']}"}) as client:
        yield client


@pytest.fixture(scope="module")
def billing(env: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=env["BILLING_URL"], headers={"X-Api-Key": env["BILLING_KEY"]}) as client:
        yield client


def customer(**changes: object) -> dict[str, object]:
    return {"full_name": "Ada Lovelace", "country": "GB", "revenue_cents": 123450} | changes


def test_contacts_are_deterministic_with_the_stated_number_of_faults() -> None:
    contacts = make_contacts()
    assert contacts == make_contacts()
    assert len(contacts) == COUNT
    assert sum(contact["id"] is None for contact in contacts) == BAD["no id"]
    assert sum(contact["email"] is None for contact in contacts) == BAD["no e-mail"]
    assert sum("-" in str(contact["born"]) for contact in contacts) == BAD["date in the wrong order"]
    assert sum(contact["test"] is True for contact in contacts) == BAD["test contact"]


def test_pagination_through_rate_limits_and_503_returns_every_contact_once(crm: httpx.Client) -> None:
    seen: list[str | None] = []
    params = {"per_page": "50"}
    statuses = set()
    for _ in range(200):
        answer = crm.get("/v3/contacts", params=params)
        statuses.add(answer.status_code)
        if answer.status_code == 200:
            seen.extend(contact["id"] for contact in answer.json()["data"])
            if answer.json()["meta"]["next_cursor"] is None:
                break
            params["cursor"] = answer.json()["meta"]["next_cursor"]
    assert seen == [contact["id"] for contact in make_contacts()]
    assert {200, 503} <= statuses


def test_exceeding_the_rate_limit_returns_429_with_retry_after(crm: httpx.Client) -> None:
    results = [crm.get("/v3/contacts", params={"per_page": "1"}) for _ in range(60)]
    rejected = [result for result in results if result.status_code == 429]
    assert rejected
    assert {result.headers["Retry-After"] for result in rejected} == {"1"}


def test_request_without_token_is_rejected(env: dict[str, str]) -> None:
    assert httpx.get(f"{env['CRM_URL']}/v3/contacts").status_code == 401
    assert httpx.put(f"{env['BILLING_URL']}/customers/1", json=customer()).status_code == 401


def test_same_idempotency_key_has_one_effect(billing: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert billing.put("/customers/a", json=customer(), headers=headers).status_code == 201
    assert billing.put("/customers/a", json=customer(), headers=headers).status_code == 200
    other = billing.put("/customers/a", json=customer(full_name="Grace"), headers=headers)
    assert other.status_code == 422
    assert billing.get("/customers/a").json()["full_name"] == "Ada Lovelace"


def test_billing_names_the_invalid_fields(billing: httpx.Client) -> None:
    answer = billing.put("/customers/b", json=customer(country="XA", revenue_cents=1.5))
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == ["country", "revenue_cents"]
    assert billing.get("/customers/b").status_code == 404


def test_both_systems_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from speclab.demo.servers import run_servers\n"
        f"with run_servers(Path({str(tmp_path / 'b.db')!r})) as env: print(env['CRM_URL'], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert httpx.get(f"{url}/v3/contacts").status_code == 401
        starter.kill()
    for _ in range(100):
        try:
            httpx.get(f"{url}/v3/contacts", timeout=1)
        except httpx.TransportError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the CRM still answers")
    with closing(sqlite3.connect(tmp_path / "b.db")) as db:
        assert db.execute("select count(*) from customers").fetchone() == (0,)
