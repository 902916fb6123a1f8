"""Requests and their answers: the contract, cards left out, bad input, edited tiers."""

from __future__ import annotations

import json

import pytest

from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.recommend import parse_request, recommend
from configurator.recommend.tiers import load_tiers
from configurator.scenario import parse_scenario
from tests.unit.recommend_cases import CATALOG, R1, SEVEN, ask, cards


def test_recommendation_is_the_contracts_and_plain_json():
    out = ask(R1, user_tokens_per_s_limit=20).to_dict()
    json.dumps(out, allow_nan=False)
    assert set(out) >= {"tiers", "pareto", "nearest", "warnings"}
    plan = out["tiers"]["enterprise"]["plans"][0]
    for name in (
        "rank", "gpu", "gpu_count", "nodes", "replicas", "tensor_parallel", "pipeline_parallel",
        "expert_parallel", "data_parallel", "precision", "memory", "kv", "performance", "cost",
        "why", "limits", "link",
    ):  # fmt: skip
        assert name in plan
    assert plan["why"][0]["text"]
    assert plan["link"].startswith("?v=1&")
    for miss in out["nearest"]:
        assert miss["missing"]
        assert all(reason["text"] for reason in miss["missing"])


def test_shown_numbers_are_the_ordinary_estimates():
    plan = ask(R1).tiers["enterprise"][0]
    out = plan.to_dict()
    again = estimate(parse_scenario(out["scenario"])).to_dict()
    assert out["memory"] == again["memory"]
    assert out["performance"] == again["performance"]


def test_cards_made_for_china_are_left_out_elsewhere_and_said():
    us = ask(region="US")
    assert us.rejected["h800-sxm"] == "not_sold"
    china = ask(region="China", plans=100)
    plan = next(p for p in china.plans if p.gpu == "h800-sxm")
    assert "made_for_china" in {reason.code for reason in plan.limits}
    licensed = next(p for p in china.plans if p.gpu == "h100-sxm")
    assert "export" in {reason.code for reason in licensed.limits}


def test_engines_run_only_on_their_cards():
    found = ask({**SEVEN, "engine": "tensorrt_llm"}, plans=100)
    assert {CATALOG.gpu(p.gpu).vendor for p in found.plans} == {"NVIDIA"}
    assert found.rejected["t4"] == "engine"
    apple = ask({**SEVEN, "engine": "llama_cpp", "precision": "q4_k_m"}, plans=100, condition="any")
    assert "apple-m2-ultra" in {p.gpu for p in apple.plans}


def test_who_asks_for_new_cards_gets_no_used_ones():
    asked = {**SEVEN, "engine": "llama_cpp", "precision": "q4_k_m"}
    found = ask(asked, plans=100)
    assert not [p.gpu for p in found.plans if p.price.condition == "used"]
    assert found.rejected["apple-m2-ultra"] == "only_used"
    assert [
        p.gpu for p in ask(asked, plans=100, condition="used").plans if p.price.condition == "used"
    ]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ([], "request"),
        ("x", "request"),
        ({"scenario": []}, "scenario"),
        ({"scenario": {"model": "nosuch-model"}}, "model"),
        ({"scenario": {**SEVEN, "precision": "fp7"}}, "scenario.precision"),
        (
            {"scenario": {**SEVEN, "inference": {"concurrency": -1}}},
            "scenario.inference.concurrency",
        ),
        ({"scenario": SEVEN, "max_budget": -5}, "max_budget"),
        ({"scenario": SEVEN, "max_budget": float("nan")}, "max_budget"),
        ({"scenario": SEVEN, "max_budget": float("inf")}, "max_budget"),
        ({"scenario": SEVEN, "max_budget": "much"}, "max_budget"),
        ({"scenario": SEVEN, "years": 6}, "years"),
        ({"scenario": SEVEN, "years": 2.5}, "years"),
        ({"scenario": SEVEN, "utilisation": 0}, "utilisation"),
        ({"scenario": SEVEN, "currency": "XXX"}, "currency"),
        ({"scenario": SEVEN, "region": "Mars"}, "region"),
        ({"scenario": SEVEN, "condition": "broken"}, "condition"),
        ({"scenario": SEVEN, "objective": "beauty"}, "objective"),
        ({"scenario": SEVEN, "vendors": ["Acme"]}, "vendors.0"),
        ({"scenario": SEVEN, "owned": {"nosuch": 1}}, "owned"),
        ({"scenario": SEVEN, "owned": {"rtx-4090": -1}}, "owned.rtx-4090"),
        ({"scenario": SEVEN, "spare_gpus": 1e12}, "spare_gpus"),
        ({"scenario": SEVEN, "prices": [{"gpu": "rtx-4090", "price": 5}]}, "prices.0.date"),
        ({"scenario": SEVEN, "pue": 0.5}, "pue"),
        ({"scenario": SEVEN, "surprise": 1}, "surprise"),
        ({"scenario": SEVEN, "train_tokens_per_s_limit": 5}, "train_tokens_per_s_limit"),
    ],
)  # fmt: skip
def test_bad_input_names_the_field(bad, field):
    with pytest.raises(InputError) as caught:
        recommend(parse_request(bad))
    assert caught.value.field == field
    assert caught.value.text()


