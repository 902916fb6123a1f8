"""How many users: the same figures as one estimate, and tighter limits never carry more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.capacity import load, users_within
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.recommend import Request, recommend
from configurator.scenario import Scenario, parse_scenario

ENGINES = ("vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp")


def serving(
    engine: str = "vllm", gpu: str = "l40s", count: int = 1, users: int = 16, **more: Any
) -> Scenario:
    block = {"concurrency": users, "input_tokens": 2048, "output_tokens": 512, **more}
    return parse_scenario(
        {
            "model": "Qwen/Qwen3-8B", "engine": engine, "inference": block,
            "hardware": {"gpu": gpu, "gpu_count": count},
        }
    )  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("gpu", "count"), [("l40s", 1), ("h200-sxm", 8), ("rtx-4090", 3)])
def test_same_as_one_estimate_after_another(engine: str, gpu: str, count: int) -> None:
    scenario = serving(engine, gpu, count)
    users = [1, 2, 16, 64]
    if engine in ("transformers", "llama_cpp"):  # what grows has no queue to speak of
        users = [n for n in users if n <= users_within(scenario)]
    found = load(scenario, users)
    for place, n in enumerate(users):
        own = estimate(serving(engine, gpu, count, n)).performance
        assert own.ttft_s == pytest.approx(found.ttft_s.value[place])
        assert own.ttft_s_high == pytest.approx(found.ttft_s.high[place])
        assert own.tpot_s is not None
        assert own.tpot_s_high is not None
        assert 1 / own.tpot_s == pytest.approx(found.tokens_per_s.value[place])
        assert 1 / own.tpot_s_high == pytest.approx(found.tokens_per_s.low[place])
        assert own.output_tokens_per_s == pytest.approx(found.output_tokens_per_s.value[place])
        assert own.output_tokens_per_s_low == pytest.approx(found.output_tokens_per_s.low[place])


@pytest.mark.parametrize("engine", ["vllm", "sglang", "transformers", "llama_cpp"])
def test_layers_in_host_memory_count_at_every_load(engine: str) -> None:
    def asked(users: int) -> Scenario:
        found = serving(engine, "rtx-4090", users=users)
        card = {"gpu": "rtx-4090", "gpu_count": 1, "allow_cpu_offload": True}
        return parse_scenario({**found.model_dump(), "model": "Qwen/Qwen3-32B", "hardware": card})

    users = [1, 4, 16]
    found = load(asked(1), users)
    for place, n in enumerate(users):
        own = estimate(asked(n)).performance
        assert own.output_tokens_per_s == pytest.approx(found.output_tokens_per_s.value[place])


@pytest.mark.parametrize("users", [512, 2048])
def test_the_cache_is_that_of_the_load_not_of_the_scenario(users: int) -> None:
    found = load(serving(gpu="rtx-4090", users=1), [users])
    own = estimate(serving(gpu="rtx-4090", users=users)).performance
    assert own.output_tokens_per_s == pytest.approx(found.output_tokens_per_s.value[0])


@pytest.mark.parametrize(
    "lever",
    [{"prefix_cache_share": 0.8}, {"speculative_tokens": 3, "acceptance_rate": 0.6}],
    ids=lambda lever: next(iter(lever)),
)
def test_levers_of_the_load_count_as_in_one_estimate(lever: dict[str, float]) -> None:
    found = load(serving(**lever), [8])
    own = estimate(serving(users=8, **lever)).performance
    assert found.ttft_s.value[0] == pytest.approx(own.ttft_s)
    assert found.output_tokens_per_s.value[0] == pytest.approx(own.output_tokens_per_s)
    assert found.output_tokens_per_s.value[0] > load(serving(), [8]).output_tokens_per_s.value[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_without_limits_it_is_what_memory_holds(engine: str) -> None:
    most = users_within(serving(engine))
    assert estimate(serving(engine, users=most)).memory.headroom_gib >= 0
    assert estimate(serving(engine, users=most + 1)).memory.headroom_gib < 0


@settings(max_examples=60, deadline=None)
@given(
    engine=st.sampled_from(ENGINES),
    gpu=st.sampled_from(["l40s", "h200-sxm", "rtx-4090", "mi300x"]),
    count=st.sampled_from([1, 2, 8]),
    ttft=st.floats(0.02, 60),
    tps=st.floats(0.5, 300),
    tighter=st.floats(1.0, 10.0),
)
def test_a_tighter_limit_never_carries_more(
    engine: str, gpu: str, count: int, ttft: float, tps: float, tighter: float
) -> None:
    scenario = serving(engine, gpu, count)
    both = users_within(scenario, ttft, tps)
    assert users_within(scenario, ttft / tighter, tps) <= both
    assert users_within(scenario, ttft, tps * tighter) <= both
    assert both == min(users_within(scenario, ttft), users_within(scenario, None, tps))
    assert both <= users_within(scenario)


@pytest.mark.parametrize(("gpu", "count"), [("l40s", 1), ("h200-sxm", 8)])
@pytest.mark.parametrize(("ttft", "tps"), [(1.0, None), (None, 25.0), (0.5, 40.0)])
def test_the_last_that_holds(gpu: str, count: int, ttft: float | None, tps: float | None) -> None:
    scenario = serving(gpu=gpu, count=count)
    most = users_within(scenario, ttft, tps)
    around = load(scenario, [most, most + 1]).holds(ttft, tps)
    assert around[0]
    assert not around[1] or most == users_within(scenario)


def test_the_load_asked_about_does_not_matter() -> None:
    assert users_within(serving(users=1), 1.0, 20.0) == users_within(serving(users=900), 1.0, 20.0)


def test_slots_of_the_engine_count() -> None:
    assert users_within(serving(max_num_seqs=4)) == 4
    assert users_within(serving(), 1e-4) == 0
    assert users_within(serving(gpu="rtx-3060-12gb")) == 0


def test_uploaded_config_and_own_card() -> None:
    from configurator.catalog import load_catalog

    config = load_catalog().model_config("Qwen/Qwen3-4B")
    scenario = parse_scenario(
        {
            "model": {"config": config},
            "hardware": {
                "gpu": {"memory_gib": 24, "bandwidth_gbps": 900, "bf16_tflops": 100},
                "gpu_count": 1,
            },
        }
    )
    assert users_within(scenario, 5.0) > 0


def test_needs_cards_and_serving() -> None:
    with pytest.raises(InputError, match="hardware"):
        users_within(parse_scenario({"model": "Qwen/Qwen3-8B"}))
    training = {"model": "Qwen/Qwen3-8B", "task": "training"}
    with pytest.raises(InputError, match="training"):
        users_within(parse_scenario({**training, "hardware": {"gpu": "l40s", "gpu_count": 1}}))


def test_a_recommended_plan_carries_those_it_was_asked_for() -> None:
    scenario = serving(users=40).model_copy(update={"hardware": None})
    found = recommend(Request(scenario=scenario, ttft_s_limit=2.0, user_tokens_per_s_limit=25.0))
    assert found.plans
    for plan in found.plans:
        assert users_within(plan.scenario, 2.0, 25.0) >= 40
