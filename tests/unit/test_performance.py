"""Properties of the speed model that hold whatever the coefficients are fitted to."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.architecture import Architecture, read_architecture, typical_architecture
from configurator.catalog import load_catalog
from configurator.device import Device, from_catalog, stack
from configurator.estimate import estimate
from configurator.measured_speeds import read_rows
from configurator.performance import Speculative, serving_speed, training_speed
from configurator.performance.coefficients import coefficients, data_class, efficiency
from configurator.performance.links import peer_link
from configurator.performance.serving import make_plan, static_share
from configurator.performance.steps import combine, decode_step, prefill, total, touched_experts
from configurator.performance.training import make_training_plan
from configurator.performance.workload import stack_workloads, workload
from configurator.scenario import Inference, Training, parse_scenario

MOE = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "head_dim": 128,
    "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    "vocab_size": 151936, "torch_dtype": "bfloat16",
}  # fmt: skip
MLA = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
    "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "vocab_size": 129280, "torch_dtype": "bfloat16",
}  # fmt: skip
ENGINES = ("vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp")
QUANTITIES = (
    "ttft_s", "tpot_s", "output_tokens_per_s", "requests_per_s", "prefill_tokens_per_s",
    "decode_tokens_per_s",
)  # fmt: skip


@lru_cache
def models() -> tuple[Architecture, ...]:
    return (typical_architecture(8.0), read_architecture(MOE), read_architecture(MLA))


@lru_cache
def card(name: str) -> Device:
    return from_catalog(load_catalog().gpu(name))


CARDS = ("h100-sxm", "b200-sxm", "a100-sxm4-80", "rtx-4090", "mi300x", "l40s")
cases = st.fixed_dictionaries(
    {
        "model": st.integers(0, 2),
        "engine": st.sampled_from(ENGINES),
        "gpu": st.sampled_from(CARDS),
        "tensor": st.sampled_from((1, 2, 4, 8)),
        "concurrency": st.integers(1, 512),
        "input": st.integers(1, 60_000),
        "output": st.integers(1, 8_000),
    }
)


def speed(case: dict[str, Any], device: Device | None = None, **changes: Any) -> Any:
    case = {**case, **changes}
    inference = Inference(
        concurrency=case["concurrency"], input_tokens=case["input"], output_tokens=case["output"]
    )
    precision = "q4_k_m" if case["engine"] == "llama_cpp" else "bf16"
    return serving_speed(
        models()[case["model"]], precision, "bf16", case["engine"], inference,
        device or card(case["gpu"]), case["tensor"],
        kv_capacity_tokens=case.get("room", 50_000_000),
        prefix_cache_share=case.get("prefix", 0.0), speculative=case.get("draft"),
        host_share=case.get("host", 0.0),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(cases)
def test_every_figure_is_finite_positive_and_inside_its_interval(case: dict[str, Any]) -> None:
    found = speed(case)
    for name in QUANTITIES:
        low, middle, high = (getattr(found, name + end) for end in ("_low", "", "_high"))
        assert 0 < low <= middle <= high < math.inf, name
    for name, seconds in found.detail.items():
        assert math.isfinite(seconds), name
        assert seconds >= -1e-12, name
    assert found.bound_by in ("memory_bandwidth", "compute", "communication", "overhead")


@settings(max_examples=60, deadline=None)
@given(cases, st.floats(1.01, 4.0))
def test_more_bandwidth_is_never_slower(case: dict[str, Any], factor: float) -> None:
    device = card(case["gpu"])
    faster = replace(device, bandwidth_bytes_per_s=device.bandwidth_bytes_per_s * factor)
    slow, fast = speed(case), speed(case, faster)
    assert fast.tpot_s <= slow.tpot_s * (1 + 1e-9)
    assert fast.ttft_s <= slow.ttft_s * (1 + 1e-9)
    assert fast.output_tokens_per_s >= slow.output_tokens_per_s * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 512))
def test_more_users_never_get_their_first_token_sooner(case: dict[str, Any], more: int) -> None:
    few = speed(case)
    many = speed(case, concurrency=case["concurrency"] + more)
    assert many.ttft_s >= few.ttft_s * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 30_000))
def test_a_longer_context_never_decodes_faster(case: dict[str, Any], more: int) -> None:
    assert speed(case, input=case["input"] + more).tpot_s >= speed(case).tpot_s * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(cases, st.integers(1, 30_000), st.sampled_from((2_000, 40_000, 50_000_000)))
def test_a_longer_prompt_never_gets_its_first_token_sooner(
    case: dict[str, Any], more: int, room: int
) -> None:
    short = speed(case, room=room)
    long = speed(case, room=room, input=case["input"] + more)
    assert long.ttft_s >= short.ttft_s * (1 - 1e-9)


@settings(max_examples=80, deadline=None)
@given(cases, st.integers(1, 16), st.floats(0, 1), st.floats(0, 1))
def test_more_accepted_drafts_are_never_slower(
    case: dict[str, Any], drafts: int, one: float, other: float
) -> None:
    low, high = (
        speed(case, draft=Speculative(drafts, accepted)) for accepted in sorted((one, other))
    )
    assert high.output_tokens_per_s >= low.output_tokens_per_s * (1 - 1e-9)
    assert high.tpot_s <= low.tpot_s * (1 + 1e-9)
    for found in (low, high):
        assert found.tpot_s_low <= found.tpot_s <= found.tpot_s_high


@settings(max_examples=80, deadline=None)
@given(cases, st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_larger_known_prefix_never_delays_the_first_token(
    case: dict[str, Any], one: float, other: float
) -> None:
    less, more = (speed(case, prefix=share) for share in sorted((one, other)))
    assert more.ttft_s <= less.ttft_s * (1 + 1e-9)
    assert more.output_tokens_per_s >= less.output_tokens_per_s * (1 - 1e-9)


@settings(max_examples=80, deadline=None)
@given(cases, st.floats(1.01, 4.0), st.floats(1.01, 4.0))
def test_a_faster_card_is_never_slower(
    case: dict[str, Any], bandwidth: float, compute: float
) -> None:
    device = card(case["gpu"])
    faster = replace(
        device,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s * bandwidth,
        rates={name: rate * compute for name, rate in device.rates.items()},
    )
    slow, fast = speed(case), speed(case, faster)
    assert fast.ttft_s <= slow.ttft_s * (1 + 1e-9)
    assert fast.tpot_s <= slow.tpot_s * (1 + 1e-9)
    for name in QUANTITIES[2:]:
        assert getattr(fast, name) >= getattr(slow, name) * (1 - 1e-9), name


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 4096), st.floats(1, 1e6), st.floats(1, 1e6))
def test_static_batches_are_never_faster(requests: int, output: float, decode: float) -> None:
    share = static_share(requests, min(output, decode), decode)
    assert 0.5 <= share <= 1
    assert share >= static_share(requests + 1, min(output, decode), decode) - 1e-12


@settings(max_examples=40, deadline=None)
@given(cases)
def test_arrays_give_what_scalars_give(case: dict[str, Any]) -> None:
    tensor = np.full(len(CARDS), case["tensor"])
    many = speed(case, stack([card(name) for name in CARDS]), tensor=tensor)
    for i, name in enumerate(CARDS):
        one = speed(case, gpu=name)
        for quantity in QUANTITIES:
            for end in ("_low", "", "_high"):
                got = getattr(many, quantity + end)[i]
                assert got == pytest.approx(getattr(one, quantity + end), rel=1e-9)
        assert many.bound_by[i] == one.bound_by


def test_a_full_cache_queues_requests() -> None:
    case = {"model": 0, "engine": "vllm", "gpu": "h100-sxm", "tensor": 1, "concurrency": 64,
            "input": 2000, "output": 500}  # fmt: skip
    free, full = speed(case), speed(case, room=20_000)
    assert full.running < 64 == free.running
    assert full.detail["queue"] > 0 == free.detail["queue"]
    assert full.ttft_s > free.ttft_s
    assert full.output_tokens_per_s < free.output_tokens_per_s


@pytest.mark.parametrize(("gpu", "chunk"), [("h100-sxm", 8192), ("l40s", 2048)])
def test_vllm_takes_smaller_chunks_on_smaller_cards(gpu: str, chunk: int) -> None:
    plan = make_plan(models()[0], "bf16", "vllm", Inference(), card(gpu), 1, 1, 1, 1)
    assert plan.chunk == chunk
    own = Inference(max_num_batched_tokens=512)
    assert make_plan(models()[0], "bf16", "vllm", own, card(gpu), 1, 1, 1, 1).chunk == 512


def test_levers_act_as_they_should() -> None:
    case = {"model": 0, "engine": "vllm", "gpu": "h100-sxm", "tensor": 1, "concurrency": 4,
            "input": 8000, "output": 500}  # fmt: skip
    plain = speed(case)
    assert speed(case, prefix=0.8).ttft_s < plain.ttft_s
    assert speed(case, draft=Speculative(3, 0.7)).tpot_s < plain.tpot_s
    assert speed(case, draft=Speculative(3, 0.0)).tpot_s > plain.tpot_s
    offloaded = {**case, "engine": "llama_cpp", "concurrency": 1}
    assert speed(offloaded, host=0.5).tpot_s > 2 * speed(offloaded).tpot_s


def test_speculative_tokens_a_step() -> None:
    assert Speculative(3, 0.0).tokens_per_step == 1.0
    assert Speculative(3, 1.0).tokens_per_step == 4.0
    assert Speculative(1, 0.5).tokens_per_step == pytest.approx(1.5)


def test_touched_experts_lie_between_one_tokens_and_all() -> None:
    model = workload(models()[1], "bf16", "bf16", "vllm")
    share = [float(touched_experts(model, b, 1.0)) for b in (1, 8, 64, 4096)]
    assert share[0] == pytest.approx(8 / 128)
    assert share == sorted(share)
    assert share[-1] == pytest.approx(1.0)


def test_combine_lies_between_the_larger_and_the_sum() -> None:
    assert combine(3.0, 4.0, 2.0) == pytest.approx(5.0)
    assert combine(3.0, 4.0, 1.0) == pytest.approx(7.0)
    assert combine(0.0, 4.0, 3.0) == pytest.approx(4.0)


def test_stacked_models_give_what_single_ones_give() -> None:
    device = card("h100-sxm")

    sums = [workload(m, "bf16", "bf16", "vllm") for m in models()]
    c = coefficients("serving", "vllm", "16bit", device)
    plan = make_plan(models()[0], "bf16", "vllm", Inference(), device, 4, 1, 1, 1)
    many = total(prefill(stack_workloads(sums), plan, c, 1.0, 2048.0))
    for one, value in zip(sums, many, strict=True):
        assert float(total(prefill(one, plan, c, 1.0, 2048.0))) == pytest.approx(float(value))


def test_replicas_multiply_throughput_not_latency() -> None:
    arch, device = models()[0], card("h100-sxm")

    def run(concurrency: int, data: int) -> Any:
        asked = Inference(concurrency=concurrency, input_tokens=1000, output_tokens=200)
        return serving_speed(arch, "bf16", "bf16", "vllm", asked, device, data=data,
                             kv_capacity_tokens=10_000_000)  # fmt: skip

    one, four = run(8, 1), run(32, 4)
    assert four.tpot_s == pytest.approx(one.tpot_s)
    assert four.output_tokens_per_s == pytest.approx(4 * one.output_tokens_per_s)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2), st.sampled_from(CARDS), st.sampled_from(("full", "lora", "qlora")),
    st.sampled_from(("none", "zero2", "zero3", "fsdp")), st.booleans(),
    st.sampled_from((1, 4, 8, 64)), st.integers(1, 16), st.integers(16, 16_384),
)  # fmt: skip
def test_training_figures_hold_together(
    model: int, gpu: str, method: Any, sharding: Any, checkpointing: bool, data: int, micro: int,
    sequence: int,
) -> None:  # fmt: skip
    training = Training(
        method=method, sharding=sharding, gradient_checkpointing=checkpointing,
        micro_batch_size=micro, sequence_length=sequence,
    )  # fmt: skip
    found = training_speed(models()[model], "bf16", training, "fsdp", card(gpu), data=data)
    low, middle, high = (
        found.train_tokens_per_s_low, found.train_tokens_per_s, found.train_tokens_per_s_high,
    )  # fmt: skip
    assert 0 < low <= middle <= high < math.inf
    assert middle == pytest.approx(micro * sequence * data / found.step_s)
    assert 0 < found.mfu < 1.5
    arrays = training_speed(
        models()[model], "bf16", training, "fsdp", stack([card(gpu)] * 2), data=np.array([data] * 2)
    )
    assert arrays.train_tokens_per_s[1] == pytest.approx(middle)


def test_checkpointing_costs_time_and_adapters_save_it() -> None:
    arch, device = models()[0], card("h100-sxm")

    def rate(**changes: Any) -> float:
        asked = Training(micro_batch_size=4, **changes)
        return float(training_speed(arch, "bf16", asked, "transformers", device).train_tokens_per_s)

    assert rate(gradient_checkpointing=True) < rate()


def test_an_unseen_card_says_so_with_a_wider_interval() -> None:
    model = "llama-8192x80x0"
    assert data_class("serving", "vllm", "h100-sxm", "Hopper", model) == "same"
    assert data_class("serving", "vllm", "h100-sxm", "Hopper", "other") == "model"
    assert data_class("serving", "vllm", "h100-nvl", "Hopper", model) == "card"
    assert data_class("serving", "vllm", "rtx-2080-ti", "Turing", model) == "none"
    case = {"model": 0, "engine": "vllm", "gpu": "h100-sxm", "tensor": 1, "concurrency": 4,
            "input": 1000, "output": 100}  # fmt: skip
    near, far = speed(case), speed(case, gpu="mi300x")
    assert near.tpot_s_high / near.tpot_s_low < far.tpot_s_high / far.tpot_s_low


def test_every_coefficient_explains_itself() -> None:
    for family in efficiency()["families"].values():
        for name, item in family["coefficients"].items():
            assert item["value"] >= 0, name
            assert item["unit"]
            assert item["multiplies"]
            assert item["basis"] in ("fitted", "assumed")
        for engine in family["intervals"].values():
            for bounds in engine.values():
                order = [bounds[c] for c in ("same", "model", "card", "none")]
                widths = [math.log(high / low) for low, high in order]
                assert widths == sorted(widths)
                assert all(low <= 1 <= high for low, high in bounds.values())


def test_detail_names_match_the_formula() -> None:
    case = {"model": 1, "engine": "vllm", "gpu": "h100-sxm", "tensor": 2, "concurrency": 4,
            "input": 1000, "output": 100}  # fmt: skip
    found = speed(case)
    parts = {k: v for k, v in found.detail.items() if k.startswith("decode.")}
    step = sum(v for k, v in parts.items() if k != "decode.compute")
    assert step + found.detail["interference"] == pytest.approx(found.tpot_s)
    assert {f.name for f in fields(found)} >= set(QUANTITIES)


def test_a_prompt_reads_nearly_every_expert_from_the_host() -> None:
    arch = read_architecture(load_catalog().model_config("Qwen/Qwen3-30B-A3B"))
    device = card("rtx-4090")
    model = workload(arch, "q4_k_m", "fp16", "llama_cpp")
    plan = make_plan(arch, "q4_k_m", "llama_cpp", Inference(), device, 1, 1, 1, 1, 0.0, 1.0)
    c = coefficients("llama_cpp", "llama_cpp", "int4", device)
    there = float(prefill(model, plan, c, 1.0, 512.0)["host_weights"]) * c["host_bandwidth"]
    assert 0.8 * model.expert_bytes < there <= model.expert_bytes
    one = float(decode_step(model, plan, c, 1.0, 512.0)["host_weights"]) * c["host_bandwidth"]
    assert one == pytest.approx(model.expert_bytes * model.top_k / model.experts)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(load_catalog().gpus)), st.integers(1, 300), st.integers(1, 300))
def test_a_larger_group_never_has_a_faster_link(gpu: str, ranks: int, more: int) -> None:
    device = card(gpu)
    assert peer_link(device, ranks + more) <= peer_link(device, ranks)
    assert peer_link(device, 1) == device.link_bytes_per_s


@pytest.mark.parametrize(
    ("gpu", "ranks", "bytes_per_s"),
    [
        ("h100-sxm", 8, 450e9), ("h100-sxm", 9, 400e9 / 8),  # NVLink; InfiniBand NDR
        ("rtx-4090", 8, 32e9), ("rtx-4090", 9, 32e9),
        ("gb300", 72, 900e9), ("gb300", 73, 400e9 / 8),
    ],
)  # fmt: skip
def test_serving_and_training_use_the_same_links(gpu: str, ranks: int, bytes_per_s: float) -> None:
    device, arch = card(gpu), models()[0]
    served = make_plan(arch, "bf16", "vllm", Inference(), device, ranks, 1, 1, 1)
    spread = make_plan(arch, "bf16", "vllm", Inference(), device, 1, 1, ranks, ranks)
    trained = make_training_plan("bf16", Training(), "fsdp", device, ranks, 1, 1, 1)
    sharded = make_training_plan("bf16", Training(), "fsdp", device, 1, 1, 1, ranks)
    for link in (served.link, spread.link, trained.link, sharded.gradient_link):
        assert float(link) == bytes_per_s


@pytest.mark.parametrize(
    ("engine", "gpu", "bytes_per_s"),
    [
        ("vllm", "h200-sxm", 50e9), ("vllm", "rtx-4090", 0.86 * 32e9),
        ("sglang", "rtx-3090", 0.86 * 32e9), ("transformers", "rtx-3090", 6.5e9),
        # The CPU computes there, so PCIe does not matter.
        ("llama_cpp", "h200-sxm", 50e9), ("llama_cpp", "rtx-3090", 50e9),
    ],
)  # fmt: skip
def test_layers_in_host_memory_come_no_faster_than_pcie(
    engine: str, gpu: str, bytes_per_s: float
) -> None:
    arch, device = models()[0], card(gpu)
    family = {"llama_cpp": "llama_cpp", "transformers": "eager"}.get(engine, "serving")
    model = workload(arch, "bf16", "bf16", engine)
    c = coefficients(family, engine, "16bit", device)
    plan = make_plan(arch, "bf16", engine, Inference(), device, 1, 1, 1, 1, 0.5, 0.5)
    moved = (model.column_bytes + model.replicated_bytes + model.kv_bytes) / 2
    step = decode_step(model, plan, c, 1.0, 512.0)
    assert float(step["host_weights"]) == pytest.approx(moved / bytes_per_s)


def test_without_output_there_are_no_output_tokens_a_second() -> None:
    case = {"model": 0, "engine": "vllm", "gpu": "h100-sxm", "tensor": 1, "concurrency": 4,
            "input": 1000, "output": 0}  # fmt: skip
    found = speed(case)
    for end in ("_low", "", "_high"):
        assert getattr(found, f"output_tokens_per_s{end}") == 0
    assert found.ttft_s > 0
    assert found.requests_per_s > 0
    assert found.prefill_tokens_per_s > 0


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"concurrency": 1}, "memory_bandwidth"), ({"concurrency": 512, "gpu": "l40s"}, "compute"),
        ({"concurrency": 1, "engine": "transformers"}, "overhead"),
        ({"concurrency": 512, "gpu": "l40s", "tensor": 8}, "communication"),
    ],
)  # fmt: skip
def test_a_step_names_what_bounds_it(changes: dict[str, Any], bound: str) -> None:
    case = {"model": 0, "engine": "vllm", "gpu": "h100-sxm", "tensor": 1, "input": 128,
            "output": 128, **changes}  # fmt: skip
    assert speed(case).bound_by == bound


def test_training_names_what_bounds_it() -> None:
    def bound(data: int, **batch: int) -> Any:
        asked = Training(sharding="zero3", **batch)
        return training_speed(
            models()[0], "bf16", asked, "fsdp", card("h100-sxm"), data=data
        ).bound_by

    assert bound(8, micro_batch_size=64, sequence_length=512) == "compute"
    assert bound(64, micro_batch_size=1, sequence_length=128) == "communication"


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2), st.sampled_from(CARDS), st.sampled_from((1, 2, 8)),
    st.sampled_from(("none", "zero3")), st.integers(1, 7), st.integers(1, 8),
)  # fmt: skip
def test_stages_that_wait_for_each_other_are_no_faster_than_one(
    model: int, gpu: str, tensor: int, sharding: Any, stages: int, more: int
) -> None:
    """One micro-batch passes the stages one after the other; many fill them (GPipe)."""

    def passes(pipeline: int, accumulation: int) -> float:
        asked = Training(sharding=sharding, gradient_accumulation=accumulation)
        found = training_speed(
            models()[model], "bf16", asked, "megatron", card(gpu), tensor, pipeline, data=2
        )
        return float(found.step_s - found.detail["update"] - found.detail["gradient_reduce"])

    assert passes(stages + more, 1) >= passes(stages, 1) * (1 - 1e-9)
    if sharding == "none":
        assert passes(stages + more, 512) < passes(stages, 512)


@pytest.mark.parametrize("data", [1, 2])
def test_the_fit_gives_a_case_the_cache_that_an_estimate_gives_it(data: int) -> None:
    llama = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    }  # fmt: skip
    scenario = {
        "model": {"config": llama, "name": "llama"}, "engine": "vllm",
        "inference": {"concurrency": 64, "input_tokens": 1000, "output_tokens": 500},
        "hardware": {"gpu": "rtx-4090", "gpu_count": data, "data_parallel": data},
    }  # fmt: skip
    case = {"id": "x", "group": "x", "scenario": scenario, "measured": {"performance.tpot_s": 0.1}}
    (row,) = read_rows([case])
    found = estimate(parse_scenario(scenario)).kv
    assert found is not None
    assert found.capacity_tokens is not None
    assert row.inputs[3] == found.capacity_tokens / data