def test_tiers_can_be_edited_by_a_request():
    plain = ask(plans=100)
    edit = {"individual": {"max_budget": 2000, "max_gpus": 1}, "sme": {"require_ecc": False}}
    found = ask(plans=100, tiers=edit)
    assert all(plan.cost.purchase.value <= 2000 for plan in found.tiers["individual"])
    assert all(plan.gpu_count == 1 for plan in found.tiers["individual"])
    assert set(cards(plain, "sme")) < set(cards(found, "sme")) | {"rtx-4090"}
    assert cards(found, "enterprise") == cards(plain, "enterprise")


TRAINING = {
    "model": {"parameters_b": 7}, "task": "training", "engine": "fsdp", "precision": "bf16",
    "training": {"method": "full", "sequence_length": 4096},
}  # fmt: skip


def test_a_day_to_be_done_by_is_a_speed():
    free = ask(TRAINING, train_tokens_b=100)
    days = [plan.train_days for plan in free.plans]
    limit = min(days) / 2
    found = ask(TRAINING, train_tokens_b=100, train_days_limit=limit)
    assert found.plans
    assert all(plan.train_days <= limit * 1.000001 for plan in found.plans)
    per_s = 100e9 / (limit * 86_400)
    same = ask(TRAINING, train_tokens_per_s_limit=per_s)
    assert [p.scenario for p in same.plans] == [p.scenario for p in found.plans]
    fixes = [fix for miss in found.nearest for fix in miss.fixes]
    late = [c for fix in fixes for c in fix.changes if c.field == "train_days_limit"]
    assert late
    assert all(change.value > limit for change in late)


@pytest.mark.parametrize(
    ("scenario", "limits"),
    [(SEVEN, {"train_tokens_b": 10}), (TRAINING, {"train_days_limit": 5})],
    ids=["serving", "no tokens"],
)
def test_a_run_that_makes_no_sense_is_refused(scenario, limits):
    with pytest.raises(InputError, match="train_"):
        ask(scenario, **limits)


@pytest.mark.parametrize(
    "limits",
    [
        {"segments": ["desktop SoC"], "ecc": True, "nvlink": True},
        {"region": "China", "gpus": ["h100-sxm"], "export_limits": True},
    ],
    ids=["features", "region"],
)
def test_what_keeps_every_card_out_is_offered_to_be_dropped(limits):
    found = ask(R1, **limits)
    assert not found.plans
    assert not found.nearest
    assert found.openings
    for fix in found.openings:
        assert {change.field for change in fix.changes} <= set(limits)
        assert fix.to_dict("zh")["text"]


def test_the_second_load_is_not_held_to_the_first_ones_days():
    alone = ask(TRAINING, also=TRAINING)
    both = ask(TRAINING, also=TRAINING, train_tokens_b=100, train_days_limit=10)
    fewest = min(plan.beside.gpu_count for plan in alone.plans)
    assert min(plan.beside.gpu_count for plan in both.plans) == fewest
    assert all(plan.train_days <= 10.000001 for plan in both.plans)


def test_cards_of_one_region_are_for_who_buys_there_or_names_them():
    h20 = {"gpus": ["h20-96"]}
    assert ask(SEVEN).rejected["h20-96"] == "not_sold"
    assert ask(SEVEN, region="US", **h20).rejected["h20-96"] == "not_sold"
    for wanted in (h20, {"region": "China", **h20}):
        assert {p.gpu for p in ask(SEVEN, **wanted).plans} == {"h20-96"}
    licensed = ask(SEVEN, region="China", export_limits=True)
    assert licensed.rejected["h20-96"] == "export"
    (plan, *_) = ask(SEVEN, region="China", **h20).plans
    assert "export_named" in {reason.code for reason in plan.limits}
    huawei = ask({**SEVEN, "engine": "transformers"}, vendors=["Huawei"])
    assert not huawei.plans
    assert ["Buy in China"] in [
        [change.to_dict("en")["text"] for change in fix.changes] for fix in huawei.openings
    ]


@pytest.mark.parametrize("users", [1, 30, 100])
@pytest.mark.parametrize("tokens", [(1024, 128), (32768, 1024)])
def test_all_together_read_no_more_than_each_of_them(users, tokens):
    load = {"concurrency": users, "input_tokens": tokens[0], "output_tokens": tokens[1]}
    for model in ("Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3.2"):
        found = ask({"model": model, "inference": load}, plans=100)
        assert found.plans
        for plan in found.plans:
            speed = plan.estimate.performance
            most = users * tokens[1] / ((tokens[1] - 1) * speed.tpot_s)
            assert speed.output_tokens_per_s <= most * (1 + 1e-9), plan.gpu


def test_a_household_circuit_is_that_of_the_region() -> None:
    """Four cards of 350 W are too much for a US circuit all day, not for a European one."""
    asked = {
        "scenario": {"model": "Qwen/Qwen3-32B", "precision": "bf16"}, "condition": "used",
        "gpus": ["rtx-3090"], "accept_tight": True,
    }  # fmt: skip
    at_home, abroad = (
        recommend(parse_request({**asked, "region": region})).tiers["individual"]
        for region in ("US", "EU")
    )
    assert not any(plan.cost.peak_power_w > 1440 for plan in at_home)
    assert all(plan.cost.peak_power_w <= 2944 for plan in abroad)
    assert load_tiers(CATALOG)[0].in_region("EU").max_power_w.value == 2944
