"""Quantisation blocks: schemes, patterns of what is left out, mixed precisions."""

from __future__ import annotations

from typing import Any

import pytest

from configurator.architecture import Architecture, Matrix
from configurator.errors import InputError
from tests.unit.model_configs import (
    CT_INT4,
    DEEPSEEK_V3,
    DEEPSEEK_V4_FLASH,
    LLAMA_3_8B,
    QWEN3_30B,
    quantized,
)


def matrix_of(architecture: Architecture, name: str) -> Matrix:
    return next(m for g in architecture.groups for m in g.layer.matrices if m.name == name)


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
