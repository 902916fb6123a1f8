"""Architectures: exact counts, caches, quantisation patterns, adapters, and hostile configs.

The expected counts are the publishers' own, or what Hugging Face transformers 5.24 builds from the
same config (``sum(p.numel())`` on the meta device); for DeepSeek-V3 the router's correction bias is
counted as the checkpoint does.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configurator.architecture import (
    Architecture,
    Matrix,
    Quantization,
    read_architecture,
    typical_architecture,
)
from configurator.errors import InputError

CONFIGS = Path(__file__).parents[2] / "catalog" / "models" / "configs"


def dims(
    model_type: str,
    hidden: int,
    layers: int,
    heads: int,
    kv: int,
    ffn: int,
    vocab: int,
    **more: Any,
) -> dict[str, Any]:
    return {
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": ffn,
        "vocab_size": vocab, "tie_word_embeddings": False, **more,
    }  # fmt: skip


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in names}


LLAMA_2_7B = dims("llama", 4096, 32, 32, 32, 11008, 32000)
LLAMA_3_8B = dims("llama", 4096, 32, 32, 8, 14336, 128256)
LLAMA_70B = dims("llama", 8192, 80, 64, 8, 28672, 128256)
QWEN2_5_7B = dims("qwen2", 3584, 28, 28, 4, 18944, 152064)
QWEN3_30B = dims(
    "qwen3_moe", 2048, 48, 32, 4, 6144, 151936, head_dim=128, num_experts=128,
    num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1, mlp_only_layers=[],
)  # fmt: skip
MIXTRAL = dims("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2)
MLA = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
DEEPSEEK_V3 = dims(
    "deepseek_v3", 7168, 61, 128, 128, 18432, 129280, **MLA, q_lora_rank=1536,
    n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1, moe_intermediate_size=2048,
    first_k_dense_replace=3, moe_layer_freq=1, num_nextn_predict_layers=1,
)  # fmt: skip
DEEPSEEK_V32 = {
    **DEEPSEEK_V3, "model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64,
}  # fmt: skip
DEEPSEEK_V2_LITE = dims(
    "deepseek_v2", 2048, 27, 16, 16, 10944, 102400, **MLA, n_routed_experts=64,
    num_experts_per_tok=6, n_shared_experts=2, moe_intermediate_size=1408,
    first_k_dense_replace=1,
)  # fmt: skip
DEEPSEEK_V4_FLASH = dims(
    "deepseek_v4", 4096, 43, 64, 1, 2048, 129280, head_dim=512, qk_rope_head_dim=64,
    q_lora_rank=1024, o_lora_rank=1024, o_groups=8, n_routed_experts=256, n_shared_experts=1,
    num_experts_per_tok=6, moe_intermediate_size=2048, sliding_window=128, index_n_heads=64,
    index_head_dim=128, hc_mult=4,
    compress_ratios=[0, 0, *(4 if i % 2 else 128 for i in range(1, 42)), 0],
)  # fmt: skip
GPT_OSS_20B = dims(
    "gpt_oss", 2880, 24, 64, 8, 2880, 201088, head_dim=64, attention_bias=True,
    num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 12,
)  # fmt: skip
GPT_OSS_120B = {
    **GPT_OSS_20B, "num_hidden_layers": 36, "num_local_experts": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
}  # fmt: skip
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
          "num_attention_heads": 16, "patch_size": 14, "image_size": 896}  # fmt: skip
GEMMA_3_27B = {
    "model_type": "gemma3",
    "text_config": without(
        dims("gemma3_text", 5376, 62, 32, 16, 21504, 262208, head_dim=128, sliding_window=1024),
        "tie_word_embeddings",
    ),
    "vision_config": SIGLIP,
}  # fmt: skip
QWEN2_5_VL_3B = {
    **dims("qwen2_5_vl", 2048, 36, 16, 2, 11008, 151936, tie_word_embeddings=True),
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                      "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
                      "temporal_patch_size": 2},
}  # fmt: skip
QWEN3_VL_4B = {
    "model_type": "qwen3_vl",
    "text_config": dims("qwen3_vl_text", 2560, 36, 32, 8, 9728, 151936, head_dim=128,
                        tie_word_embeddings=True),
    "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096,
                      "out_hidden_size": 2560, "patch_size": 16, "spatial_merge_size": 2,
                      "temporal_patch_size": 2, "num_position_embeddings": 2304,
                      "deepstack_visual_indexes": [5, 11, 17]},
}  # fmt: skip
LINEAR = {"linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
          "linear_conv_kernel_dim": 4, "full_attention_interval": 4}  # fmt: skip
QWEN3_NEXT = dims(
    "qwen3_next", 2048, 48, 16, 2, 5120, 151936, head_dim=256, **LINEAR, linear_num_value_heads=32,
    num_experts=512, num_experts_per_tok=10, moe_intermediate_size=512,
    shared_expert_intermediate_size=512,
)  # fmt: skip
QWEN3_5_27B = dims(
    "qwen3_5_text", 5120, 64, 24, 4, 17408, 248320, head_dim=256, **LINEAR,
    linear_num_value_heads=48, mamba_ssm_dtype="float32", mtp_num_hidden_layers=1,
)  # fmt: skip
KIMI_LINEAR = dims(
    "kimi_linear", 2304, 27, 32, 32, 9216, 163840, **MLA, num_experts=256,
    num_experts_per_token=8, num_shared_experts=1, moe_intermediate_size=1024,
    first_k_dense_replace=1,
    linear_attn_config={"num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4,
                        "kda_layers": [i for i in range(1, 28) if i % 4 and i != 27]},
)  # fmt: skip
NEMOTRON_NANO = dims(
    "nemotron_h", 2688, 52, 32, 2, 1856, 131072, head_dim=128, mamba_num_heads=64,
    mamba_head_dim=64, n_groups=8, ssm_state_size=128, conv_kernel=4, n_routed_experts=128,
    num_experts_per_tok=6, moe_intermediate_size=1856,
    moe_shared_expert_intermediate_size=3712, mamba_ssm_cache_dtype="float32",
    hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
)  # fmt: skip
QWEN_7B = dims("qwen", 4096, 32, 32, 32, 22016, 151936, no_bias=True)
FALCON_7B = without(
    dims("falcon", 4544, 32, 71, 71, 18176, 65024, multi_query=True, parallel_attn=True,
         bias=False),
    "tie_word_embeddings", "num_key_value_heads", "intermediate_size",
)  # fmt: skip
FALCON_40B = without(
    dims("falcon", 8192, 60, 128, 8, 32768, 65024, new_decoder_architecture=True,
         parallel_attn=True, bias=False),
    "tie_word_embeddings", "intermediate_size",
)  # fmt: skip
NEOX_20B = dims("gpt_neox", 6144, 44, 64, 64, 24576, 50432)
OPT_30B = without(
    dims("opt", 7168, 48, 56, 56, 28672, 50272, max_position_embeddings=2048),
    "tie_word_embeddings",
)  # fmt: skip
PHI_2 = dims("phi", 2560, 32, 32, 32, 10240, 51200)
BAICHUAN_7B = without(dims("", 4096, 32, 32, 32, 11008, 64000), "model_type") | {
    "architectures": ["BaichuanForCausalLM"]
}

PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-2-7B": (LLAMA_2_7B, 6_738_415_616),
    "Llama-2-13B": (dims("llama", 5120, 40, 40, 40, 13824, 32000), 13_015_864_320),
    "Llama-2-70B": (dims("llama", 8192, 80, 64, 8, 28672, 32000), 68_976_648_192),
    "Llama-3.1-8B": (LLAMA_3_8B, 8_030_261_248),
    "Llama-3.2-1B": (
        dims("llama", 2048, 16, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True),
        1_235_814_400,
    ),
    "Llama-3.3-70B": (LLAMA_70B, 70_553_706_496),
    "Llama-3.1-405B": (dims("llama", 16384, 126, 128, 8, 53248, 128256), 405_853_388_800),
    "Mistral-7B": (dims("mistral", 4096, 32, 32, 8, 14336, 32000), 7_241_732_096),
    "Mixtral-8x7B": (MIXTRAL, 46_702_792_704),
    "Qwen2.5-7B": (QWEN2_5_7B, 7_615_616_512),
    "Qwen2.5-32B": (dims("qwen2", 5120, 64, 40, 8, 27648, 152064), 32_763_876_352),
    "Qwen3-8B": (dims("qwen3", 4096, 36, 32, 8, 12288, 151936, head_dim=128), 8_190_735_360),
    "Qwen3-30B-A3B": (QWEN3_30B, 30_532_122_624),
    "Qwen3-Next-80B": (QWEN3_NEXT, 79_674_391_296),
    "Qwen3.5-27B text": (QWEN3_5_27B, 26_895_998_464),
    "Qwen2.5-VL-3B": (QWEN2_5_VL_3B, 3_754_622_976),
    "Qwen3-VL-4B": (QWEN3_VL_4B, 4_437_815_808),
    "Qwen-7B": (QWEN_7B, 7_721_324_544),
    "DeepSeek-V3": (DEEPSEEK_V3, 671_026_419_200),
    "DeepSeek-V3.2": (DEEPSEEK_V32, 671_877_929_216 + 58 * 256),
    "DeepSeek-V2-Lite": (DEEPSEEK_V2_LITE, 15_706_484_224),
    "DeepSeek-V4-Flash": (DEEPSEEK_V4_FLASH, 284_332_230_231 + 43 * 256),
    "Kimi-Linear-48B": (KIMI_LINEAR, 49_122_675_072 + 26 * 256),
    "gpt-oss-20b": (GPT_OSS_20B, 20_914_757_184),
    "gpt-oss-120b": (GPT_OSS_120B, 116_829_156_672),
    "Gemma-2B": (
        without(dims("gemma", 2048, 18, 8, 1, 16384, 256000, head_dim=256), "tie_word_embeddings"),
        2_506_172_416,
    ),
    "Gemma-2-9B": (
        without(dims("gemma2", 3584, 42, 16, 8, 14336, 256000, head_dim=256,
                     sliding_window=4096), "tie_word_embeddings"),
        9_241_705_984,
    ),
    "Gemma-3-27B": (GEMMA_3_27B, 27_432_406_640),
    "Nemotron-3-Nano": (NEMOTRON_NANO, 31_577_937_344 + 23 * 128),
    "Phi-3-mini": (dims("phi3", 3072, 32, 32, 32, 8192, 32064), 3_821_079_552),
    "phi-2": (PHI_2, 2_779_683_840),
    "Falcon-7B": (FALCON_7B, 6_921_720_704),
    "OLMo-2-7B": (dims("olmo2", 4096, 32, 32, 32, 11008, 100352), 7_298_617_344),
    "GPT-NeoX-20B": (NEOX_20B, 20_554_567_680),
    "Baichuan-7B": (BAICHUAN_7B, 7_000_559_616),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_exact(name: str) -> None:
    config, expected = PUBLISHED[name]
    architecture = read_architecture(config, name)
    assert architecture.parameters == expected
    assert not [a for a in architecture.assumptions if a[0] == "unknown_model_type"]


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (MIXTRAL, 12.88),
        (DEEPSEEK_V3, 37.5),
        (QWEN3_30B, 3.35),
        (GPT_OSS_120B, 5.7),
        (DEEPSEEK_V2_LITE, 2.66),
    ],
)
def test_active_parameters(config: dict[str, Any], billions: float) -> None:
    active = read_architecture(config).active_parameters / 1e9
    assert active == pytest.approx(billions, rel=0.1)


def test_draft_layer_leaves_out_what_it_shares() -> None:
    architecture = read_architecture(DEEPSEEK_V3)
    # 14 B stated for the module with its copies of embedding and head, 0.93 B each.
    copies = 2 * 129280 * 7168
    assert (architecture.mtp_parameters + copies) / 1e9 == pytest.approx(13.5, rel=0.02)
    assert architecture.num_layers == 61


def test_every_catalog_config_parses() -> None:
    files = sorted(CONFIGS.glob("*.json")) if CONFIGS.is_dir() else []
    for file in files:
        architecture = read_architecture(json.loads(file.read_text()), file.stem)
        assert 5e7 < architecture.parameters < 3e12, file.name
        assert architecture.num_layers > 0, file.name
        codes = [code for code, _ in architecture.assumptions]
        assert "unknown_model_type" not in codes, file.name


# --------------------------------------------------------------------------- caches


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        (DEEPSEEK_V3, 70_272 // 2),
        (QWEN2_5_7B, 57_344 // 2),
        (LLAMA_2_7B, 524_288 // 2),
        (LLAMA_3_8B, 131_072 // 2),
        (FALCON_7B, 2 * 64 * 32),
        (FALCON_40B, 2 * 8 * 64 * 60),
        (QWEN3_NEXT, 12 * 2 * 2 * 256),
        (KIMI_LINEAR, 7 * 576),
    ],
)
def test_cache_elements_a_token(config: dict[str, Any], elements: int) -> None:
    assert read_architecture(config).kv_elements_per_token() == elements


def windows(config: dict[str, Any]) -> dict[int | None, int]:
    out: dict[int | None, int] = {}
    for group in read_architecture(config).groups:
        out[group.layer.window] = out.get(group.layer.window, 0) + group.count
    return out


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT_OSS_20B, {128: 12, None: 12}),
        (without(GPT_OSS_20B, "layer_types"), {128: 12, None: 12}),
        (GEMMA_3_27B, {1024: 52, None: 10}),
        (dims("gemma2", 2304, 26, 8, 4, 9216, 256000, sliding_window=4096), {4096: 13, None: 13}),
        (dims("mistral", 4096, 32, 32, 8, 14336, 32000, sliding_window=4096), {4096: 32}),
        ({**QWEN2_5_7B, "sliding_window": 131072, "use_sliding_window": False}, {None: 28}),
        (
            {**QWEN2_5_7B, "sliding_window": 4096, "use_sliding_window": True,
             "max_window_layers": 20},
            {None: 20, 4096: 8},
        ),
        (
            dims("llama4_text", 5120, 48, 40, 8, 8192, 202048, attention_chunk_size=8192,
                 num_local_experts=16, num_experts_per_tok=1, intermediate_size_mlp=16384,
                 interleave_moe_layer_step=1),
            {8192: 36, None: 12},
        ),
    ],
)  # fmt: skip
def test_sliding_layers(config: dict[str, Any], expected: dict[int | None, int]) -> None:
    assert windows(config) == expected


def test_layer_indices_cover_the_model_once() -> None:
    groups = read_architecture(GEMMA_3_27B).groups
    assert sorted(i for g in groups for i in g.indices) == list(range(62))
    full = next(g for g in groups if g.layer.window is None)
    assert full.indices[0] == 5


def test_latent_cache_is_whole_on_every_rank() -> None:
    (cache,) = read_architecture(DEEPSEEK_V3).groups[0].layer.cache
    assert (cache.elements_per_token, cache.heads) == (576, 1)


def test_sparse_index_is_a_fixed_cost() -> None:
    (cache,) = read_architecture(DEEPSEEK_V32).groups[0].layer.cache
    assert cache.fixed_bytes_per_token == 132


def test_compressed_attention_has_a_window_and_entries() -> None:
    groups = read_architecture(DEEPSEEK_V4_FLASH).groups
    ratios = {c.ratio: g.count for g in groups for c in g.layer.cache if c.window is None}
    assert ratios == {4: 21, 128: 20}
    assert all(g.layer.cache[0].window == 128 for g in groups)


def test_linear_attention_keeps_a_state_and_no_tokens() -> None:
    groups = read_architecture(QWEN3_5_27B).groups
    linear = next(g for g in groups if g.layer.attention == "linear")
    (cache,) = linear.layer.cache
    assert linear.count == 48
    assert cache.elements_per_token == 0
    assert cache.state_fp32_elements == 48 * 128 * 128
    assert cache.state_elements == 10240 * 3


def test_layers_that_read_another_cache_have_none() -> None:
    config = dims(
        "gemma4_text", 1536, 35, 8, 1, 6144, 262144, head_dim=256, global_head_dim=512,
        sliding_window=512, num_kv_shared_layers=20, use_double_wide_mlp=True,
        hidden_size_per_layer_input=256, vocab_size_per_layer_input=262144,
    )  # fmt: skip
    architecture = read_architecture(config)
    assert sum(g.count for g in architecture.groups if not g.layer.cache) == 20
    assert {g.layer.ffn for g in architecture.groups} == {6144, 12288}
    assert any(m.name == "embed_tokens_per_layer" for m in architecture.ends)


def test_gemma4_full_layers_share_key_and_value_weights_but_cache_both() -> None:
    config = dims(
        "gemma4_text", 2816, 30, 16, 8, 2112, 262144, head_dim=256, global_head_dim=512,
        num_global_key_value_heads=2, attention_k_eq_v=True, sliding_window=1024,
    )  # fmt: skip
    full = next(g.layer for g in read_architecture(config).groups if g.layer.window is None)
    assert not any(m.name == "v_proj" for m in full.matrices)
    assert full.cache[0].elements_per_token == 2 * 2 * 512


def test_cross_attention_layers_cost_text_tokens_nothing() -> None:
    config = dims("mllama_text_model", 4096, 40, 32, 8, 14336, 128256,
                  cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38])  # fmt: skip
    architecture = read_architecture(config)
    assert architecture.kv_elements_per_token() == 32 * 2 * 8 * 128
    assert ("image_cache_not_counted", {}) in architecture.assumptions


# --------------------------------------------------------------------------- quantisation


def matrix_of(architecture: Architecture, name: str) -> Matrix:
    return next(m for g in architecture.groups for m in g.layer.matrices if m.name == name)


def quantized(config: dict[str, Any], block: dict[str, Any]) -> tuple[Architecture, Quantization]:
    architecture = read_architecture({**config, "quantization_config": block})
    assert architecture.quantization is not None
    return architecture, architecture.quantization


CT_INT4 = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
        "num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("block", "precision", "group"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "int8", 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "int4", 0),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 16384),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 0),
        ({"quant_method": "mxfp4"}, "mxfp4", 32),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8", 0),
        ({"quant_algo": "NVFP4", "group_size": 16}, "nvfp4", 16),
        ({"producer": {}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4", 16),
        (CT_INT4, "int4", 32),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {
            "num_bits": 8, "type": "float", "strategy": "channel"}}}}, "fp8", 0),
        ({"quant_method": "exl3", "bits": 4.0}, "int4", 0),
    ],
)  # fmt: skip
def test_schemes(block: dict[str, Any], precision: str, group: int) -> None:
    architecture, quantization = quantized(LLAMA_3_8B, block)
    assert (quantization.precision, quantization.group_size) == (precision, group)
    assert quantization.quantizes(matrix_of(architecture, "q_proj"))
    head = next(m for m in architecture.ends if m.name == "lm_head")
    assert not quantization.quantizes(head)
    assert not quantization.quantizes(matrix_of(architecture, "norm"))


@pytest.mark.parametrize(
    ("patterns", "name", "share"),
    [
        (["lm_head"], "q_proj", 1.0),
        (["model.layers.*.self_attn"], "q_proj", 0.0),
        (["model.layers.*.self_attn"], "gate_proj", 1.0),
        (["*self_attn*"], "o_proj", 0.0),
        (["re:.*self_attn.*"], "k_proj", 0.0),
        ([r"re:.*mlp\.(gate|up)_proj.*"], "up_proj", 0.0),
        ([r"re:.*mlp\.(gate|up)_proj.*"], "down_proj", 1.0),
        (["re:.*mlp.gate$"], "gate_proj", 1.0),
        (["*.mlp.gate", "gate"], "gate_proj", 1.0),
        (["*router*"], "gate_proj", 1.0),
        (["model.layers.0.self_attn.q_proj"], "q_proj", 1 - 1 / 32),
        (["model.layers.0.self_attn.q_proj"], "k_proj", 1.0),
        ([f"model.layers.{i}.self_attn*" for i in range(32)], "v_proj", 0.0),
        (["model.layers.99.self_attn*", "mtp.*", "model.layers.32.mlp"], "q_proj", 1.0),
        (["transformer.h.0.attn"], "q_proj", 1 - 1 / 32),
    ],
)
def test_excluded_patterns(patterns: list[str], name: str, share: float) -> None:
    block = {"quant_method": "fp8", "ignore": patterns}
    architecture, quantization = quantized(LLAMA_3_8B, block)
    assert quantization.quantized_share(matrix_of(architecture, name)) == pytest.approx(share)
    assert quantization.quantizes(matrix_of(architecture, name)) == (share >= 0.5)


def test_experts_only() -> None:
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
              r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]  # fmt: skip
    architecture, quantization = quantized(DEEPSEEK_V3, {**CT_INT4, "ignore": ignore})
    wide = ("q_a_proj", "kv_b_proj", "o_proj", "gate_proj", "shared_experts.up_proj")
    assert not any(quantization.quantizes(matrix_of(architecture, n)) for n in wide)
    for name in ("experts.gate_proj", "experts.down_proj"):
        assert quantization.precision_of(matrix_of(architecture, name)) == "int4"


def test_experts_of_another_precision() -> None:
    block = {"quant_method": "fp8", "weight_block_size": [128, 128], "expert_dtype": "fp4"}
    architecture, quantization = quantized(DEEPSEEK_V4_FLASH, block)
    expert = matrix_of(architecture, "experts.up_proj")
    assert (quantization.precision_of(expert), quantization.group_size_of(expert)) == ("mxfp4", 32)
    assert quantization.precision_of(matrix_of(architecture, "wq_b")) == "fp8"


def test_mixed_precision() -> None:
    layers = {
        "model.layers.*.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
        "model.layers.*.self_attn.q_proj": {"quant_algo": "FP8"},
        "lm_head": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
    }
    block = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    architecture, quantization = quantized(QWEN3_30B, block)
    assert quantization.precision_of(matrix_of(architecture, "experts.up_proj")) == "nvfp4"
    assert quantization.precision_of(matrix_of(architecture, "q_proj")) == "fp8"
    assert quantization.precision_of(matrix_of(architecture, "o_proj")) is None
    head = next(m for m in architecture.ends if m.name == "lm_head")
    assert quantization.precision_of(head) == "nvfp4"
    assert (quantization.precision, quantization.expert_precision) == ("fp8", "nvfp4")


def test_unknown_scheme_is_an_error() -> None:
    with pytest.raises(InputError, match="scheme"):
        quantized(LLAMA_3_8B, {"quant_method": "somethingnew"})


# --------------------------------------------------------------------------- LoRA


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
    attention = mixtral.lora_parameters(1, "attention")
    assert mixtral.lora_parameters(1) - attention == 32 * 8 * 3 * (4096 + 14336)
    assert oss.lora_parameters(1) == oss.lora_parameters(1, "attention")
    assert not any(m.role == "router" for m in mixtral.groups[0].layer.lora_modules())


def test_unknown_target_names_what_there_is() -> None:
    with pytest.raises(InputError, match="query_key_value"):
        read_architecture(NEOX_20B).lora_parameters(8, ["q_proj"])


# --------------------------------------------------------------------------- errors


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


@pytest.mark.parametrize("size", [0.1, 0.5, 1, 7, 13, 34, 70, 180, 671, 2000])
def test_typical_sizes(size: float) -> None:
    architecture = typical_architecture(size)
    assert architecture.parameters == pytest.approx(size * 1e9, rel=0.15 if size < 0.5 else 0.01)
    assert architecture.assumptions[0][0] == "typical_architecture"


@pytest.mark.parametrize("size", [0, -1, 1e9, float("nan"), "7", None, True])
def test_impossible_sizes(size: Any) -> None:
    with pytest.raises(InputError):
        typical_architecture(size)


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


def test_reading_is_fast() -> None:
    read_architecture(DEEPSEEK_V32)
    started = time.perf_counter()
    for _ in range(20):
        read_architecture(DEEPSEEK_V32)
    # 2 ms on an idle core; the bound leaves room for a busy one.
    assert (time.perf_counter() - started) / 20 < 0.010
