"""The key-value cache: bytes a token, a sequence, a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from configurator.architecture import Architecture, Quantization

# Bits a cached number; GGUF's q8_0 and q4_0 carry a 16-bit scale a block of 32.
KV_BITS = {
    "fp32": 32.0, "fp16": 16.0, "bf16": 16.0, "fp8": 8.0, "int8": 8.0, "q8_0": 8.5, "q4_0": 4.5,
}  # fmt: skip


def resolve_kv_precision(
    asked: str, engine: str, precision: str, native: str, quantization: Quantization | None
) -> str:
    """Return what ``auto`` stands for: what the engine does by default.

    vLLM, SGLang and TensorRT-LLM follow a checkpoint's own cache scheme, else its 16-bit dtype;
    llama.cpp caches in fp16; transformers in the compute dtype. TensorRT-LLM takes FP8 with FP8 and
    NVFP4 weights, and ModelOpt's NVFP4 checkpoints ask for FP8 where nothing else is said
    (measured: decode time grows with context at FP8's rate, Llama-3.1-70B and DeepSeek-R1).
    """
    if asked != "auto":
        return asked
    if engine == "llama_cpp":
        return "fp16"
    if engine in ("vllm", "sglang", "tensorrt_llm") and quantization and quantization.kv_precision:
        return quantization.kv_precision
    if engine == "tensorrt_llm" and precision in ("fp8", "nvfp4"):
        return "fp8"
    if engine in ("vllm", "sglang") and precision == "nvfp4" and quantization is None:
        return "fp8"
    if precision == "fp32":
        return "fp32"
    return "fp16" if precision == "fp16" or native == "fp16" else "bf16"


def bytes_per_token(arch: Architecture, bits: float, context: float = 0.0) -> float:
    """Bytes that one more token of one sequence costs, all layers, before any split.

    Args:
        arch: The model.
        bits: Bits a cached number.
        context: Tokens already held; layers whose window is full cost nothing more.
    """
    total = 0.0
    for group in arch.groups:
        for cache in group.layer.cache:
            if cache.window is None or context < cache.window:
                one = cache.elements_per_token * bits / 8 + cache.fixed_bytes_per_token
                total += group.count * one / cache.ratio
    return total


def sequence_bytes(
    arch: Architecture,
    bits: float,
    context: Any,
    tensor: Any = 1,
    pipeline: Any = 1,
    *,
    window_extra: float = 0.0,
    full_context: bool = False,
) -> Any:
    """Bytes of one sequence's cache on the fullest GPU.

    Multi-head and grouped-query heads are split over the ranks as far as there are heads and then
    copied; a latent (MLA) cache lies whole on every tensor-parallel rank (DeepSeek-V2,
    arXiv 2405.04434, section 2.1). Sliding-window layers hold at most their window.

    Args:
        arch: The model.
        bits: Bits a cached number.
        context: Tokens held (number or array).
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
        window_extra: Tokens a windowed layer holds beside its window (engine's own rule).
        full_context: Whether the engine keeps windowed layers at full length.
    """
    total: Any = 0.0
    for group in arch.groups:
        for cache in group.layer.cache:
            held = context
            if cache.window is not None and not full_context:
                held = np.minimum(context, cache.window + window_extra)
            split = np.minimum(tensor, cache.heads)
            one = cache.elements_per_token * bits / 8 / split + cache.fixed_bytes_per_token
            total = total + group.count * one * np.ceil(np.asarray(held) / cache.ratio)
            state = cache.state_elements * 2 + cache.state_fp32_elements * 4
            if state:
                total = total + group.count * state / np.minimum(tensor, cache.state_heads)
    stage = np.ceil(arch.num_layers / np.asarray(pipeline)) / arch.num_layers
    return total * stage
