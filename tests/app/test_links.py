"""Ways from page to page: the terms of the session go along."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from configurator import link
from configurator.app.presets import presets
from configurator.link import Buying
from tests.app.conftest import start

TERMS = Buying(years=5, owned={"l40s": 2}, budgets={"individual": 20000.0})


@pytest.mark.parametrize("page", ["techniques", "machine"])
def test_links_to_the_planner_keep_the_terms(page: str) -> None:
    scenario = presets()[0].scenario
    wanted = link.encode(scenario, currency="USD", vendors=("NVIDIA",), tokens_per_s=20,
                         buying=TERMS)  # fmt: skip
    at = start(page=page, **wanted)
    found = [parse_qs(str(way.proto.query_string)) for way in at.get("page_link")]
    found = [query for query in found if "t" in query]
    assert found
    for query in found:
        for name in ("bud", "own", "yrs", "by", "tps", "cur"):
            assert query[name] == [wanted[name]], name
