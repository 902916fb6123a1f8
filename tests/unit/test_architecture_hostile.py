"""Configs that are wrong, odd or hostile: the field at fault is named, and nothing hangs."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configurator.architecture import read_architecture
from configurator.errors import InputError
from tests.unit.model_configs import (
    CT_INT4,
    DEEPSEEK_V3,
    DEEPSEEK_V4_FLASH,
    DEEPSEEK_V32,
    FALCON_40B,
    GEMMA_3_27B,
    GPT_OSS_20B,
    KIMI_LINEAR,
    LLAMA_2_7B,
    LLAMA_3_8B,
    NEMOTRON_NANO,
    OPT_30B,
    QWEN2_5_VL_3B,
    QWEN3_30B,
    QWEN3_NEXT,
    QWEN3_VL_4B,
    QWEN_7B,
    SIGLIP,
    quantized,
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_attention_heads": None}, "num_attention_heads"),
        ({"intermediate_size": None}, "intermediate_size"),
        ({"vocab_size": None}, "vocab_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"hidden_size": [4096, 2]}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"hidden_size": float("inf")}, "hidden_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 1e30}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": {"a": 1}}, "hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"model_type": "mamba2"}, "model_type"),
        ({"model_type": 7}, "model_type"),
        ({"num_experts": 4, "num_experts_per_tok": 8}, "num_experts_per_tok"),
        ({"hybrid_override_pattern": "M*"}, "hybrid_override_pattern"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 5}}, "bits"),
    ],
)
def test_errors_name_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        read_architecture({**LLAMA_2_7B, **change})
    assert field in caught.value.field


@pytest.mark.parametrize("config", [None, [], "llama", 7, {}, {"model_type": "llama"}])
def test_no_config_at_all(config: Any) -> None:
    with pytest.raises(InputError):
        read_architecture(config)


def test_too_large_together() -> None:
    with pytest.raises(InputError, match="10\\^15"):
        read_architecture({**LLAMA_2_7B, "hidden_size": 1 << 30, "intermediate_size": 1 << 30})


def test_unknown_type_with_standard_fields_is_assumed_to_be_a_llama() -> None:
    config = {**LLAMA_2_7B, "model_type": "brandnew"}
    architecture = read_architecture(config)
    assert architecture.parameters == 6_738_415_616
    assert architecture.assumptions == (("unknown_model_type", {"model_type": "brandnew"}),)


def test_heads_that_do_not_divide_the_width() -> None:
    architecture = read_architecture({**LLAMA_2_7B, "num_attention_heads": 33})
    assert architecture.groups[0].layer.qk_dim == 4096 // 33


# --------------------------------------------------------------------------- hostile configs


SEEDS = [
    LLAMA_2_7B, DEEPSEEK_V32, DEEPSEEK_V4_FLASH, GPT_OSS_20B, GEMMA_3_27B, QWEN2_5_VL_3B,
    QWEN3_VL_4B, QWEN3_NEXT, KIMI_LINEAR, NEMOTRON_NANO, QWEN_7B, FALCON_40B, OPT_30B,
    {**DEEPSEEK_V3, "quantization_config": {**CT_INT4, "ignore": ["re:.*(a|b)(c|d)?.*", "x*"]}},
    {**QWEN3_30B, "quantization_config": {
        "quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "ignore": ["mtp*"],
        "quantized_layers": {"model.layers.0.mlp.experts": {"quant_algo": "NVFP4"}}}},
    {"model_type": "kimi_k25", "text_config": DEEPSEEK_V3,
     "vision_config": {"vt_hidden_size": 1152, "merge_kernel_size": [2, 2]}},
    {"model_type": "gemma4", "text_config": QWEN3_30B, "vision_config": SIGLIP,
     "audio_config": {"model_type": "gemma4_audio", "hidden_size": 1024, "num_hidden_layers": 12}},
    {"model_type": "mllama", "text_config": LLAMA_3_8B, "vision_config": SIGLIP},
    {"model_type": "nemotron-nas", **LLAMA_3_8B, "num_hidden_layers": 1, "block_configs": [
        {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 2.6}}]},
]  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-2, 300) | st.floats() | st.text()
    | st.sampled_from(["", "re:(((", "[", "fp8", "layers.0", 10**400, 1e308, "float32", "*", "9"])
)  # fmt: skip
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted(
    {key for seed in SEEDS for key in seed}
    | {
        "layer_types", "layers_block_type", "head_dim", "sliding_window", "sliding_window_pattern",
        "kv_lora_rank", "compress_ratios", "moe_layers_enum", "moe_layer_freq", "n_shared_experts",
        "attention_other_setting", "sparse_attention_config", "linear_attn_config", "attn_config",
        "engram_num_embeddings", "mtp_hybrid_override_pattern", "num_kv_shared_layers",
        "moe_latent_size", "block_configs", "attn_type_list", "architectures", "rope_scaling",
        "torch_dtype", "expert_dtype", "hc_mult", "expansion_ratio", "cross_attention_layers",
    }
)  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn) -> Any:
    config = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        target = config
        while True:
            inner = [v for v in target.values() if isinstance(v, dict) and v]
            if not inner or draw(st.booleans()):
                break
            target = draw(st.sampled_from(inner))
        key = draw(st.sampled_from(sorted(target)) | st.sampled_from(FIELDS))
        if draw(st.integers(0, 5)) == 0:
            target.pop(key, None)
        else:
            target[key] = draw(json_values)
    return config


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile())
def test_mutated_configs_give_an_architecture_or_an_input_error(config: Any) -> None:
    try:
        architecture = read_architecture(config)
    except InputError:
        return
    assert 0 < architecture.parameters <= 10**15
    assert architecture.active_parameters <= architecture.parameters + architecture.mtp_parameters
    assert architecture.num_layers <= 1_000
    for group in architecture.groups:
        assert group.layer.lora_modules() is not None
        assert all(m.parameters > 0 for m in group.layer.matrices)
        if architecture.quantization is not None:
            shares = map(architecture.quantization.quantized_share, group.layer.matrices)
            assert all(0 <= share <= 1 for share in shares)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_any_json_gives_an_input_error(value: Any) -> None:
    with pytest.raises(InputError):
        read_architecture(value)


def test_nested_blocks_do_not_exhaust_the_stack() -> None:
    block: dict[str, Any] = {"quant_method": "exl3"}
    for _ in range(5_000):
        block = {"quant_method": "exl3", "non_routed_quantization": block}
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    config = {**LLAMA_3_8B, "quantization_config": block, "layer_types": deep * 40}
    assert read_architecture(config).num_layers == 32


def test_hostile_patterns_are_not_run_as_expressions() -> None:
    patterns = ["re:(a+)+$" + "(a|aa)+" * 20, "*a" * 140 + "b", "re:" + "(x|y)" * 40]
    started = time.perf_counter()
    quantized(LLAMA_3_8B, {"quant_method": "fp8", "ignore": patterns * 50})
    assert time.perf_counter() - started < 1.0
    with pytest.raises(InputError, match="patterns"):
        quantized(LLAMA_3_8B, {"quant_method": "fp8", "ignore": [f"m{i}" for i in range(5_000)]})
