"""Techniques: every number from the estimate."""

from __future__ import annotations

import json

import pytest

from configurator.estimate import estimate
from configurator.levers import CODES
from configurator.scenario import parse_scenario
from configurator.techniques import Effect, changed, techniques
from configurator.words import say
from tests.unit.technique_cases import (
    QLORA,
    R1,
    SCENARIOS,
    SERVE,
    TRAIN,
    answer,
    one,
    words,
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_before_and_after_come_from_the_estimate(name):
    scenario = parse_scenario(SCENARIOS[name])
    now = Effect.of(estimate(scenario))
    for t in techniques(scenario):
        if t.state in ("not_applicable", "not_computed"):
            assert t.before is None
            assert t.after is None
            assert t.code_files() == ()
            continue
        other = Effect.of(estimate(changed(scenario, t.changes)))
        pair = (now, other) if t.state == "available" else (other, now)
        assert (t.before, t.after) == pair, t.code


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_and_json(name, language):
    for t in techniques(parse_scenario(SCENARIOS[name])):
        assert t.code in CODES
        out = t.to_dict(language)
        assert out["name"]
        assert out["what"]
        assert out["reason"]
        assert "{" not in out["name"] + out["what"] + out["effect"]
        json.dumps(out)


@pytest.mark.parametrize("gpu", ["mi300a", "arc-pro-b70", "ascend-910c"])
def test_a_card_of_unknown_speed_has_techniques_too(gpu):
    scenario = parse_scenario({
        "model": "Qwen/Qwen3-8B", "engine": "llama_cpp", "inference": {"concurrency": 8},
        "hardware": {"gpu": gpu, "gpu_count": 1},
    })  # fmt: skip
    found = {t.code: t.reason for t in techniques(scenario)}
    assert found["batching"] == "speed_unknown"


def test_every_code_has_its_words_and_is_met():
    met = {t.code for raw in SCENARIOS.values() for t in techniques(parse_scenario(raw))}
    assert met == set(CODES)
    for language in ("en", "zh"):
        for code in CODES:
            assert say(f"technique.name.{code}", language)
            assert say(f"technique.what.{code}", language)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("mode", ["amp_bf16", "pure_bf16", "bf16_master"])
def test_checkpointing_never_takes_more_memory(batch, method, mode):
    asked = {"method": method, "micro_batch_size": batch, "mixed_precision": mode}
    t = one({**TRAIN, "training": asked}, "checkpointing")
    assert t.after.required_gib <= t.before.required_gib + 1e-9
    assert t.after.activations_gib <= t.before.activations_gib + 1e-9
    assert t.after.weights_gib == t.before.weights_gib
    assert t.after.tokens_per_s < t.before.tokens_per_s


@pytest.mark.parametrize("code", ["zero1", "zero2", "zero3", "fsdp"])
def test_sharding_saves_and_each_stage_saves_more(code):
    assert one(TRAIN, code).saved_gib > 0
    stages = [one(TRAIN, f"zero{n}").after.required_gib for n in (1, 2, 3)]
    assert stages == sorted(stages, reverse=True)


def test_sharding_needs_two_ranks():
    t = one(QLORA, "zero3")
    assert (t.state, t.reason) == ("not_applicable", "one_rank")


def test_quantisation_and_cache_save():
    eight, four = one(SERVE, "weights_8bit"), one(SERVE, "weights_4bit")
    assert four.after.weights_gib < eight.after.weights_gib < eight.before.weights_gib
    cache = one(SERVE, "kv_8bit")
    assert cache.after.kv_cache_gib == pytest.approx(cache.before.kv_cache_gib / 2)
    assert cache.after.max_concurrency > cache.before.max_concurrency


def test_splits_on_the_same_or_more_cards():
    pair = one(SERVE, "tensor_parallel")
    assert pair.after.gpus == 2
    assert pair.after.weights_gib < 0.6 * pair.before.weights_gib
    copies = one(SERVE, "data_parallel")
    assert copies.after.weights_gib == copies.before.weights_gib
    assert copies.after.tokens_per_s > copies.before.tokens_per_s
    assert one(SERVE, "expert_parallel").state == "not_applicable"
    assert one(R1, "expert_parallel").state == "available"


def test_experts_are_compared_with_a_dense_model_of_the_same_memory():
    t = one(R1, "experts")
    assert t.state == "in_use"
    assert t.after.weights_gib == pytest.approx(t.before.weights_gib, rel=0.05)


def test_what_cannot_be_computed_says_so():
    for raw, code in ((SERVE, "flash_attention"), (R1, "pruning")):
        t = one(raw, code)
        assert t.state == "not_computed"
        assert t.saved_gib is None
        assert t.speed_ratio is None
        assert t.effect() == ""


def test_drafting_gains_by_what_is_accepted():
    t = one(SERVE, "speculative")
    assert t.state == "available"
    assert t.after.tokens_per_s > t.before.tokens_per_s
    rates = []
    for accepted in (0.0, 0.5, 0.9):
        own = {**SERVE["inference"], "speculative_tokens": 3, "acceptance_rate": accepted}
        t = one({**SERVE, "inference": own}, "speculative")
        assert t.state == "in_use"
        assert t.values["accepted"] == accepted
        rates.append(t.speed_ratio)
    assert rates[0] < 1 < rates[1] < rates[2]


def test_own_layers_draft_where_the_model_has_them():
    assert one(R1, "speculative").reason == "drafts_own"
    assert one(SERVE, "speculative").reason == "drafts_lookup"


def test_known_prefix_brings_the_first_token_forward():
    t = one(SERVE, "prefix_cache")
    assert t.after.ttft_s < t.before.ttft_s
    assert t.after.tokens_per_s > t.before.tokens_per_s
    own = {**SERVE["inference"], "prefix_cache_share": 0.9}
    more = one({**SERVE, "inference": own}, "prefix_cache")
    assert more.state == "in_use"
    assert more.after.ttft_s < t.after.ttft_s


def test_batching_is_compared_with_one_after_another():
    t = one(SERVE, "batching")
    assert t.state == "in_use"
    alone = answer(SERVE, **{"inference.concurrency": 1}).performance
    assert t.before.tokens_per_s == pytest.approx(alone.output_tokens_per_s, rel=0.05)
    assert 1 < t.speed_ratio < SERVE["inference"]["concurrency"]
    assert 0 < t.values["static"] < 0.5
    single = {**SERVE, "inference": {"concurrency": 1}}
    assert one(single, "batching").reason == "one_request"
    assert one({**SERVE, "engine": "transformers"}, "batching").reason == "no_batching"


def test_smaller_chunks_hold_less_and_answer_later():
    long = {**SERVE, "inference": {"concurrency": 4, "input_tokens": 32768, "output_tokens": 512}}
    t = one(long, "chunked_prefill")
    assert t.after.activations_gib < t.before.activations_gib
    assert t.after.ttft_s > t.before.ttft_s


@pytest.mark.parametrize("gpu", ["h100-sxm", "b200-sxm"])
def test_four_bits_by_what_the_card_multiplies(gpu):
    t = one({**SERVE, "hardware": {"gpu": gpu, "gpu_count": 1}}, "weights_4bit")
    assert t.scenario.precision == {"h100-sxm": "int4", "b200-sxm": "nvfp4"}[gpu]
    script = next(f.text for f in t.code_files() if f.name == "quantize.py")
    assert {"h100-sxm": '"W4A16"', "b200-sxm": '"NVFP4"'}[gpu] in script
    assert "num_calibration_samples" in script


def test_a_model_published_in_four_bits_needs_no_script():
    raw = {**SERVE, "model": "openai/gpt-oss-20b", "precision": "auto"}
    t = one(raw, "weights_4bit")
    assert t.state == "in_use"
    assert [f.name for f in t.code_files()] == ["serve.sh"]


def test_pruning_is_a_narrower_model():
    t = one(SERVE, "pruning")
    layers, hidden = 36, 4096
    gone = layers * 3 * hidden * (12288 - 9216) * 2 / 2**30
    assert t.before.weights_gib - t.after.weights_gib == pytest.approx(gone, rel=1e-3)
    files = {f.name: f.text for f in t.code_files()}
    assert "WIDTH = 9216" in files["prune.py"]
    assert words(files["serve.sh"])[2] == "Qwen3-8B-pruned"


def test_speed_is_not_compared_with_what_does_not_fit():
    t = one(R1, "tensor_parallel")
    assert t.before.fits is False
    assert t.speed_ratio is None
