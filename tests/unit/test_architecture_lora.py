"""LoRA adapters: exact counts, fused modules under their own names, experts."""

from __future__ import annotations

from typing import Any

import pytest

from configurator.architecture import read_architecture
from configurator.errors import InputError
from configurator.estimate import architecture_of
from configurator.memory.activations import adapter_parameters
from configurator.scenario import parse_scenario
from tests.unit.model_configs import (
    BAICHUAN_7B,
    FALCON_7B,
    GPT_OSS_20B,
    LLAMA_2_7B,
    LLAMA_3_8B,
    MIXTRAL,
    NEOX_20B,
    PUBLISHED,
    QWEN2_5_7B,
    QWEN_7B,
)


@pytest.mark.parametrize(
    ("config", "targets", "rank", "expected"),
    [
        (LLAMA_2_7B, "all_linear", 8, 19_988_480),
        (LLAMA_2_7B, ["q_proj", "v_proj"], 8, 4_194_304),
        (LLAMA_2_7B, "attention", 8, 8_388_608),
        (LLAMA_3_8B, "all_linear", 16, 41_943_040),
        (QWEN2_5_7B, "all_linear", 8, 20_185_088),
        # Fused modules have one A and one B: c_attn is 4096 → 12288.
        (QWEN_7B, ["c_attn"], 64, 32 * 64 * (4096 + 3 * 4096)),
        (QWEN_7B, ["c_attn", "c_proj", "w1", "w2"], 64, 143_130_624),  # Qwen's finetune.py
        (QWEN_7B, ["c_proj"], 1, 32 * (2 * 4096 + 4096 + 11008)),
        (BAICHUAN_7B, ["W_pack"], 1, 32 * (4096 + 3 * 4096)),
        (NEOX_20B, ["query_key_value"], 1, 44 * 4 * 6144),
        (FALCON_7B, ["query_key_value"], 1, 32 * (4544 + 4544 + 2 * 64)),
    ],
)
def test_adapter_parameters(
    config: dict[str, Any], targets: str | list[str], rank: int, expected: int
) -> None:
    assert read_architecture(config).lora_parameters(rank, targets) == expected


def test_fused_modules_keep_their_names() -> None:
    phi3 = read_architecture(PUBLISHED["Phi-3-mini"][0]).groups[0].layer.lora_modules()
    assert {m.name: m.out_features for m in phi3} == {
        "qkv_proj": 9216, "o_proj": 3072, "gate_up_proj": 16384, "down_proj": 3072,
    }  # fmt: skip
    neox = read_architecture(NEOX_20B).groups[0].layer.lora_modules()
    assert [m.name for m in neox] == ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]


def test_experts_get_adapters_unless_they_are_one_tensor() -> None:
    mixtral, oss = read_architecture(MIXTRAL), read_architecture(GPT_OSS_20B)
    assert oss.lora_parameters(1) == oss.lora_parameters(1, "attention")
    assert oss.with_linear_experts().lora_parameters(1) == oss.lora_parameters(1)
    linear = mixtral.with_linear_experts()  # transformers 4
    attention = linear.lora_parameters(1, "attention")
    assert linear.lora_parameters(1) - attention == 32 * 8 * 3 * (4096 + 14336)
    assert not any(m.role == "router" for m in mixtral.groups[0].layer.lora_modules())


def test_an_expert_tensor_gets_one_rank_a_projection_it_holds() -> None:
    """PEFT 0.21 on transformers 5.24 trains 359.67 million, 2.1 of them in the router."""
    mixtral = read_architecture(MIXTRAL)
    experts = 32 * 8 * 16 * (2 * (4096 + 2 * 14336) + 14336 + 4096)
    attention = mixtral.lora_parameters(16, "attention")
    assert mixtral.lora_parameters(16) == attention + experts == 357_564_416
    named = ["gate_proj", "up_proj", "down_proj"]
    assert (
        mixtral.lora_parameters(16, named)
        == adapter_parameters(mixtral, 16, tuple(named))
        == experts
    )


def test_unknown_target_names_what_there_is() -> None:
    with pytest.raises(InputError, match="query_key_value"):
        read_architecture(NEOX_20B).lora_parameters(8, ["q_proj"])


@pytest.mark.parametrize(
    ("engine", "hint", "linear"),
    [
        ("transformers", None, False), ("transformers", "transformers 5.17.0, torch 2.11", False),
        ("transformers", "Transformers==5.17", False), ("transformers", "5.17", False),
        ("transformers", "torch 2.11", False), ("transformers", "main", False),
        ("deepspeed", "0.19.8", False), ("transformers", "transformers-4.57", True),
        ("transformers", "4.51.3", True), ("transformers", "ms-swift (HF Trainer)", True),
        ("transformers", "litgpt (commit 8641822)", True), ("megatron", None, True),
    ],
)  # fmt: skip
def test_which_hint_means_linear_experts(engine: str, hint: str | None, linear: bool) -> None:
    task = {"task": "training"} if engine == "megatron" else {"task": "fine_tuning"}
    asked = {"model": "Qwen/Qwen3-30B-A3B", "engine": engine, "engine_version": hint, **task}
    found = architecture_of(parse_scenario(asked)).packed_expert_parameters
    assert (found == 0) == linear
