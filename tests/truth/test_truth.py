"""The published accuracy still holds: no median error got worse."""

import json
from pathlib import Path

import numpy as np
import pytest

from configurator.catalog import catalog_dir
from configurator.measured_speeds import read_rows
from configurator.performance.coefficients import resolve
from configurator.performance.serving import closed_loop
from configurator.performance.training import training_step
from configurator.validate import compare, read_cases, table, worse_than

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    comparisons, failed = compare(read_cases(HERE))
    assert failed == []
    return comparisons


def test_no_median_is_worse_than_published(found):
    published = json.loads((catalog_dir() / "evidence.json").read_text(encoding="utf-8"))
    assert worse_than(table(found), published["table"]) == []


def test_intervals_hold_about_nine_cases_in_ten(found):
    inside = [c.inside for c in found if c.inside is not None]
    assert len(inside) > 200
    assert 0.85 <= sum(inside) / len(inside) <= 0.97


def test_the_fit_reads_a_case_as_an_estimate_does(found):
    said = {(c.case, c.quantity): c.predicted for c in found}
    rows = read_rows(read_cases(HERE))
    assert len(rows) > 200
    for row in rows:
        c = resolve(row.family, row.context)
        if row.family == "training":
            value = training_step(row.workload, row.plan, c)["tokens_per_s"]
        else:
            value = closed_loop(row.workload, row.plan, c, *row.inputs)[row.quantity]
        assert float(value) == pytest.approx(said[row.case, f"performance.{row.quantity}"])


def test_we_beat_the_rule_of_thumb(found):
    for row in table(found):
        if row.rule_median is not None and row.n >= 5:
            assert row.median < row.rule_median, row


def test_every_familys_layer_keeps_what_was_measured() -> None:
    found, failed = compare(read_cases(HERE / "families.jsonl"))
    errors = [abs(case.error) for case in found if case.quantity == "memory.peak_allocated_gib"]
    assert not failed
    assert len(errors) > 50
    assert np.quantile(errors, 0.9) < 0.035
    assert max(errors) < 0.1
