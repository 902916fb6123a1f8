"""Dates of prices: as exact as their sources say, the oldest first, none where there is none."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace

import pytest

from configurator import numbers
from configurator.article import article_report
from configurator.catalog import load_catalog
from configurator.cost import Range, card_price, own_price, plan_cost
from configurator.cost.dates import When
from configurator.recommend import parse_request, recommend
from configurator.words import LANGUAGES
from tests.unit.test_cost import CATALOG, PRICED, FewPrices, price

Y2024, Y2025, MAY = (dt.date(2024, 1, 1), dt.date(2025, 1, 1), dt.date(2026, 5, 1))
TABLE = dt.date(2026, 8, 21)
IN_TABLE = {"date": TABLE, "date_kind": "file"}


@pytest.mark.parametrize(
    ("first", "precision", "en", "zh"),
    [
        (TABLE, "day", "Aug 21, 2026", "2026年8月21日"),
        (MAY, "month", "May 2026", "2026年5月"),
        (dt.date(2026, 4, 1), "quarter", "Q2 2026", "2026年第2季度"),
        (dt.date(2026, 1, 1), "half", "the first half of 2026", "2026年上半年"),
        (dt.date(2026, 7, 1), "half", "the second half of 2026", "2026年下半年"),
        (Y2025, "year", "2025", "2025年"),
    ],
)
def test_a_date_is_no_more_exact_than_its_source(first, precision, en, zh):
    assert numbers.period(first, precision, "en") == en
    assert numbers.period(first, precision, "zh") == zh


@pytest.mark.parametrize(
    ("entries", "text", "phrase"),
    [
        ([{"date": Y2025, "precision": "year"}], "2025", "prices of 2025"),
        (
            [{"date": Y2025, "precision": "year"}, {"date": MAY, "precision": "month"}],
            "2025 – May 2026", "prices since 2025",
        ),
        (  # the one lies within the other
            [{"date": dt.date(2026, 1, 1), "precision": "year"}, {"date": MAY}],
            "2026", "prices of 2026",
        ),
        (  # both begin on the same day: the less exact one says less
            [{"date": Y2025, "precision": "half"}, {"date": Y2025, "precision": "year"}],
            "2025", "prices of 2025",
        ),
        ([{"date": MAY}, {"date": TABLE}], "May 1, 2026 – Aug 21, 2026",
         "prices since May 1, 2026"),
        ([IN_TABLE], "undated, table of Aug 2026", "undated prices, from a table of Aug 2026"),
        ([{"date": MAY}, IN_TABLE], "May 1, 2026, some undated",
         "prices of May 1, 2026, some undated"),
    ],
)  # fmt: skip
def test_several_prices_tell_from_when_on_and_whether_one_is_undated(entries, text, phrase):
    when = When.of([price(100, **entry) for entry in entries])
    assert when.text("en") == text
    assert when.phrase("en") == phrase


def test_a_cards_price_has_the_dates_of_what_was_counted():
    catalog = FewPrices(
        price(100, date=Y2025, precision="year"), price(110, date=MAY, precision="month"),
        price(90, "used", date=Y2024),
    )  # fmt: skip
    assert card_price(catalog, "x", "US", "new").date.text("zh") == "2025年 – 2026年5月"


def test_what_stands_in_a_table_has_no_date_of_its_own():
    tables = {p.source for p in CATALOG.purchase_prices if p.date_kind == "file"}
    assert tables
    assert all(p.date_kind == "file" for p in CATALOG.purchase_prices if p.source in tables)
    for gpu in PRICED:
        found = card_price(CATALOG, gpu)
        if set(found.sources) <= tables:
            assert "undated" in found.date.text("en")


def test_a_plan_tells_its_oldest_price_and_passes_over_small_lines():
    cost = plan_cost("l40s", 1, price=own_price(30000, dt.date(2026, 11, 1)))
    assert {line.id for line in cost.lines} >= {"card", "cpu", "memory", "chassis"}
    assert cost.dates_text("en") == "prices since 2024, some undated"
    assert cost.dates_text("zh") == "价格日期：2024年起，部分无日期"
    cents = Range.exact(1.0)
    small = [replace(x, amount=cents) if x.id in ("chassis", "cpu") else x for x in cost.lines]
    assert replace(cost, lines=tuple(small)).dates_text("en") == "prices since Q1 2026"


def test_a_plan_says_that_its_cards_price_is_undated():
    catalog = FewPrices(price(100, "list", **IN_TABLE))
    cost = plan_cost("rtx-5080", 1, price=card_price(catalog, "x"))
    assert cost.dates_text("en") == "prices of 2026, the card's undated"


def test_amounts_carry_how_exact_their_date_is():
    out = plan_cost("l40s", 1, price=own_price(30000, dt.date(2026, 11, 1))).to_dict()
    lines = {line["id"]: line["amount"] for line in out["lines"]}

    def dates(amount):
        names = ("price_date", "price_date_precision", "price_undated")
        return tuple(amount[name] for name in names)

    assert dates(lines["card"]) == ("2026-11-01", "day", "none")
    assert dates(lines["chassis"]) == ("2024-01-01", "year", "none")
    assert dates(lines["cpu"]) == ("2026-08-21", "month", "all")
    assert dates(out["purchase"]) == ("2024-01-01", "year", "some")
    # Power has the date of the tariff, not of the machine.
    assert dates(out["power"]) == dates(lines["power"])
    assert out["power"]["price_date"] > "2024-01-01"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_reason_of_a_price_is_as_exact(language):
    asked = {"scenario": {"model": "Qwen/Qwen3-8B"}, "gpus": ["rtx-pro-6000-blackwell-maxq"]}
    plan = recommend(parse_request(asked)).plans[0]
    said = next(r for r in plan.why if r.code == "price").to_dict(language)
    assert {"en": "prices of 2025.", "zh": "价格日期：2025年。"}[language] in said["text"]
    assert said["values"]["dates"]["price_date_precision"] == "year"


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_to_the_article_write_dates_in_words(language):
    dated = [
        item["reason"]
        for item in article_report(language)["statements"]
        if item["id"] in ("A15", "A30", "A31")
    ]
    assert dated
    assert not any(re.search(r"\d{4}-\d\d-\d\d", reason) for reason in dated)


def test_no_shipped_price_of_a_year_reads_as_a_day():
    catalog = load_catalog()
    for entry in catalog.purchase_prices:
        if entry.precision == "year":
            assert When.of([entry]).text("en") == str(entry.date.year)
