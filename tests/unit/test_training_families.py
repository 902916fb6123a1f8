"""Training memory by what is trained: quantised bases, adapters, mixtures, families' layers."""

from __future__ import annotations

from typing import Any

import pytest

from configurator.architecture import Architecture, read_architecture
from configurator.estimate import estimate
from configurator.memory.activations import (
    Profile,
    layer_activations,
)
from configurator.scenario import parse_scenario
from configurator.units import GIB
from tests.unit.model_configs import QWEN3_30B
from tests.unit.training_cases import (
    QWEN_15B,
    run,
)

QWEN_8B = read_architecture(
    {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36,
        "vocab_size": 151936, "tie_word_embeddings": False,
    },
    "qwen3-8b shape",
)  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "method", "batch", "peak"),
    [("int8", "qlora", 2, 22.09), ("nf4", "qlora", 2, 18.97), ("fp32", "lora", 1, 36.86),
     ("fp32", "lora", 2, 41.49)],
)  # fmt: skip
def test_bases_with_32_bit_ends_peak_as_measured(
    precision: str, method: str, batch: int, peak: float
) -> None:
    """Under autocast the stream is 32 bit and the head's 16-bit copy lives to its backward."""
    memory = run(
        QWEN_8B, precision=precision, method=method, micro_batch_size=batch,
        gradient_checkpointing=True,
    )  # fmt: skip
    assert memory.peak_allocated / GIB == pytest.approx(peak, rel=0.015)


@pytest.mark.parametrize(("mode", "saved"), [("amp_bf16", 2), ("pure_bf16", 4)])
def test_adapters_keep_16_bit_inputs_under_autocast(mode: str, saved: int) -> None:
    """One H200 held 21.87 GiB live for a LoRA of 1.5 billion under autocast."""

    def live(rank_targets: str) -> float:
        return run(QWEN_15B, method="lora", mixed_precision=mode, micro_batch_size=2,
                   lora_targets=rank_targets).activations  # fmt: skip

    inputs = 28 * 4096 * (4 * 1536 + 2 * 1536 + 8960 - 4 * 1536)
    grown = live("all_linear") - live("attention")
    assert grown == pytest.approx(inputs * saved, rel=0.1)
    if mode == "amp_bf16":
        whole = run(QWEN_15B, method="lora", mixed_precision=mode, micro_batch_size=2)
        assert whole.peak_allocated / GIB == pytest.approx(21.87, rel=0.01)


# ------------------------------------------------------------- experts that are one tensor

QWEN3_30B_4 = read_architecture({**QWEN3_30B, "num_hidden_layers": 4}, "four layers")


@pytest.mark.parametrize(
    ("length", "checkpointing", "gib"),
    [(64, True, 8.598), (64, False, 12.123), (2048, True, 10.569), (2048, False, 16.815)],
)
def test_experts_adapted_in_place_peak_as_recorded(
    length: int, checkpointing: bool, gib: float
) -> None:
    """benchmarks/allocator with transformers 5.24 and PEFT 0.21, rank 16, all linear."""
    held = run(QWEN3_30B_4, method="lora", mixed_precision="pure_bf16", micro_batch_size=1,
               sequence_length=length, gradient_checkpointing=checkpointing)  # fmt: skip
    assert held.peak_allocated / GIB == pytest.approx(gib, rel=0.002)


def test_bitsandbytes_leaves_an_expert_tensor_wide_and_peft_raises_it() -> None:
    experts = QWEN3_30B_4.packed_expert_parameters
    assert experts == 4 * 128 * 3 * 2048 * 768
    small: dict[str, Any] = {"method": "qlora", "lora_targets": "attention"}
    kept = run(QWEN3_30B_4, precision="nf4", gradient_checkpointing=False, **small)
    raised = run(QWEN3_30B_4, precision="nf4", gradient_checkpointing=True, **small)
    linear = run(QWEN3_30B_4.with_linear_experts(), precision="nf4",
                 gradient_checkpointing=False, **small)  # fmt: skip
    assert kept.weights - linear.weights == pytest.approx(experts * (2 - 4.127 / 8), rel=1e-4)
    ends = (2 * 151936 + 1) * 2048
    assert raised.weights - kept.weights == pytest.approx(2 * (experts + ends), rel=1e-4)


@pytest.mark.parametrize(
    ("engine", "version", "wide"),
    [("transformers", None, True), ("transformers", "transformers 5.17.0, torch 2.11", True),
     ("deepspeed", "5.1", True), ("transformers", "transformers 4.51.3", False),
     ("transformers", "litgpt (commit 8641822) torch 2.1.0", False), ("vllm", None, False)],
)  # fmt: skip
def test_the_version_says_whether_experts_are_one_tensor(
    engine: str, version: str | None, wide: bool
) -> None:
    scenario = {
        "version": 1, "model": {"config": QWEN3_30B, "name": "q"}, "precision": "nf4",
        "engine": engine, "engine_version": version, "hardware": {"gpu": "h200-sxm"},
        "task": "inference" if engine == "vllm" else "fine_tuning",
    }  # fmt: skip
    if engine != "vllm":
        scenario["training"] = {"method": "qlora"}
    answer = estimate(parse_scenario(scenario))
    assert (answer.memory.weights_gib > 50) == wide
    said = [n for n in answer.warnings if n.code == "wide_experts"]
    assert bool(said) == wide
    assert not wide or "GiB" in said[0].text("zh")


