"""Near misses: what is lacking is named, and every change offered does it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.estimate import estimate
from configurator.recommend import changed, parse_request, recommend
from tests.unit.recommend_cases import R1, SEVEN, ask

CODER = {
    "model": "Qwen/Qwen2.5-Coder-32B", "precision": "bf16",
    "inference": {"concurrency": 50, "input_tokens": 6144, "output_tokens": 1024},
}  # fmt: skip
TUNING = {
    "model": "Qwen/Qwen3-8B", "precision": "bf16", "task": "fine_tuning", "engine": "fsdp",
    "training": {"mixed_precision": "bf16_master", "micro_batch_size": 8, "sequence_length": 4096},
}  # fmt: skip


def test_nothing_feasible_gives_the_nearest_and_a_change_that_works():
    base = {"gpus": ["rtx-4090"], "precisions": ["fp16"]}
    scenario = {**SEVEN, "inference": {**SEVEN["inference"], "concurrency": 2000}}
    found = ask(scenario, **base)
    assert not found.tiers["individual"]
    near = next(plan for plan in found.nearest if plan.tier == "individual")
    assert near.missing[0].code in ("memory", "margin")
    changes = [change for fix in near.fixes for change in fix.changes]
    change = next(c for c in changes if c.field == "scenario.inference.concurrency")
    fewer = {**scenario, "inference": {**scenario["inference"], "concurrency": change.value}}
    assert ask(fewer, **base).tiers["individual"]


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_budget": 1000}, "budget"),
        ({"max_power_w": 100}, "power"),
        ({"ttft_s_limit": 0.001}, "ttft"),
        ({"user_tokens_per_s_limit": 5000}, "user_tokens"),
        ({"output_tokens_per_s_limit": 1e7}, "output_tokens"),
        ({"max_rack_units": 0.5}, "rack_units"),
    ],
)
def test_each_limit_that_is_missed_is_named_and_the_change_lifts_it(limit, code):
    base = {"gpus": ["rtx-pro-6000-blackwell-ws"]}
    found = ask(**base, **limit)
    near = next(p for p in found.nearest if p.missing[0].code == code)
    changes = near.fixes[0].changes
    assert {change.field for change in changes} >= set(limit)
    wider = ask(**base, **{change.field: change.value for change in changes})
    assert wider.tiers[near.tier]


def test_training_that_misses_is_told_what_would_make_it_fit():
    scenario = {
        "model": "Qwen/Qwen3-8B", "precision": "bf16", "task": "fine_tuning", "engine": "fsdp",
        "training": {"mixed_precision": "bf16_master", "micro_batch_size": 8,
                     "sequence_length": 4096, "sharding": "fsdp"},
    }  # fmt: skip
    found = ask(scenario, gpus=["h100-sxm"], tiers={"sme": {"max_gpus": 8}})
    near = next(p for p in found.nearest if p.tier == "sme")
    changes = near.fixes[0].changes
    assert all(change.field.startswith("scenario.training.") for change in changes)
    smaller = {change.field.rsplit(".", 1)[1]: change.value for change in changes}
    training = {**scenario["training"], **smaller}
    assert ask({**scenario, "training": training}, gpus=["h100-sxm"]).tiers["sme"]


@pytest.mark.parametrize(
    "asked",
    [
        # What lacks memory has no speed yet, so that limits of speed show only after the change.
        {"scenario": R1, "ttft_s_limit": 5, "user_tokens_per_s_limit": 20},
        {"scenario": CODER, "user_tokens_per_s_limit": 40, "gpus": ["rtx-4090"]},
        {"scenario": CODER, "max_budget": 3000, "ttft_s_limit": 1},
        {"scenario": {**CODER, "engine": "llama_cpp"}, "gpus": ["rtx-3090"]},
        {"scenario": TUNING, "gpus": ["rtx-5090"]},
        {"scenario": SEVEN, "gpus": ["h100-sxm"], "ttft_s_limit": 0.001, "currency": "CNY"},
    ],
)
def test_every_change_offered_is_answered_when_it_is_asked(asked):
    request = parse_request(asked)
    offered = 0
    for near in recommend(request).nearest:
        for fix in near.fixes:
            offered += 1
            other = changed(request, fix.changes)
            again = recommend(other.model_copy(update={"gpus": (near.gpu,)}))
            assert again.tiers[near.tier], fix.to_dict()["text"]
            # The cards that the button takes do it, within the limits as they then are.
            answer = estimate(fix.scenario)
            fits = (True, "tight") if other.accept_tight else (True,)
            assert answer.memory.fits in fits
            if other.ttft_s_limit:
                assert answer.performance.ttft_s <= other.ttft_s_limit
            if other.user_tokens_per_s_limit:
                assert 1 / answer.performance.tpot_s >= other.user_tokens_per_s_limit
            for language in ("en", "zh"):
                assert "{" not in fix.to_dict(language)["text"]
    assert offered


@settings(max_examples=12, deadline=None)
@given(
    users=st.sampled_from([1, 30, 400, 5000]),
    prompt=st.sampled_from([256, 6000, 60_000]),
    pace=st.none() | st.floats(5, 500),
    gpu=st.sampled_from(["rtx-3060-12gb", "rtx-4090", "l40s", "h100-sxm"]),
)
def test_any_change_offered_is_answered(users, prompt, pace, gpu):
    load = {"concurrency": users, "input_tokens": prompt, "output_tokens": 512}
    request = parse_request({
        "scenario": {**SEVEN, "inference": load}, "gpus": [gpu], "user_tokens_per_s_limit": pace,
    })  # fmt: skip
    for near in recommend(request).nearest:
        for fix in near.fixes:
            assert recommend(changed(request, fix.changes)).tiers[near.tier]


def test_a_class_of_buyer_that_lacks_money_is_given_it_alone():
    found = ask(R1, gpus=["rtx-pro-6000-blackwell-ws"], precisions=["int4"])
    near = next(p for p in found.nearest if p.tier == "individual")
    changes = [c for fix in near.fixes for c in fix.changes]
    moved = {c.field for c in changes if c.field.startswith("tiers.")}
    assert moved <= {"tiers.individual.max_budget", "tiers.individual.max_power_w"}
    budget = changed(found.request, changes).tiers
    assert set(budget) <= {"individual"}


def test_where_no_card_is_a_candidate_it_is_said_what_to_allow():
    found = ask({**SEVEN, "engine": "tensorrt_llm"}, vendors=["AMD"])
    assert not found.plans
    assert not found.nearest
    assert {fix.changes[0].field for fix in found.openings} == {"vendors", "scenario.engine"}
    for fix in found.openings:
        assert recommend(changed(found.request, fix.changes)).plans
    assert ask().openings == ()


def test_chinese_sentences_have_no_codes():
    found = [ask(currency="CNY"), ask(TUNING, region="China", gpus=["rtx-4090"], condition="used")]
    codes = re.compile(r"\b(new|used|list|any|optimizer|parameters|fp8|int4|CNY|USD|China)\b")
    for answer in found:
        for plan in (*answer.plans, *answer.nearest):
            for said in (*plan.why, *plan.limits, *plan.missing, *plan.fixes):
                text = said.to_dict("zh")["text"]
                assert not codes.search(text), text


def test_lacking_memory_does_not_look_like_being_fast():
    """The nearest to a pace that no card has are those whose pace is known and named."""
    found = ask(R1, user_tokens_per_s_limit=200)
    assert not found.plans
    for tier in ("sme", "enterprise"):
        near = next(plan for plan in found.nearest if plan.tier == tier)
        assert {item.code for item in near.missing} == {"user_tokens"}


def test_no_change_comes_with_cards_that_do_without_it():
    """12 A100 answer it as it stands, so "FP8 cache and 12 cards" is not offered."""
    scenario = {**R1, "inference": {**R1["inference"], "concurrency": 64}}
    found = ask(scenario)
    for near in found.nearest:
        plain = [p.gpu_count for p in found.tiers[near.tier] if p.gpu == near.gpu]
        for fix in near.fixes:
            taken = [c.value for c in fix.changes if c.field == "scenario.hardware.gpu_count"]
            assert not plain or all(value < min(plain) for value in taken), (near.gpu, fix)
