"""Masking: which values of failed records the run log stores, and where the others are until they are delivered."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.runlog.conftest import failure, page

from speclab.core.errors import RunLogError
from speclab.core.json import Json, Record
from speclab.core.masking import MASKED, FieldPolicy, FieldRule, Masker, is_sensitive
from speclab.core.outcome import FailureState, Outcome
from speclab.runlog import RetryResult, RunLog, RunLogReader
from speclab.runlog.private import private_path

CARD = "4111 1111 1111 1111"
RECORD: Record = {"id": "c_1", "name": "Ada", "card_number": CARD, "login": {"password": 'p"ss/wörd', "user": "ada"}}


def masked(record: Record, policy: FieldPolicy = FieldPolicy()) -> Record:  # noqa: B008 - frozen
    return Masker(policy, b"salt").mask_record(record)


@pytest.mark.parametrize(
    "name",
    "password passwd userPassword access_token API-TOKEN clientSecret ssn SSN customer_ssn customerSSN iban IBANCode "
    "card cards cardNumber card_number creditcard CreditCardNo".split(),
)
def test_name_of_something_private_is_masked_by_default(name: str) -> None:
    assert is_sensitive(name)


@pytest.mark.parametrize("name", "id name email businessName discarded_at cardinality wildcard scorecard class".split())
def test_other_names_are_stored(name: str) -> None:
    assert not is_sensitive(name)


def test_values_are_masked_at_any_depth() -> None:
    record: Record = {"cards": [{"number": CARD}], "orders": [{"token": 17, "note": None}], "secret": None, "iban": ""}
    assert masked(record) == {
        "cards": MASKED,
        "orders": [{"token": MASKED, "note": None}],
        "secret": None,
        "iban": "",
    }
    plain: Record = {"id": 1, "tags": ["a"]}
    assert masked(plain) is plain


def test_rule_names_a_field_or_its_path() -> None:
    rules = {"card": FieldRule.STORE, "person.email": FieldRule.HASH, "notes": FieldRule.MASK}
    record: Record = {"Card": {"number": CARD}, "email": "a@b.c", "person": {"email": "a@b.c"}, "notes": ["x"]}
    found = masked(record, FieldPolicy(rules))
    assert (found["Card"], found["email"], found["notes"]) == ({"number": CARD}, "a@b.c", MASKED)
    person = found["person"]
    assert isinstance(person, dict)
    assert str(person["email"]).startswith("***hashed:")


def test_equal_values_have_equal_hashes_under_one_salt() -> None:
    policy = FieldPolicy({"email": FieldRule.HASH})
    records: list[Record] = [{"email": value} for value in ("a@b.c", "a@b.c", "x@b.c")]
    one, same, other = records
    assert masked(one, policy) == masked(same, policy) != masked(other, policy)
    assert Masker(policy, b"other salt").mask_record(one) != masked(one, policy)


@pytest.mark.parametrize("key", ["card", "card.id"])
def test_key_of_a_record_is_always_stored(key: str) -> None:
    value: Json = {"id": 7, "number": CARD} if "." in key else 7
    expected = {"id": 7, "number": MASKED} if "." in key else 7
    assert masked({"card": value}, FieldPolicy(keys=frozenset({key}))) == {"card": expected}


def test_texts_about_a_record_have_no_masked_value() -> None:
    masker = Masker(FieldPolicy(), None)
    masker.mask_record({**RECORD, "token": 123, "secret": 7})
    text = (
        f'bad "{CARD}": card=4111+1111+1111+1111&p=p%22ss/w%C3%B6rd {{"password":"p\\"ss/wörd"}} token 123 of 1234, 7'
    )
    assert masker.mask_text(text) == 'bad "***": card=***&p=*** {"password":"***"} token *** of 1234, 7'


def test_text_without_a_record_is_masked_by_the_names_in_it(log: RunLog, reader: RunLogReader) -> None:
    text = '{"id": 1, "userPassword" : "p\\"ss", "pin": [1], "card": 4111, "token":"abc'
    run = log.start_run("crm", "abc", "manual")
    policy = FieldPolicy({"card": FieldRule.STORE})
    log.commit_page(run, page(failure(state=FailureState.DEAD, source={}, response=text, policy=policy)))
    (shown,) = reader.failures(full=True)
    assert shown.response == '{"id": 1, "userPassword" : ***, "pin": [1], "card": 4111, "token":***'


def test_run_log_has_no_masked_value_and_a_retry_has_them_all(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    made = failure(source=RECORD, payload={"id": "c_1", "card": CARD}, message=f"no such card: {CARD}", request=CARD)
    log.commit_page(run, page(made))
    (shown,) = reader.failures(full=True)
    assert shown.masked
    assert shown.source == {**RECORD, "card_number": MASKED, "login": {"password": MASKED, "user": "ada"}}
    assert (shown.payload, shown.message, shown.request) == ({"id": "c_1", "card": MASKED}, "no such card: ***", "***")
    (due,) = log.get_due_failures("crm", "2027")
    assert (due.source, due.payload, due.masked) == (RECORD, {"id": "c_1", "card": CARD}, False)
    files = [log.path, log.path.with_name("runlog.db-wal")]
    assert not any(CARD.encode() in file.read_bytes() for file in files if file.exists())
    assert private_path(log.path).stat().st_mode & 0o777 == 0o600


def test_failure_that_a_script_reports_keeps_no_masked_value_anywhere(log: RunLog) -> None:
    with log.run("nightly") as run:
        run.add(read=1)
        run.fail("c_1", f"no such card: {CARD}", source={"id": "c_1", "card": CARD})
    assert not private_path(log.path).exists()
    files = [log.path, log.path.with_name("runlog.db-wal")]
    assert not any(CARD.encode() in file.read_bytes() for file in files if file.exists())


def test_masked_values_are_deleted_once_the_failure_is_closed(log: RunLog, reader: RunLogReader) -> None:
    run = log.start_run("crm", "abc", "manual")
    keys = ["resolved", "superseded", "discarded", "open"]
    log.commit_page(run, page(*(failure(key, source={"id": key, "token": f"t-{key}"}) for key in keys)))
    ids = {row.key: row.id for row in reader.failures()}
    log.commit_retries(run, [RetryResult(ids["resolved"], Outcome.WRITTEN)])
    log.commit_page(run, page(written=["superseded"]))
    log.finish_run(run)
    log.discard([ids["discarded"]], "test")
    content = private_path(log.path).read_bytes()
    assert {key for key in keys if f"t-{key}".encode() in content} == {"open"}


def test_page_is_not_committed_if_its_masked_values_cannot_be_saved(log: RunLog, reader: RunLogReader) -> None:
    private_path(log.path).mkdir()
    run = log.start_run("crm", "abc", "manual")
    with pytest.raises(RunLogError, match=r"runlog\.db-private"):
        log.commit_page(run, page(failure(source=RECORD)))
    assert reader.failures() == []
    assert log.get_cursor("crm") is None


def test_two_processes_do_not_delete_the_values_of_each_other(log: RunLog, path: Path) -> None:
    run = log.start_run("crm", "abc", "manual")
    log.commit_page(run, page(failure("a", FailureState.DEAD, source={"id": "a", "token": "t-1"})))
    with RunLog.open(path) as other:
        erp = other.start_run("erp", "abc", "manual")
        other.finish_run(erp)
    with sqlite3.connect(private_path(path)) as private:
        assert private.execute("SELECT count(*) FROM record").fetchone() == (1,)
    private.close()
