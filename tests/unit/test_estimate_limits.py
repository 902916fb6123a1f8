"""What an estimate refuses or warns of, and what it does not promise."""

from __future__ import annotations

import pytest

from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.memory.weights import weight_table
from configurator.recommend import parse_request, recommend
from configurator.scenario import parse_scenario


def answer(model: str = "Qwen/Qwen3-8B", **raw: object) -> Estimate:
    return estimate(parse_scenario({"model": model, "hardware": {"gpu": "h100-sxm"}, **raw}))


def codes(found: Estimate) -> set[str]:
    return {notice.code for notice in found.warnings}


@pytest.mark.parametrize(
    "split", [{"gpu_count": 8, "tensor_parallel": 8, "expert_parallel": 256},
              {"gpu_count": 2, "tensor_parallel": 2, "expert_parallel": 3},
              {"gpu_count": 8, "tensor_parallel": 4, "pipeline_parallel": 2, "expert_parallel": 8}],
)  # fmt: skip
def test_experts_lie_on_ranks_that_are_there(split: dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        answer("deepseek-ai/DeepSeek-R1", hardware={"gpu": "h100-sxm", **split})
    assert caught.value.field == "hardware.expert_parallel"


def test_tables_of_the_vocabulary_are_split_over_tensor_ranks() -> None:
    """V4.1-Flash's Engram table has 197 billion parameters."""
    found = answer("deepseek-ai/DeepSeek-V4.1-Flash")
    table = weight_table(found.architecture, found.precision)
    assert table.per_gpu(8, 1, 1) < table.total / 4


def test_copies_without_a_request_do_nothing() -> None:
    split = {"tensor_parallel": 1, "data_parallel": 8}
    found = answer(hardware={"gpu": "h100-sxm", "gpu_count": 8, **split},
                   inference={"concurrency": 1})  # fmt: skip
    speed = found.performance
    assert speed.output_tokens_per_s is not None
    assert speed.tpot_s is not None
    assert speed.output_tokens_per_s <= 1 / speed.tpot_s


def test_qlora_means_four_bits_where_no_quantised_base_is_named() -> None:
    tuned = {"task": "fine_tuning", "training": {"method": "qlora"}}
    open_, stated = answer(**tuned), answer(precision="nf4", **tuned)
    wide = answer(precision="bf16", **tuned)
    assert open_.precision == "nf4"
    assert open_.memory == wide.memory == stated.memory
    assert wide.precision == "nf4"
    assert "quantised_base" in {notice.code for notice in wide.assumptions}
    assert "quantised_base" not in {notice.code for notice in stated.assumptions}


def test_an_empty_market_is_an_answer() -> None:
    """Models with windows and full attention: the pool is laid out for no card at all."""
    found = recommend(parse_request(
        {"scenario": {"model": "openai/gpt-oss-20b"}, "vendors": ["Apple"]}
    ))  # fmt: skip
    assert not any(found.tiers.values())
    assert found.to_dict("en")["tiers"]


def test_no_speed_without_a_rate() -> None:
    found = answer("Qwen/Qwen2.5-1.5B-Instruct",
                   hardware={"gpu": {"memory_gib": 24, "bandwidth_gbps": 1000}})  # fmt: skip
    assert found.performance.output_tokens_per_s is None
    assert "speed_unknown" in codes(found)
    assert "precision_unsupported" not in codes(found)


@pytest.mark.parametrize("engine", ["vllm", "llama_cpp"])
def test_requests_longer_than_the_model_is_served_with_are_refused(engine: str) -> None:
    load = {"concurrency": 2, "input_tokens": 30_000, "output_tokens": 512, "max_model_len": 256}
    assert "beyond_max_model_len" in codes(answer(engine=engine, inference=load))


def test_room_for_tokens_does_not_depend_on_how_long_slots_are() -> None:
    load = {"concurrency": 1, "input_tokens": 1024, "output_tokens": 512}
    short = answer(engine="llama_cpp", inference=load)
    long = answer(engine="llama_cpp", inference={**load, "max_model_len": 40_960})
    assert short.kv is not None
    assert long.kv is not None
    assert long.kv.capacity_tokens > 0.9 * short.kv.capacity_tokens


def test_a_dense_model_has_no_experts_in_mxfp4() -> None:
    """llama.cpp's nearest format is taken, as the generated command says."""
    found = answer(engine="llama_cpp", precision="mxfp4")
    assert found.memory.weights_gib == answer(engine="llama_cpp",
                                              precision="q4_k_m").memory.weights_gib  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"scenario": {"model": "Qwen/Qwen3-8B", "engine": "megatron"}}, "scenario.engine"),
        ({"scenario": {"model": "Qwen/Qwen3-8B"}, "train_tokens_b": 3}, "train_tokens_b"),
        ({"scenario": {"model": "Qwen/Qwen3-8B"}, "gpus": "h100-sxm"}, "gpus"),
    ],
)
def test_checks_over_several_fields_name_the_one_that_is_wrong(
    raw: dict[str, object], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_request(raw)
    assert caught.value.field == field
    assert "tuple" not in caught.value.text()
