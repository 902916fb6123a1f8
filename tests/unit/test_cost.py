"""Prices picked from the catalog, the sums of a plan, and renting beside owning."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.catalog import PurchasePrice, load_catalog
from configurator.cost import (
    Cost,
    Range,
    card_price,
    formulas,
    make_terms,
    own_price,
    plan_cost,
    rental_price,
)
from configurator.cost.hosts import load_hosts
from configurator.cost.prices import per_usd
from configurator.errors import InputError
from configurator.recommend import recommend
from configurator.recommend.request import parse_request
from configurator.recommend.tiers import load_tiers

CATALOG = load_catalog()
PRICED = [gpu for gpu in CATALOG.gpus if card_price(CATALOG, gpu) and CATALOG.gpus[gpu].tdp_w]


class FewPrices:
    """A catalog with the built-in hosts and currencies and a handful of prices."""

    def __init__(self, *prices: PurchasePrice) -> None:
        self.purchase_prices = tuple(p for p in prices if p.usable)
        self.currencies = CATALOG.currencies
        self.directory = CATALOG.directory


def price(value, condition="new", region="US", confidence="medium", kind="gpu", **more):
    given_ = {
        "kind": kind, "item": "card", "gpu_id": "x", "value": value, "currency": "USD",
        "unit": "per GPU", "region": region, "condition": condition, "confidence": confidence,
        "date": dt.date(2026, 5, 1), "source": "a shop", "source_id": "shop",
    }  # fmt: skip
    return PurchasePrice.model_validate({**given_, **more})


def test_default_price_is_the_median_of_sure_dated_prices_of_place_and_condition():
    catalog = FewPrices(
        price(100), price(130, "street"), price(400), price(1, confidence="low"), price(50, "used"),
        price(90, region="China"), price(2, "list"), price(7, date=None, dated=False),
    )  # fmt: skip
    found = card_price(catalog, "x", "US", "new")
    assert found.amount == Range(130, 100, 400)
    assert found.notes == ()
    assert found.condition == "new"


@pytest.mark.parametrize(
    ("entries", "value", "notes"),
    [
        ([price(5, confidence="low"), price(9, "used")], 5, ("low_confidence",)),
        ([price(9, "used"), price(20, "list")], 20, ("list_price",)),
        ([price(9, "used")], 9, ("other_condition",)),
        ([price(9, withdrawn=dt.date(2026, 3, 4)), price(20, "list")], 20, ("list_price",)),
        ([price(20, "list")], 20, ("list_price",)),
        ([price(9, region="China")], 9, ("other_region",)),
        (
            [price(80, kind="system", item="8x H20 server")],
            10, ("system",),
        ),
        ([price(80, kind="system", item="unknown count")], None, ()),
        ([price(9, date=None, dated=False)], None, ()),
    ],
)  # fmt: skip
def test_each_fallback_is_noted(entries, value, notes):
    found = card_price(FewPrices(*entries), "x", "US", "new")
    if value is None:
        assert found is None
    else:
        assert found.amount.value == value
        assert found.notes == notes


def test_any_condition_is_the_cheaper_one():
    catalog = FewPrices(price(100), price(60, "used"))
    assert card_price(catalog, "x", "US", "any").amount.value == 60


def test_prices_in_another_currency_are_converted_at_the_dated_rate():
    catalog = FewPrices(price(710, currency="CNY"))
    rate = CATALOG.currencies["CNY"].per_usd.value
    assert card_price(catalog, "x").amount.value == pytest.approx(710 / rate)


def test_every_card_price_carries_date_source_region_condition_and_confidence():
    for gpu in PRICED:
        found = card_price(CATALOG, gpu)
        assert found.date.newest.first >= found.date.oldest.first
        assert found.sources
        assert all(found.sources)
        assert found.region
        assert found.condition in ("new", "used", "list")
        assert found.amount.low <= found.amount.value <= found.amount.high


def totals_are_sums(cost: Cost) -> None:
    for end in ("value", "low", "high"):
        bought = sum(getattr(line.amount, end) for line in cost.lines if line.group == "purchase")
        run = sum(getattr(line.amount, end) for line in cost.lines if line.group == "running")
        assert getattr(cost.purchase, end) == round(bought, 2)
        assert getattr(cost.total, end) == round(bought + run, 2)
    for line in cost.lines:
        assert line.amount.value == round(line.unit.value * line.quantity, 2)


@settings(max_examples=60, deadline=None)
@given(
    gpu=st.sampled_from(PRICED),
    count=st.integers(1, 64),
    spares=st.integers(0, 8),
    owned=st.integers(0, 8),
    currency=st.sampled_from(["USD", "CNY", "EUR"]),
    years=st.integers(1, 5),
    busy=st.floats(0.01, 1),
    resale=st.floats(0, 0.6),
    support=st.floats(0, 0.2),
)
def test_totals_equal_the_sum_of_lines_to_the_cent(
    gpu, count, spares, owned, currency, years, busy, resale, support
):
    terms = make_terms(
        CATALOG, currency=currency, years=years, utilisation=busy, resale_share=resale,
        support_share=support, staff_share=0.2, hosting_per_kw_month=150,
    )  # fmt: skip
    cost = plan_cost(gpu, count, terms=terms, spares=spares, owned=owned, catalog=CATALOG)
    totals_are_sums(cost)
    assert cost.purchase.low <= cost.purchase.value <= cost.purchase.high
    assert cost.total.low <= cost.total.value <= cost.total.high


def test_three_year_total_does_not_depend_on_the_years_shown():
    costs = [plan_cost("h100-sxm", 8, terms=make_terms(CATALOG, years=y)) for y in (1, 3, 5)]
    assert len({c.three_year_total for c in costs}) == 1
    assert costs[1].total == costs[1].three_year_total
    assert costs[0].total.value < costs[1].total.value < costs[2].total.value


def test_power_line_is_power_times_pue_times_tariff():
    terms = make_terms(CATALOG, years=1, utilisation=1.0, tariff_per_kwh=0.1, pue=1.5)
    cost = plan_cost("rtx-4090", 1, terms=terms)
    host = load_hosts(CATALOG).host("desktop").host_w.value
    assert cost.peak_power_w == 450 + host
    assert cost.power.value == pytest.approx((450 + host) / 1000 * 1.5 * 8760 * 0.1, abs=0.01)


def test_staff_is_its_share_of_all_cost():
    terms = make_terms(CATALOG, staff_share=0.25)
    cost = plan_cost("l40s", 4, terms=terms)
    assert cost.staff.value == pytest.approx(cost.total.value * 0.25, rel=1e-6)


def test_the_same_people_cost_the_same_every_year():
    costs = [
        plan_cost("l40s", 4, terms=make_terms(CATALOG, years=years, staff_share=0.25))
        for years in (1, 3, 5)
    ]
    a_year = [cost.staff.value / cost.terms.years for cost in costs]
    assert a_year == pytest.approx([a_year[0]] * 3, rel=1e-6)


def test_more_of_the_purchase_moves_the_total_as_said():
    terms = make_terms(
        CATALOG, years=4, staff_share=0.2, support_share=0.08, resale_share=0.15, currency="USD"
    )

    def total(price: float) -> float:
        mine = own_price(price, dt.date(2026, 11, 1))
        return plan_cost("l40s", 4, terms=terms, price=mine).total.value

    carried = formulas.carried(4, 0.08, 0.15, 0.2)
    assert total(9000) - total(8000) == pytest.approx(4000 * carried, rel=1e-5)


@pytest.mark.parametrize("gpu", ["h100-sxm", "l40s", "rtx-4090"])
def test_owning_cards_never_costs_more(gpu: str):
    for count in (1, 4, 8, 12):
        totals = [plan_cost(gpu, count, owned=owned).total.value for owned in range(count + 1)]
        assert totals == sorted(totals, reverse=True), (gpu, count)
    assert plan_cost(gpu, 8, owned=8).purchase.value == 0


def test_own_cards_leave_the_plans_that_there_were():
    def plans(owned: int):
        found = recommend(parse_request({
            "scenario": {"model": "deepseek-ai/DeepSeek-R1", "engine": "sglang",
                         "precision": "fp8"},
            "gpus": ["h200-sxm"], "owned": {"h200-sxm": owned} if owned else {},
        }))  # fmt: skip
        return {tier: found[0].cost.total.value for tier, found in found.tiers.items() if found}

    without, some = plans(0), plans(4)
    assert without.keys() <= some.keys()
    assert all(some[tier] <= without[tier] for tier in without)


def test_break_even_beyond_the_years_or_all_of_the_time_is_none():
    def on_demand(**terms: Any):
        cost = plan_cost("h100-sxm", 8, terms=make_terms(CATALOG, **terms))
        return next(rent for rent in cost.rents if rent.rental == "on_demand")

    rarely = on_demand(years=1, utilisation=0.1)
    assert math.isinf(rarely.break_even_month)
    long = on_demand(years=5, utilisation=1.0)
    assert long.break_even_month <= 60
    assert long.break_even_utilisation <= 1
    assert formulas.break_even_utilisation(120.0, 0.0, 100.0) == math.inf
    staffed = on_demand(staff_share=0.25)
    assert staffed.own_share_without_staff == pytest.approx(staffed.own_share * 0.75, rel=1e-3)


def test_prompts_found_in_the_cache_take_no_time():
    speed = {"output_tokens_per_s": 1000.0, "requests_per_s": 4.0, "prefill_tokens_per_s": 20_000.0}

    def split(share: float):
        return plan_cost("l40s", 1, performance=speed, input_tokens=4000, prefix_cache_share=share)

    plain, cached = split(0.0), split(0.9)
    whole = plain.per_million_tokens.value
    # 80 % of the time goes into prompts without a cache, 8 % with nine tenths found in it.
    assert plain.per_million_output_tokens.value == pytest.approx(whole * 0.2, rel=1e-3)
    assert cached.per_million_output_tokens.value == pytest.approx(whole * 0.92, rel=1e-3)


def test_break_even_month_and_utilisation_are_where_the_curves_cross():
    terms = make_terms(CATALOG, years=3, utilisation=0.9, staff_share=0.2)
    cost = plan_cost("h100-sxm", 8, terms=terms)
    hourly = {rent.rental: rent for rent in cost.rents}["on_demand"]
    months = 36
    own_monthly = (cost.total.value - cost.purchase.value) / months
    at = hourly.break_even_month
    assert cost.purchase.value + own_monthly * at == pytest.approx(
        hourly.total.value / months * at, rel=1e-4
    )
    use = hourly.break_even_utilisation
    there = make_terms(CATALOG, years=3, utilisation=use, staff_share=0.2)
    level = plan_cost("h100-sxm", 8, terms=there)
    rent = {r.rental: r for r in level.rents}["on_demand"]
    assert rent.own_share == pytest.approx(1.0, abs=1e-3)


def test_reservation_without_offers_is_on_demand_less_the_dated_discount():
    found = rental_price(CATALOG, "l40s", "reserved")
    plain = rental_price(CATALOG, "l40s", "on_demand")
    assert found.notes == ("reserved_discount",)
    assert found.amount.value == pytest.approx(plain.amount.value * (1 - 0.46))


def test_tokens_cost_what_the_years_cost_over_what_they_make():
    speed = {"output_tokens_per_s": 1000.0, "requests_per_s": 2.0, "prefill_tokens_per_s": 8000.0}
    cost = plan_cost("h100-sxm", 8, performance=speed, input_tokens=1000)
    made = 1000 * 0.5 * 3 * 8760 * 3600 / 1e6
    assert cost.per_million_tokens.value == pytest.approx(cost.total.value / made, rel=1e-5)
    read = 2000 * 0.5 * 3 * 8760 * 3600 / 1e6
    parts = cost.per_million_input_tokens.value * read + cost.per_million_output_tokens.value * made
    assert parts == pytest.approx(cost.total.value, rel=1e-5)


def test_own_cards_are_not_bought_and_own_prices_replace_the_catalog():
    bought = plan_cost("l40s", 4)
    owned = plan_cost("l40s", 4, owned=4)
    assert owned.purchase.value == 0
    assert owned.power == bought.power
    mine = plan_cost("l40s", 1, price=own_price(1234.5, dt.date(2026, 11, 1)))
    assert mine.lines[0].amount == Range(1234.5, 1234.5, 1234.5)
    assert mine.to_dict()["lines"][0]["amount"]["price_date"] == "2026-11-01"
    # The chassis has the oldest price.
    assert mine.to_dict()["purchase"]["price_date"] == "2024-01-01"


def test_dict_has_the_contract_of_an_amount_and_every_date():
    always = make_terms(CATALOG, currency="CNY", utilisation=1.0)
    out = plan_cost("h100-sxm", 16, host="hgx", terms=always).to_dict()
    for name in ("purchase", "power", "total", "three_year_total", "depreciation_per_year"):
        assert set(out[name]) >= {"amount", "low", "high", "currency", "price_date"}
        assert out[name]["currency"] == "CNY"
    assert {line["id"] for line in out["lines"]} >= {"card", "cpu", "memory", "switch", "power"}
    assert out["exchange_rate"]["date"]
    assert out["cloud"]["on_demand"]["break_even_month"] > 0
    assert all(line["text"] and line["source"] for line in out["lines"])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"gpu": "nosuch"}, "hardware.gpu"),
        ({"gpu": "mi455x"}, "hardware.gpu"),
        ({"gpu": "gb200"}, "hardware.gpu"),
    ],
)
def test_what_cannot_be_priced_is_an_error_that_names_the_field(arguments, field):
    with pytest.raises(InputError) as caught:
        plan_cost(**arguments, gpu_count=1)
    assert caught.value.field == field


def test_unknown_currency_is_an_error():
    with pytest.raises(InputError, match="currency"):
        make_terms(CATALOG, currency="XXX")


def test_formulas_take_arrays_and_agree_with_scalars():
    cards = np.array([1, 8, 64, 65, 1024])
    many = formulas.switches(cards, cards / 8, 64)
    assert many.tolist() == [float(formulas.switches(c, c / 8, 64)) for c in cards]
    assert many.tolist() == [0, 0, 1, 5, 48]
    assert math.isinf(formulas.break_even_month(100, 10, 5))
    assert formulas.nodes(9, 8) == 2
    assert formulas.bought(10, 8, owned=3) == 8


def test_a_list_price_replaces_the_one_before():
    """DGX Spark: 3,999 at launch, 4,699 from February 2026 on, never anything between."""
    found = card_price(CATALOG, "gb10-dgx-spark")
    assert found.amount.value == 4699


def test_at_home_electricity_costs_what_households_pay():
    tiers = {tier.id: tier for tier in load_tiers(CATALOG)}
    home, firm = (make_terms(region="EU", **tiers[t].rates("EU")) for t in ("individual", "sme"))
    rate = per_usd(CATALOG, "EUR")
    assert home.tariff.value * rate == pytest.approx(0.2872)
    assert firm.tariff.value * rate == pytest.approx(0.1902)