# --------------------------------------------------------------- what families keep besides


def small(model_type: str, **more: Any) -> Architecture:
    base = {
        "model_type": model_type, "hidden_size": 2048, "intermediate_size": 5632,
        "num_attention_heads": 16, "num_key_value_heads": 4, "num_hidden_layers": 4,
        "vocab_size": 1000, "max_position_embeddings": 4096,
    }  # fmt: skip
    return read_architecture({**base, **more}, model_type)


EXPERTS = {"moe_intermediate_size": 1408, "n_routed_experts": 64, "num_experts_per_tok": 8,
           "n_shared_experts": 1, "head_dim": 128}  # fmt: skip
GPT_OSS_EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 4, "head_dim": 128}
LLAMA4_EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 1, "head_dim": 128,
                  "intermediate_size_mlp": 8192}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "more", "trained", "frozen"),
    [
        ("olmo", {}, 79952, 60496),
        ("olmo2", {"num_key_value_heads": 16}, 135248, 83024),
        ("cohere2", {"head_dim": 128}, 84044, 60492),
        ("arcee", {}, 65608, 37960),
        ("phi", {"num_key_value_heads": 16}, 80968, 65608),
        ("gptj", {"num_key_value_heads": 16}, 81480, 66120),
        ("opt", {"num_key_value_heads": 16, "dropout": 0.0}, 44112, 35920),
        ("gpt2", {"num_key_value_heads": 16, "resid_pdrop": 0.0}, 89168, 69712),
        ("gpt_oss", GPT_OSS_EXPERTS, 399608, 313560),
        ("lfm2", {"block_auto_adjust_ff_dim": True}, 89240, 60056),
        ("glm4_moe", EXPERTS, 218852, 136164),
        ("llama4_text", LLAMA4_EXPERTS, 945370, 671962),
    ],
)  # fmt: skip
def test_families_keep_what_a_recorder_of_transformers_saw(
    model_type: str, more: dict[str, Any], trained: int, frozen: int
) -> None:
    """Bytes a token and layer, all 16 bit, transformers 5.24."""
    arch = small(model_type, **more)

    def kept(fixed: bool) -> float:
        profile = Profile("eager", 2, 2, 2, fixed, norms=arch.norm_kept)
        layers = (g.count * layer_activations(g.layer, 2048, profile, (), 16).saved.total
                  for g in arch.groups)  # fmt: skip
        return sum(layers) / 4

    assert kept(False) == pytest.approx(trained, rel=0.01)
    assert kept(True) == pytest.approx(frozen, rel=0.01)


def test_a_dropout_keeps_a_byte_a_number_and_relu_only_its_result() -> None:
    """GPT-2's default of 0.1; ``native_dropout`` returns a mask of booleans."""

    def kept(**more: Any) -> float:
        arch = small("opt", num_key_value_heads=16, **more)
        profile = Profile("eager", 2, 2, 2, False)
        return layer_activations(arch.groups[0].layer, 2048, profile, (), 16).saved.total

    assert kept() - kept(dropout=0.0) == 2 * 2048
    assert kept(activation_function="gelu_new") - kept(activation_function="relu") == 4 * 2 * 5632


def test_code_with_kernels_keeps_no_steps_of_an_activation() -> None:
    """LitGPT calls one kernel where transformers' ``gelu_new`` takes eight steps."""
    phi = {"model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192,
           "num_hidden_layers": 24, "num_attention_heads": 32, "vocab_size": 51200}  # fmt: skip

    def peak(version: str | None) -> float:
        scenario = {
            "version": 1, "model": {"config": phi, "name": "phi-1.5"}, "engine": "transformers",
            "engine_version": version, "hardware": {"gpu": "a100-sxm4-40"}, "precision": "bf16",
            "task": "fine_tuning", "training": {
                "method": "lora", "mixed_precision": "pure_bf16", "micro_batch_size": 4,
                "sequence_length": 1044, "gradient_checkpointing": False, "lora_rank": 8,
                "lora_targets": ["q_proj", "v_proj"],
            },
        }  # fmt: skip
        return estimate(parse_scenario(scenario)).memory.peak_allocated_gib

    assert peak("litgpt (commit 8641822)") == pytest.approx(9.95, rel=0.02)  # published
    three = 3 * 2 * 8192 * 24 * 4 * 1044 / GIB
    assert peak(None) - peak("litgpt") == pytest.approx(three, rel=0.01)
