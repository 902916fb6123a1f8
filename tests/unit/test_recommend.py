"""The ranking: the true optimum, what must never happen, and the article's cases."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.cost.formulas import bought, nodes
from configurator.cost.hosts import load_hosts
from configurator.cost.plan import plan_cost
from configurator.cost.prices import card_price
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.recommend import Request, load_tiers, parse_request, recommend
from configurator.recommend.search import tier_terms
from configurator.scenario import parse_scenario
from tests.unit.recommend_cases import CATALOG, R1, SEVEN, ask, cards

# ------------------------------------------------------------------ the true optimum


def brute_force(request: Request, tier_number: int) -> dict[str, float]:
    """Least total of each card in a tier, one estimate and one bill at a time."""
    tier = load_tiers(CATALOG)[tier_number]
    terms = tier_terms(request, tier, CATALOG)
    best: dict[str, float] = {}
    for gpu_id in request.gpus:
        gpu = CATALOG.gpu(gpu_id)
        if gpu.segment not in tier.segments or gpu.domain_size < tier.least_domain:
            continue
        if tier.require_ecc and gpu.ecc is not True:
            continue
        for count, tensor, pipeline in itertools.product(
            tier.counts, (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 6, 8, 12, 16)
        ):
            if count > 32 or count % (tensor * pipeline):
                continue
            data = count // (tensor * pipeline)
            host = smallest_host_of(tier, gpu, count + tier.spare_gpus)
            if host is None or data > request.scenario.serving.concurrency:
                continue
            needed = count + tier.spare_gpus
            installed = int(bought(needed, host.step))
            if nodes(installed, host.slots) > tier.max_nodes:
                continue
            if tensor > max(host.slots, gpu.domain_size) or (
                installed > host.slots and host.slots % tensor
            ):
                continue
            for expert in {1, tensor * data}:
                hardware = {
                    "gpu": gpu_id, "gpu_count": count, "tensor_parallel": tensor,
                    "pipeline_parallel": pipeline, "expert_parallel": expert, "data_parallel": data,
                }  # fmt: skip
                if expert > 1 and (data == 1 or pipeline > 1):
                    continue
                asked = request.scenario.model_dump(exclude_none=True, exclude={"hardware"})
                try:
                    answer = estimate(parse_scenario({**asked, "hardware": hardware}))
                except InputError:
                    continue
                cost = plan_cost(gpu_id, count, terms=terms, host=host.id, spares=tier.spare_gpus)
                if within_limits(request, tier, terms, answer, cost):
                    best[gpu_id] = min(best.get(gpu_id, float("inf")), cost.total.value)
    return best


def smallest_host_of(tier, gpu, needed):
    fitting = [h for h in (load_hosts(CATALOG).host(n) for n in tier.hosts)
               if gpu.form_factor in h.form_factors]  # fmt: skip
    return next((h for h in fitting if h.slots >= needed), fitting[-1] if fitting else None)


def within_limits(request, tier, terms, answer, cost) -> bool:
    memory, speed = answer.memory, answer.performance
    budget = request.max_budget or (tier.max_budget and tier.max_budget.value * terms.rate)
    power = request.max_power_w or (tier.max_power_w and tier.max_power_w.value)
    return (
        memory.fits is True
        and (not budget or cost.purchase.value <= budget)
        and (not power or cost.peak_power_w <= power)
        and (not request.ttft_s_limit or speed.ttft_s <= request.ttft_s_limit)
        and (
            not request.user_tokens_per_s_limit
            or 1 / speed.tpot_s >= request.user_tokens_per_s_limit
        )
    )


@pytest.mark.parametrize(
    "request_",
    [
        {"scenario": SEVEN, "gpus": ["rtx-4090", "rtx-3060-12gb", "l4", "h100-sxm"]},
        {
            "scenario": SEVEN, "gpus": ["rtx-4090", "rtx-5090", "l40s", "a100-sxm4-80"],
            "ttft_s_limit": 0.5, "user_tokens_per_s_limit": 60,
        },
        {
            "scenario": R1, "gpus": ["h200-sxm", "mi300x", "h100-sxm", "rtx-pro-6000-blackwell-ws"],
            "user_tokens_per_s_limit": 20, "currency": "CNY",
        },
    ],
)  # fmt: skip
def test_first_plan_is_the_true_optimum(request_):
    request = parse_request(request_)
    found = recommend(request)
    total = 0
    for number, tier in enumerate(load_tiers(CATALOG)):
        truth = brute_force(request, number)
        total += len(truth)
        plans = found.tiers[tier.id]
        shown = {plan.gpu: plan.cost.total.value for plan in plans}
        # Money is rounded to cents a line, in the ranking at the end only.
        assert shown == pytest.approx({k: truth[k] for k in shown}, abs=0.5)
        assert len(plans) == len([t for t in truth if t in shown])
        if truth:
            assert plans[0].cost.total.value == pytest.approx(min(truth.values()), abs=0.5)
            assert set(shown) == set(truth)
    assert total >= 4


# ------------------------------------------------------------------ what must never happen


RANKED = ask(plans=100)
LIMITS = {
    "max_budget": st.floats(1500, 1e6),
    "max_power_w": st.floats(300, 2e4),
    "ttft_s_limit": st.floats(0.05, 5),
    "user_tokens_per_s_limit": st.floats(5, 120),
    "output_tokens_per_s_limit": st.floats(20, 2000),
    "max_gpus": st.integers(1, 64),
    "max_rack_units": st.floats(1, 64),
}
TIGHTER_IS_MORE = {"user_tokens_per_s_limit", "output_tokens_per_s_limit"}


@settings(max_examples=25, deadline=None)
@given(
    tier=st.sampled_from(["individual", "sme", "enterprise"]),
    place=st.integers(0, 40),
    share=st.floats(0.05, 0.999),
)
def test_a_cheaper_price_never_worsens_a_plans_rank(tier, place, share):
    before = cards(RANKED, tier)
    gpu = before[place % len(before)]
    now = card_price(CATALOG, gpu).amount.value
    own = [{"gpu": gpu, "price": now * share, "date": "2026-11-01"}]
    after = cards(ask(plans=100, prices=own), tier)
    assert after.index(gpu) <= before.index(gpu)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(LIMITS)))
def test_a_looser_limit_never_removes_a_plan(data, name):
    one, other = data.draw(LIMITS[name]), data.draw(LIMITS[name])
    tight, loose = sorted((one, other), reverse=name in TIGHTER_IS_MORE)
    narrow, wide = ask(plans=100, **{name: tight}), ask(plans=100, **{name: loose})
    for tier in narrow.tiers:
        assert set(cards(narrow, tier)) <= set(cards(wide, tier))


@pytest.mark.parametrize(
    ("tight", "loose"),
    [
        ({}, {"accept_tight": True}),
        ({"ecc": True}, {"ecc": False}),
        ({"nvlink": True}, {}),
        ({"vgpu": True}, {}),
        ({"vendors": ["AMD"]}, {"vendors": ["AMD", "NVIDIA"]}),
        ({"segments": ["workstation"]}, {}),
        ({"condition": "new"}, {"condition": "any"}),
        ({"condition": "used"}, {"condition": "any"}),
        ({"spare_gpus": 4}, {"spare_gpus": 0}),
        ({"spare_node": True}, {}),
        ({"precisions": ["fp16"]}, {"precisions": ["fp16", "int4"]}),
        ({"region": "China", "export_limits": True}, {"region": "China"}),
        ({"without_gpus": ["rtx-4090"]}, {}),
    ],
)
def test_dropping_a_constraint_never_removes_a_plan(tight, loose):
    base = {"max_budget": 60000}
    narrow, wide = ask(plans=100, **base, **tight), ask(plans=100, **base, **loose)
    for tier in narrow.tiers:
        assert set(cards(narrow, tier)) <= set(cards(wide, tier))


def test_a_card_appears_once_a_tier_and_only_where_all_limits_hold():
    found = ask(plans=100, ttft_s_limit=1.0, max_budget=50000)
    for tier, plans in found.tiers.items():
        assert len({plan.gpu for plan in plans}) == len(plans), tier
        assert [plan.rank for plan in plans] == list(range(1, len(plans) + 1))
        for plan in plans:
            assert plan.estimate.memory.fits is True
            assert plan.estimate.performance.ttft_s <= 1.0 + 1e-9
            assert plan.cost.purchase.value <= 50000.01
            assert plan.estimate.kv.max_concurrency >= 8
        totals = [plan.cost.total.value for plan in plans]
        assert totals == sorted(totals)


def test_totals_of_plans_equal_the_sum_of_their_lines_to_the_cent():
    for plan in ask(R1, currency="CNY", resale_share=0.2, support_share=0.05).plans:
        cost = plan.cost
        assert cost.total.value == round(sum(line.amount.value for line in cost.lines), 2)
        bought_lines = [line.amount.value for line in cost.lines if line.group == "purchase"]
        assert cost.purchase.value == round(sum(bought_lines), 2)


def test_undated_prices_are_never_used():
    for plan in RANKED.plans:
        bought_lines = [line for line in plan.cost.lines if line.group == "purchase"]
        assert all(line.date is not None for line in bought_lines)


@pytest.mark.parametrize(
    "objective", ["cost", "purchase", "per_million_tokens", "latency", "headroom", "energy"]
)
def test_every_objective_ranks_by_itself(objective):
    plans = ask(objective=objective, plans=8).tiers["individual"]
    values = {
        "cost": lambda p: p.cost.total.value,
        "purchase": lambda p: p.cost.purchase.value,
        "per_million_tokens": lambda p: p.cost.per_million_tokens.value,
        "latency": lambda p: p.estimate.performance.ttft_s + 511 * p.estimate.performance.tpot_s,
        "headroom": lambda p: p.estimate.memory.required_high_gib / p.estimate.memory.budget_gib,
        "energy": lambda p: p.cost.kwh_per_year / p.estimate.performance.output_tokens_per_s,
    }
    seen = [values[objective](plan) for plan in plans]
    assert seen == sorted(seen) or seen == pytest.approx(sorted(seen), rel=1e-6)


def test_pareto_front_rises_in_cost_and_speed():
    front = RANKED.pareto
    assert len(front) > 3
    for one, two in itertools.pairwise(front):
        assert one.total <= two.total
        assert one.tokens_per_s < two.tokens_per_s


def test_drafting_layers_count_in_the_ranking():
    load = {**R1["inference"], "speculative_tokens": 2}
    for plan in ask({**R1, "inference": load}).plans:
        assert plan.estimate.memory.fits is True


# ------------------------------------------------------------------ the article's cases


def test_7b_for_one_developer_has_a_plan():
    found = recommend(parse_request({"model": SEVEN["model"], "precision": "fp16"}))
    assert found.tiers["individual"]
    one = ask({**SEVEN, "inference": {"concurrency": 1}}, plans=100)
    assert "rtx-4090" in cards(one, "individual")


def test_13b_for_fifty_users_has_a_plan_in_a_server():
    scenario = {
        "model": "meta-llama/Llama-2-13b-hf", "precision": "fp16",
        "inference": {"concurrency": 50, "input_tokens": 1024, "output_tokens": 512},
    }  # fmt: skip
    plans = ask(scenario, plans=100).tiers["sme"]
    assert plans
    assert all(plan.nodes == 1 and plan.gpu_count <= 8 for plan in plans)
    assert "a100-pcie-80" in {plan.gpu for plan in plans}


def test_65b_training_beside_serving_has_a_plan_for_the_large():
    training = {
        "model": "huggyllama/llama-65b", "precision": "bf16", "task": "training",
        "engine": "megatron",
        "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True},
    }  # fmt: skip
    serving = {
        "model": "huggyllama/llama-65b", "precision": "fp16",
        "inference": {"concurrency": 32, "input_tokens": 1024, "output_tokens": 512},
    }  # fmt: skip
    plan = ask(training, also=serving).tiers["enterprise"][0]
    assert plan.beside.estimate.memory.fits is True
    assert plan.estimate.memory.fits is True
    assert plan.bought >= plan.gpu_count + plan.beside.gpu_count + 2
    assert plan.spare_gpus >= 2
    assert plan.to_dict()["beside"]["gpu_count"] == plan.beside.gpu_count


def test_open_sharding_is_chosen_and_said():
    scenario = {
        "model": "huggyllama/llama-65b", "precision": "bf16", "task": "training",
        "engine": "deepspeed",
        "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True},
    }  # fmt: skip
    plan = ask(scenario).tiers["enterprise"][0]
    assert plan.to_dict()["sharding"] == "zero3"
    fixed = {**scenario, "training": {**scenario["training"], "sharding": "none"}}
    assert not ask(fixed).tiers["enterprise"]


def test_training_in_bf16_is_planned_on_cards_that_have_it():
    """V100s have none; PyTorch would emulate it."""

    def planned(mode):
        scenario = {
            "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "precision": "nf4",
            "training": {
                "method": "qlora", "mixed_precision": mode, "gradient_checkpointing": True,
            },
        }  # fmt: skip
        return bool(ask(scenario, gpus=["v100-sxm2-32"]).plans)

    assert not planned("amp_bf16")
    assert planned("amp_fp16")
