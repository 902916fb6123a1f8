"""The published accuracy still holds: no median error got worse."""

import json
from pathlib import Path

import pytest

from configurator.catalog import catalog_dir
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


def test_we_beat_the_rule_of_thumb(found):
    for row in table(found):
        if row.rule_median is not None and row.n >= 5:
            assert row.median < row.rule_median, row
