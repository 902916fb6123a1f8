"""Plans of a number of cards that was asked for, points of the front, and links with the terms."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from configurator.export.facts import facts_of
from configurator.link import BUYERS, buying_of, currency_of, decode, limits_of, vendors_of
from configurator.recommend import parse_request
from configurator.recommend.plans import scenario_link
from configurator.recommend.request import terms_of
from tests.unit.recommend_cases import CATALOG, SEVEN, ask

TUNING = {"model": "Qwen/Qwen3-8B", "task": "fine_tuning", "engine": "transformers",
          "precision": "nf4", "training": {"method": "qlora"}}  # fmt: skip
TERMS = {
    "currency": "CNY", "vendors": ["NVIDIA"], "user_tokens_per_s_limit": 10, "years": 4,
    "utilisation": 0.3, "objective": "energy", "region": "China", "condition": "any",
    "segments": ["workstation", "datacenter"], "form_factors": ["PCIe card", "PCIe passive"],
    "ecc": True, "max_gpus": 64, "max_rack_units": 42, "max_power_w_per_host": 9000,
    "spare_gpus": 1, "spare_node": True, "sure_prices": True, "export_limits": True,
    "cny_per_usd": 7.5,
    "tariff_per_kwh": 0.7, "pue": 1.3, "hosting_per_kw_month": 900, "staff_share": 0.1,
    "support_share": 0.05, "resale_share": 0.2, "accept_tight": True, "owned": {"l40s": 2},
    "tiers": {
        "sme": {"max_budget": 3_000_000, "max_power_w": 5000},
        "enterprise": {"other_purchase": 1_000_000},
    },
}  # fmt: skip


@pytest.mark.parametrize("scenario", [SEVEN, TUNING], ids=["serving", "tuning"])
def test_the_number_a_plan_has_gives_that_plan(scenario):
    found = ask(scenario)
    for plan in found.plans:
        same = [p for p in found.exactly(plan.gpu, plan.gpu_count) if p.tier == plan.tier]
        assert [(p.rank, p.scenario, p.cost.total) for p in same] == [
            (plan.rank, plan.scenario, plan.cost.total)
        ]


@pytest.mark.parametrize("scenario", [SEVEN, TUNING], ids=["serving", "tuning"])
def test_every_point_of_the_front_is_a_plan(scenario):
    found = ask(scenario)
    assert len(found.pareto) > 5
    for point in found.pareto:
        plan = next(p for p in found.exactly(point.gpu, point.gpu_count) if p.tier == point.tier)
        assert plan.gpu_count == point.gpu_count
        assert plan.cost.total.value == pytest.approx(point.total, rel=1e-5)
        assert plan.why[0].values["rank"] == plan.rank


def test_more_cards_never_rank_before_the_best_number():
    found = ask()
    for point in found.pareto:
        for plan in found.exactly(point.gpu, point.gpu_count):
            best = next((p for p in found.tiers[plan.tier] if p.gpu == plan.gpu), None)
            if best is not None:
                assert plan.rank >= best.rank


def test_no_plan_of_a_number_that_does_not_do_it():
    found = ask({**SEVEN, "model": "deepseek-ai/DeepSeek-R1"})
    assert found.exactly("rtx-4090", 1) == ()
    assert found.exactly("no-such-card", 1) == ()


def test_links_carry_limits_for_all_buyers():
    request = parse_request({"scenario": SEVEN, "max_budget": 9000, "max_power_w": 1200})
    query = dict(parse_qsl(scenario_link(request.scenario, request).removeprefix("?")))
    held = buying_of(query)
    assert dict(held.budgets) == dict.fromkeys(BUYERS, 9000)
    assert dict(held.powers) == dict.fromkeys(BUYERS, 1200)


def test_links_carry_the_terms():
    request = parse_request({"scenario": SEVEN, **TERMS})
    query = dict(parse_qsl(scenario_link(request.scenario, request).removeprefix("?")))
    assert decode(query) == (request.scenario, [])
    assert replace(buying_of(query), compared=None) == terms_of(request)
    assert currency_of(query) == "CNY"
    assert vendors_of(query, ("NVIDIA", "AMD")) == ("NVIDIA",)
    assert limits_of(query) == (None, 10.0)


def test_links_of_plans_points_and_papers_are_such_links():
    found = ask(objective="energy", condition="used", years=5)
    plan, point = found.plans[0], found.pareto[0]
    assert plan.link == scenario_link(plan.scenario, found.request)
    assert point.to_dict()["link"] == scenario_link(point.scenario, found.request)
    paper = facts_of(plan, found.request, "en").link
    assert paper == scenario_link(plan.scenario, found.request, CATALOG.version)
    assert "obj=energy" in paper
