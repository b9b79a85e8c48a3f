"""Transform: a batch maps each record as `Mapper.evaluate` does, which previews and `speclab map` use."""

from __future__ import annotations

from tests.sync.conftest import World, person

from speclab.core.json import Record
from speclab.core.outcome import Outcome
from speclab.sync.failures import FailureFactory
from speclab.sync.prepare import prepare
from speclab.sync.record_keys import Hasher, RecordKey
from speclab.sync.transform import Transformer


def test_batch_agrees_with_the_evaluation_of_each_record(world: World) -> None:
    prepared = prepare(world.spec)
    spec, mapper = prepared.integration, prepared.mapper
    transformer = Transformer(
        spec_id=spec.spec_id,
        target="target",
        key=RecordKey(spec.source.key),
        mapper=mapper,
        is_deleted=None,
        hasher=Hasher("target"),
        failures=FailureFactory(spec, prepared.file),
        keyed=False,
        deletes=False,
    )
    records: list[Record] = [
        person("a"),
        person("b", age="x"),
        person("c", test=True),
        person("d", age="-1"),
        {"id": "e"},
    ]
    (batch,) = transformer.map_records(records)

    payloads: dict[str, Record] = {}
    rejected: dict[str, str] = {}
    for record in records:
        evaluation = mapper.evaluate(record)
        if evaluation.failures:
            rejected[str(record["id"])] = evaluation.failures[0].reason
        elif evaluation.record is not None:
            payloads[str(record["id"])] = evaluation.record
    assert dict(zip(batch.keys, batch.payloads, strict=True)) == payloads
    assert {failure.key for failure in batch.failures} == rejected.keys()
    assert all(rejected[failure.key] in failure.message for failure in batch.failures)
    assert batch.outcomes[Outcome.FILTERED] == len(records) - len(payloads) - len(rejected)
