"""Money in the ranking: owned cards, hosts, what moves the total, own prices."""

from __future__ import annotations

import itertools

import pytest

from configurator.cost.hosts import load_hosts
from configurator.cost.plan import host_price
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.recommend import (
    break_points,
    cheaper_than_rent_at,
    cost_of,
    read_own_prices,
    template,
    tornado,
)
from configurator.scenario import parse_scenario
from tests.unit.recommend_cases import CATALOG, SEVEN, ask


def test_owned_cards_make_a_plan_cheaper():
    plain = ask(gpus=["rtx-4090"]).tiers["individual"][0]
    owned = ask(gpus=["rtx-4090"], owned={"rtx-4090": 1}).tiers["individual"][0]
    assert owned.bought == plain.bought - 1
    assert owned.cost.purchase.value < plain.cost.purchase.value


def test_host_without_a_price_is_not_free_of_charge():
    for host in load_hosts(CATALOG).hosts:
        priced = host_price(CATALOG, host.id)
        assert len(priced.parts) == len(host.parts)
        assert host.id in ("soc", "nvl72") or priced.amount.value > 0


def test_cost_of_an_estimates_own_hardware_is_the_plans():
    for tier, place in (("individual", 0), ("sme", 0)):
        plan = ask().tiers[tier][place]
        found = cost_of(plan.estimate)
        assert found is not None
        assert found[1].total == plan.cost.total or found[0] != tier
    custom = {"gpu": {"name": "x", "memory_gib": 80, "bandwidth_gbps": 2000, "bf16_tflops": 300}}
    assert cost_of(estimate(parse_scenario({**SEVEN, "hardware": custom}))) is None
    unpriced = {"gpu": "gb200", "gpu_count": 4}
    assert cost_of(estimate(parse_scenario({**SEVEN, "hardware": unpriced}))) is None


# ------------------------------------------------------------------ what moves the total


def test_tornado_ends_are_totals_under_the_changed_assumption():
    plan = ask(currency="CNY").tiers["sme"][0]
    swings = {swing.code: swing for swing in tornado(plan)}
    widths = [swing.width for swing in tornado(plan)]
    assert widths == sorted(widths, reverse=True)
    assert {"tariff", "pue", "utilisation", "years", "staff", "host_price"} <= set(swings)
    tariff = swings["tariff"].high
    again = ask(currency="CNY", tariff_per_kwh=tariff, gpus=[plan.gpu]).tiers["sme"][0]
    assert again.cost.total.value == pytest.approx(swings["tariff"].total_high, abs=0.1)
    busy = ask(currency="CNY", utilisation=1.0, gpus=[plan.gpu]).tiers["sme"][0]
    assert busy.cost.total.value == pytest.approx(swings["utilisation"].total_high, abs=0.1)
    assert all(swing.to_dict()["text"] for swing in swings.values())


def test_price_swing_is_what_another_price_would_give():
    plan = next(p for p in ask(plans=100).tiers["individual"] if p.gpu == "rtx-4090")
    swing = next(s for s in tornado(plan) if s.code == "card_price")
    own = [{"gpu": "rtx-4090", "price": swing.high, "date": "2026-11-01"}]
    dearer = ask(gpus=["rtx-4090"], prices=own).tiers["individual"][0]
    assert dearer.cost.total.value == pytest.approx(swing.total_high, abs=0.01)


def test_break_points_are_the_borders_of_the_ordinary_search():
    plan = ask(gpus=["rtx-4090"]).tiers["individual"][0]
    steps = break_points(plan)
    assert len(steps) >= 2
    for before, after in itertools.pairwise(steps):
        for users, count in ((after.value - 1, before.gpu_count), (after.value, after.gpu_count)):
            load = {**SEVEN, "inference": {**SEVEN["inference"], "concurrency": users}}
            plans = ask(load, gpus=["rtx-4090"]).tiers["individual"]
            assert (plans[0].gpu_count if plans else None) == count
    assert break_points(plan, "context")[0].value == 1
    assert [step.value for step in steps] == sorted(step.value for step in steps)


def test_one_training_run_has_its_own_rent():
    asked = {"model": "Qwen/Qwen3-8B", "task": "fine_tuning", "engine": "fsdp",
             "training": {"method": "full", "sharding": "fsdp"}}  # fmt: skip
    plan = ask(asked, train_tokens_b=2, gpus=["h100-sxm"]).tiers["enterprise"][0]
    rents = {r.rental: r for r in plan.cost.rents}
    rent = rents["on_demand"]
    assert rents["reserved"].run is None  # nobody reserves for days
    spent = plan.cost.total.value / 2e9 * 1e6
    assert plan.cost.per_million_tokens.value == pytest.approx(spent, rel=1e-3)
    hours = 24 * plan.train_days
    assert rent.run.value == pytest.approx(
        plan.gpu_count * hours * rent.per_card_hour.value, rel=1e-3
    )
    again = ask(asked, train_tokens_b=2, years=1, utilisation=1.0, gpus=[plan.gpu])
    other = {r.rental: r for r in again.tiers["enterprise"][0].cost.rents}["on_demand"]
    assert other.run.value == rent.run.value
    unasked = ask(asked, gpus=[plan.gpu])
    assert {r.run for r in unasked.tiers["enterprise"][0].cost.rents} == {None}


