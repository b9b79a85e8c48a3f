"""The Metrics section: lint checks that what a spec promises to measure is measured."""

from __future__ import annotations

import pytest

from speclab.mapping.lint import lint
from speclab.monitor.metrics import METRICS
from speclab.spec.document import Document
from speclab.spec.measures import EXPORTED

SPEC = (
    "---\nspec_id: a\ntype: integration\nstatus: draft\n---\n\n# Spec: A\n\n## Monitoring & Alerting\n\n### Metrics\n\n"
)


def problems(section: str) -> list[str]:
    found = lint(Document.parse(f"{SPEC}{section}\n"))
    return [f"{p.line}:{p.column} {p.code} {p.message}" for p in found if p.code in ("C501", "C401")]


@pytest.mark.parametrize(
    "section",
    [
        "- Success rate\n- Sync duration\n- Error count\n- Data volume",
        "* **Success rate**: above 99.5 %\n* Records per run (about 200)\n* Number of dead letters",
        '1. Nearly all arrive: `success_rate("24h")`\n2. `speclab_lag_seconds` below 5 minutes',
        "- [ ] Time since the last successful run.\n- Lag - at most 5 minutes",
        "Customers are happy, and the moon is full.",
        "<!-- Success rate, sync duration, error count, data volume -->",
    ],
)
def test_what_speclab_measures_is_accepted(section: str) -> None:
    assert problems(section) == []


def test_what_it_does_not_measure_is_reported_with_what_it_does() -> None:
    (problem,) = problems("- Success rate\n- Customer happiness: high")
    assert problem.startswith("14:3 C501 speclab does not measure 'Customer happiness'; it measures success rate, ")


def test_a_likely_name_is_suggested() -> None:
    assert problems("- Sucess rate") == [
        "13:3 C501 speclab does not measure 'Sucess rate'; did you mean 'success rate'?"
    ]
    (problem,) = problems("- `speclab_lag_second`")
    assert problem.startswith("13:4 C501 there is no metric 'speclab_lag_second'; did you mean 'speclab_lag_seconds'")


def test_an_expression_must_be_valid() -> None:
    (problem,) = problems('- Nearly all: `sucess_rate("24h")`')
    assert problem.startswith("13:")
    assert "sucess_rate" in problem


def test_the_metrics_that_a_spec_may_name_are_those_of_an_integration() -> None:
    assert set(EXPORTED) == {one.sample for one in METRICS.values() if "integration" in one.labels}
