"""Schema drift: a field profile is learned, and differences are reported with their mapping row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.mapping import compile_mapping
from speclab.spec.integration import MappingRow
from speclab.spec.settings import GuardSettings, MappingSettings
from speclab.sync.guards import FieldStats, SchemaDrift


def row(source: str, target: str, line: int) -> MappingRow:
    return MappingRow((source,), target, "", "", line, (3,), 20, 40)


ROWS = (row("id", "id", 10), row("mail", "contact.email", 11), row("price", "price", 12))
SPEC_FILE = "specs/crm.md"
REPORT = GuardSettings()
STOP = GuardSettings(action="stop")


def watch(
    profile: Json = None, guard: GuardSettings = REPORT, is_mapped: Callable[[Record], bool] = lambda _: True
) -> SchemaDrift:
    mapper = compile_mapping(ROWS, MappingSettings(), SPEC_FILE)
    return SchemaDrift(profile, mapper.rows, SPEC_FILE, is_mapped, guard)


def contacts(count: int, **fields: Json) -> list[Record]:
    return [{"id": f"c{number}", "mail": f"{number}@example.org", "price": 10, **fields} for number in range(count)]


def without(records: Sequence[Record], name: str) -> list[Record]:
    return [{key: value for key, value in record.items() if key != name} for record in records]


def learn(*pages: list[Record]) -> Json:
    """Return the field profile after a run of `pages`."""
    drift = watch()
    for page in pages:
        assert drift.check(page) == []
    return drift.build_profile()


def test_first_run_learns_and_reports_nothing() -> None:
    drift = watch()
    assert drift.check(contacts(30)) == []
    assert drift.check(without(contacts(30, price="10 EUR", extra=1), "mail")) == []


def test_missing_field_is_reported_once_with_the_row_that_reads_it() -> None:
    drift = watch(learn(contacts(1000)))
    reported = drift.check(without(contacts(1000), "mail"))
    assert [(alarm.level, alarm.stops) for alarm in reported] == [(Level.WARNING, False)]
    assert reported[0].message == (
        "specs/crm.md:11: source.mail, the source of target.contact.email, is missing from the last 25 records "
        "checked; it was in 25 of 25 before"
    )
    assert drift.check(without(contacts(1000), "mail")) == []


def test_missing_field_stops_the_run_where_the_spec_says_so() -> None:
    [alarm] = watch(learn(contacts(100)), STOP).check(without(contacts(100), "mail"))
    assert (alarm.level, alarm.stops) == (Level.ERROR, True)


def test_field_that_is_always_null_counts_as_missing() -> None:
    assert watch(learn(contacts(100))).check(contacts(100, mail=None))


def test_missing_field_is_reported_across_runs_of_one_record_each() -> None:
    known = learn(contacts(1000))
    for number in range(9):
        drift = watch(known)
        assert drift.check(without(contacts(1), "mail")) == [], number
        known = drift.build_profile()
    assert watch(known).check(without(contacts(1), "mail"))


def test_field_that_returns_has_its_old_profile() -> None:
    drift = watch(learn(contacts(100)))
    assert drift.check(without(contacts(100), "mail"))
    assert drift.check(contacts(100)) == []
    assert watch(drift.build_profile()).check(contacts(100)) == []


def test_changed_type_is_reported_with_both_types() -> None:
    [alarm] = watch(learn(contacts(100))).check(contacts(5, price="10 EUR"))
    assert alarm.message == (
        "specs/crm.md:12: source.price, the source of target.price, is now text; it was a number before"
    )


def test_integers_and_fractions_are_one_type() -> None:
    assert watch(learn(contacts(100))).check(contacts(100, price=9.5)) == []


def test_field_with_several_types_may_have_any_of_them() -> None:
    known = learn([*contacts(50), *contacts(50, price="10 EUR")])
    assert watch(known).check(contacts(5, price="9 EUR")) == []
    assert watch(known).check(contacts(5, price=[9]))


def test_new_fields_are_reported_but_stop_nothing() -> None:
    drift = watch(learn(contacts(100)), STOP)
    [alarm] = drift.check(contacts(100, phone="1", **{"odd key": 2}))
    assert (alarm.level, alarm.stops) == (Level.INFO, False)
    assert alarm.message == 'new source fields that no mapping row reads: source.["odd key"], source.phone'
    assert drift.check(contacts(100, phone="1")) == []


def test_names_that_are_values_are_not_new_fields() -> None:
    days: Record = {f"day{number}": number for number in range(400)}
    drift = watch(learn(contacts(100)))
    assert drift.check(contacts(30, **days)) == []
    assert watch(drift.build_profile()).check(contacts(30, phone="1")) == []


def test_records_that_the_mapping_ignores_report_nothing() -> None:
    drift = watch(learn(contacts(100)), is_mapped=lambda record: "gone" not in record)
    assert drift.check([{"id": f"c{number}", "gone": True} for number in range(100)]) == []


def test_profile_is_kept_when_a_row_is_added() -> None:
    known = learn(contacts(100))
    assert isinstance(known, dict)
    assert isinstance(known["fields"], dict)
    known["fields"].pop("price")
    assert watch(known).check(contacts(100, price="10 EUR")) == []


@given(st.lists(st.sampled_from([None, "a", 1, 1.5, True, [], {}]), max_size=60))
def test_profile_survives_the_run_log_and_does_not_depend_on_page_sizes(values: list[Json]) -> None:
    stats, one_by_one = FieldStats(), FieldStats()
    stats.add(values)
    for value in values:
        one_by_one.add([value])
    assert stats == one_by_one
    assert FieldStats.from_json(stats.as_json()) == stats
    assert stats.seen + stats.missing <= len(values) <= stats.of + stats.missing
    assert stats.seen <= stats.of


@given(st.integers(10, 1000), st.integers(1, 60))
def test_sparse_field_is_not_reported_as_missing_after_a_usual_gap(present: int, absent: int) -> None:
    """A field in a tenth of all records is missing from 60 in a row once in 500 times: not worth an alert."""
    stats = FieldStats(seen=present, of=present * 10, missing=absent)
    assert not stats.is_gone