def test_the_articles_third_of_the_cloud_holds_where_it_is_said_to():
    plan = ask(gpus=["l40s"]).tiers["sme"][0]
    use = cheaper_than_rent_at(plan, share=1.2)["on_demand"]
    assert use is not None
    at = ask(gpus=["l40s"], utilisation=use).tiers["sme"][0]
    rent = {r.rental: r for r in at.cost.rents}["on_demand"]
    assert rent.own_share == pytest.approx(1.2, abs=0.002)
    assert cheaper_than_rent_at(plan, share=0.001)["on_demand"] is None


# ------------------------------------------------------------------ own prices


CSV = """gpu;price;currency;date
RTX 4090;12,999.00;CNY;2026-11-01
h100-sxm;25000;USD;2026-10-01
=cmd|' /C calc'!A0;5;USD;2026-10-01
a40;-5;USD;2026-10-01
l40s;7000;EUR;2026-10-01
l4;2000;USD;yesterday
rtx-4090;1;USD;2026-10-01
rtx-5090;;USD;
"""


def test_own_prices_are_read_line_by_line():
    prices, problems = read_own_prices(CSV)
    assert [(p.gpu, p.price, p.currency) for p in prices] == [
        ("rtx-4090", 12999.0, "CNY"), ("h100-sxm", 25000.0, "USD"),
    ]  # fmt: skip
    assert [(p.line, p.error.field) for p in problems] == [
        (4, "gpu"), (5, "price"), (6, "currency"), (7, "date"), (8, "gpu"),
    ]  # fmt: skip
    assert problems[0].error.value.startswith("=")
    plan = ask(prices=[p.model_dump() for p in prices], gpus=["h100-sxm"]).tiers["enterprise"][0]
    assert plan.cost.lines[0].unit.value == 25000.0
    assert plan.cost.lines[0].date.isoformat() == "2026-10-01"


def test_the_template_can_be_read_back_and_says_nothing_yet():
    text = template()
    assert text.count("\r\n") == len(CATALOG.gpus) + 1
    assert read_own_prices(text) == ((), ())


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "gpu,price\nx,1\n", "x" * 2_000_001])
def test_a_file_that_is_no_price_list_is_refused(text):
    with pytest.raises(InputError) as caught:
        read_own_prices(text)
    assert caught.value.field == "prices"


def test_a_given_exchange_rate_counts_everywhere():
    catalog = CATALOG.currencies["CNY"].per_usd.value
    usual, given = ask(currency="CNY"), ask(currency="CNY", cny_per_usd=2 * catalog)
    same = ask(currency="CNY", cny_per_usd=catalog)
    cheap, dear = usual.tiers["sme"][0], given.tiers["sme"][0]
    assert dear.cost.terms.rate == pytest.approx(2 * cheap.cost.terms.rate)
    # The same machine, priced in dollars, costs twice as many yuan.
    again = next(p for p in given.exactly(cheap.gpu, cheap.gpu_count) if p.tier == "sme")
    assert again.cost.purchase.value == pytest.approx(2 * cheap.cost.purchase.value, rel=0.02)
    assert [p.cost.total for p in same.plans] == [p.cost.total for p in usual.plans]
    assert "given" in given.plans[0].catalog.currencies["CNY"].per_usd.source
    assert CATALOG.currencies["CNY"].per_usd.value == catalog


@pytest.mark.parametrize("currency", ["USD", "CNY"])
def test_what_else_is_bought_is_a_line_and_counts(currency):
    usual = ask(currency=currency)
    found = ask(currency=currency, tiers={"sme": {"other_purchase": 25_000}})
    before, after = usual.tiers["sme"][0], found.tiers["sme"][0]
    assert after.gpu == before.gpu
    line = next(line for line in after.cost.lines if line.id == "other")
    assert line.amount.value == pytest.approx(25_000, abs=0.01)
    more = after.cost.purchase.value - before.cost.purchase.value
    assert more == pytest.approx(25_000, abs=0.01)
    assert after.cost.total.value - before.cost.total.value >= 25_000 - 0.01
    assert found.tiers["individual"][0].cost.total == usual.tiers["individual"][0].cost.total
    within = ask(
        currency=currency,
        tiers={"sme": {"other_purchase": 25_000, "max_budget": before.cost.purchase.value + 1}},
    )
    assert all(p.cost.purchase.value <= before.cost.purchase.value + 1
               for p in within.tiers["sme"])  # fmt: skip
