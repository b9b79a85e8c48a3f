"""Schema drift: what a source's fields usually are is learned, and what is not so any more is told with its row."""

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
TELL = GuardSettings()
STOP = GuardSettings(action="stop")


def watch(
    usual: Json = None, guard: GuardSettings = TELL, minds: Callable[[Record], bool] = lambda _: True
) -> SchemaDrift:
    mapper = compile_mapping(ROWS, MappingSettings(), SPEC_FILE)
    return SchemaDrift(usual, mapper.rows, SPEC_FILE, minds, guard)


def contacts(count: int, **fields: Json) -> list[Record]:
    return [{"id": f"c{number}", "mail": f"{number}@example.org", "price": 10, **fields} for number in range(count)]


def without(records: Sequence[Record], name: str) -> list[Record]:
    return [{key: value for key, value in record.items() if key != name} for record in records]


def usual(*pages: list[Record]) -> Json:
    """What was learned in a run of `pages`."""
    drift = watch()
    for page in pages:
        assert drift.look(page) == []
    return drift.learned()


def test_the_first_run_learns_and_tells_nothing() -> None:
    drift = watch()
    assert drift.look(contacts(30)) == []
    assert drift.look(without(contacts(30, price="10 EUR", extra=1), "mail")) == []


def test_a_field_that_is_gone_is_told_once_with_the_row_that_reads_it() -> None:
    drift = watch(usual(contacts(1000)))
    told = drift.look(without(contacts(1000), "mail"))
    assert [(alarm.level, alarm.stops) for alarm in told] == [(Level.WARNING, False)]
    assert told[0].message == (
        "specs/crm.md:11: source.mail, which target.contact.email is made of, is in none of the last 25 records "
        "looked at; it was in 25 of 25 before"
    )
    assert drift.look(without(contacts(1000), "mail")) == []


def test_where_the_spec_wants_it_the_run_ends_there() -> None:
    [alarm] = watch(usual(contacts(100)), STOP).look(without(contacts(100), "mail"))
    assert (alarm.level, alarm.stops) == (Level.ERROR, True)


def test_a_field_that_is_null_everywhere_is_as_good_as_gone() -> None:
    assert watch(usual(contacts(100))).look(contacts(100, mail=None))


def test_runs_of_one_record_each_tell_it_as_well() -> None:
    known = usual(contacts(1000))
    for number in range(9):
        drift = watch(known)
        assert drift.look(without(contacts(1), "mail")) == [], number
        known = drift.learned()
    assert watch(known).look(without(contacts(1), "mail"))


def test_a_field_that_comes_back_is_as_it_was() -> None:
    drift = watch(usual(contacts(100)))
    assert drift.look(without(contacts(100), "mail"))
    assert drift.look(contacts(100)) == []
    assert watch(drift.learned()).look(contacts(100)) == []


def test_another_kind_of_value_is_told_with_both() -> None:
    [alarm] = watch(usual(contacts(100))).look(contacts(5, price="10 EUR"))
    assert alarm.message == (
        "specs/crm.md:12: source.price, which target.price is made of, is text now; it was a number so far"
    )


def test_whole_numbers_and_fractions_are_one_kind() -> None:
    assert watch(usual(contacts(100))).look(contacts(100, price=9.5)) == []


def test_a_field_of_several_kinds_may_be_any_of_them() -> None:
    known = usual([*contacts(50), *contacts(50, price="10 EUR")])
    assert watch(known).look(contacts(5, price="9 EUR")) == []
    assert watch(known).look(contacts(5, price=[9]))


def test_new_fields_are_told_but_stop_nothing() -> None:
    drift = watch(usual(contacts(100)), STOP)
    [alarm] = drift.look(contacts(100, phone="1", **{"odd key": 2}))
    assert (alarm.level, alarm.stops) == (Level.INFO, False)
    assert alarm.message == 'new at the source, and in no row: source.["odd key"], source.phone'
    assert drift.look(contacts(100, phone="1")) == []


def test_names_that_are_values_are_no_new_fields() -> None:
    days: Record = {f"day{number}": number for number in range(400)}
    drift = watch(usual(contacts(100)))
    assert drift.look(contacts(30, **days)) == []
    assert watch(drift.learned()).look(contacts(30, phone="1")) == []


def test_records_that_the_mapping_does_not_mind_say_nothing() -> None:
    drift = watch(usual(contacts(100)), minds=lambda record: "gone" not in record)
    assert drift.look([{"id": f"c{number}", "gone": True} for number in range(100)]) == []


def test_what_was_learned_outlives_a_row_that_is_added() -> None:
    known = usual(contacts(100))
    assert isinstance(known, dict)
    assert isinstance(known["fields"], dict)
    known["fields"].pop("price")
    assert watch(known).look(contacts(100, price="10 EUR")) == []


@given(st.lists(st.sampled_from([None, "a", 1, 1.5, True, [], {}]), max_size=60))
def test_a_habit_survives_the_run_log_and_is_the_same_however_records_come(values: list[Json]) -> None:
    habit, one_by_one = FieldStats(), FieldStats()
    habit.take(values)
    for value in values:
        one_by_one.take([value])
    assert habit == one_by_one
    assert FieldStats.of_json(habit.as_json()) == habit
    assert habit.seen + habit.missing <= len(values) <= habit.of + habit.missing
    assert habit.seen <= habit.of


@given(st.integers(10, 1000), st.integers(1, 60))
def test_a_field_that_comes_and_goes_is_not_called_gone_by_a_usual_absence(present: int, absent: int) -> None:
    """A field in a tenth of all records is missing from 60 in a row once in 500 times: no reason for an alarm."""
    habit = FieldStats(seen=present, of=present * 10, missing=absent)
    assert not habit.is_gone
