"""Attention of each kind: cache elements a token, sliding windows, states, shared caches."""

from __future__ import annotations

from typing import Any

import pytest

from configurator.architecture import read_architecture
from tests.unit.model_configs import (
    DEEPSEEK_V3,
    DEEPSEEK_V4_FLASH,
    DEEPSEEK_V32,
    FALCON_7B,
    FALCON_40B,
    GEMMA_3_27B,
    GPT_OSS_20B,
    KIMI_LINEAR,
    LLAMA_2_7B,
    LLAMA_3_8B,
    QWEN2_5_7B,
    QWEN3_5_27B,
    QWEN3_NEXT,
    dims,
    without,
)


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
