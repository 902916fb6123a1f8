"""Memory of a serving engine on the fullest GPU, each engine by its own rules.

Every function broadcasts: ``tensor``, ``pipeline``, ``expert``, ``data`` and the device's fields
may be arrays of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.memory.kv_cache import KV_BITS, sequence_bytes
from configurator.memory.weights import rounding_bytes, stored_bits, weight_table
from configurator.scenario import Inference
from configurator.units import GIB, MIB


@dataclass(frozen=True)
class ServingMemory:
    """Bytes on the fullest GPU.

    Attributes:
        weights: Stored weights.
        kv_cache: Cache of this scenario's sequences at their end.
        activations: Live tensors of a step at their peak.
        framework: Context, kernels, communication buffers, graphs, allocator slack.
        spare_pool: What the engine's cache pool holds beyond this scenario's need.
        peak_allocated: Live tensors at the peak.
        reserved: What the framework's allocator holds.
        total: Device memory in use at the peak.
        required: ``weights + kv_cache + activations + framework``.
        budget: What the engine may use of the card.
        capacity_tokens: Tokens that the pools of the whole deployment hold.
        sequences: Sequences that one replica holds in this scenario.
        detail: Named sub-terms for the explanation, bytes or tokens.
    """

    weights: Any
    kv_cache: Any
    activations: Any
    framework: Any
    spare_pool: Any
    peak_allocated: Any
    reserved: Any
    total: Any
    required: Any
    budget: Any
    capacity_tokens: Any
    max_concurrency: Any
    sequences: Any
    detail: dict[str, Any] = field(default_factory=dict)


def context_bytes() -> float:
    """CUDA context and libraries of one process."""
    return (constant("device", "cuda_context_mib") + constant("device", "cublas_mib")) * MIB


def visible_bytes(memory_bytes: Any) -> Any:
    """What CUDA calls the card's total: the driver keeps a share for itself."""
    return memory_bytes * (1 - constant("device", "driver_reserved_share"))


def _width(arch: Architecture, name: str) -> int:
    """Largest value of a layer attribute."""
    return max((getattr(g.layer, name) for g in arch.groups), default=0)


def step_activations(arch: Architecture, tokens: Any, bits: float, tensor: Any, expert: Any) -> Any:
    """Live tensors of one forward step at its widest point, bytes.

    The residual stream and its normed copy stay; beside them either the MLP's gate, up and product
    (an expert layer's once for each expert a token visits) or the attention's projections.

    Args:
        arch: The model.
        tokens: Tokens in the step.
        bits: Bits of a compute number.
        tensor: Tensor-parallel ranks.
        expert: Expert-parallel ranks.
    """
    size = bits / 8
    widest: Any = 0.0
    for group in arch.groups:
        layer = group.layer
        per_token = layer.ffn * max(1, layer.experts_per_token) * (3 if layer.gated else 2)
        mlp = per_token / np.maximum(tensor, expert if layer.experts else 1)
        attention = layer.heads * (2 * layer.qk_dim + layer.v_dim) / tensor
        widest = np.maximum(widest, np.maximum(mlp, attention))
    return tokens * (widest + 4 * arch.hidden_size * arch.residual_streams) * size


def llama_cpp_compute(arch: Architecture, step: Any, length: float) -> Any:
    """llama.cpp's compute buffer: the widest point of the graph for one micro-batch, 32 bit.

    Either the logits beside the last hidden state, or a layer's gate and up beside the residual
    stream and its norm, with the attention mask (measured: LLaMA 7B to 65B start-up logs).
    """
    ffn = max((g.layer.ffn * max(1, g.layer.experts_per_token) for g in arch.groups), default=0)
    head = step * (arch.vocab_size + arch.hidden_size) * 4.0
    layer = step * (2 * ffn + 2 * arch.hidden_size + length) * 4.0
    return np.maximum(head, layer)


def dequantised_bytes(arch: Architecture, precision: str) -> float:
    """Bytes of the largest weight that is unpacked to 16 bit for a product (bitsandbytes)."""
    if precision != "nf4":
        return 0.0
    return max(
        (
            m.out_features * m.in_features * 2.0
            for g in arch.groups
            for m in g.layer.matrices
            if m.linear and stored_bits(m, precision, arch, "transformers", g.layer) < 16
        ),
        default=0.0,
    )


def cache_fragments(
    arch: Architecture, kv: Any, prompt: float, sequences: Any, bits: float
) -> Any:
    """What PyTorch's allocator cannot use again after a prefill with a growing cache.

    Each layer's keys and values are cut from a freed MLP buffer; the rest of that buffer is too
    small for the next MLP, which takes a new one. The remainder a buffer is the share lost.
    """
    widest = max((g.layer.ffn * max(1, g.layer.experts_per_token) for g in arch.groups), default=0)
    key = max((g.layer.kv_heads * g.layer.qk_dim for g in arch.groups), default=1)
    if key <= 0 or widest < key:
        return 0.0 * kv
    pieces = widest // key
    lost = (widest - pieces * key) / (pieces * key)
    return kv * lost + sequences * prompt * widest * bits / 8


def _pool(
    arch: Architecture,
    kv_bits: float,
    inference: Inference,
    pool: Any,
    tensor: Any,
    pipeline: Any,
    data: Any,
    window_extra: float,
    block: float,
) -> tuple[Any, Any, Any]:
    """Return tokens and sequences that the deployment's pools hold, and one sequence's bytes."""
    length = float(inference.max_model_len or inference.context_tokens)
    one = sequence_bytes(arch, kv_bits, np.ceil(length / block) * block, tensor, pipeline, window_extra=window_extra)
    held = np.maximum(0.0, pool) / np.maximum(one, 1.0)
    tokens = np.floor(held * length / block) * block * data
    own = sequence_bytes(
        arch, kv_bits, np.ceil(inference.context_tokens / block) * block, tensor, pipeline, window_extra=window_extra
    )
    concurrency = np.floor(np.maximum(0.0, pool) / np.maximum(own, 1.0)) * data
    return tokens, concurrency, own


def serving_memory(
    arch: Architecture,
    precision: str,
    kv_precision: str,
    engine: str,
    inference: Inference,
    memory_bytes: Any,
    tensor: Any = 1,
    pipeline: Any = 1,
    expert: Any = 1,
    data: Any = 1,
    *,
    with_mtp: bool = False,
) -> ServingMemory:
    """Memory of serving a model on the fullest GPU.

    Args:
        arch: The model.
        precision: Resolved precision of the weights.
        kv_precision: Resolved precision of the cache.
        engine: ``vllm sglang tensorrt_llm transformers llama_cpp``.
        inference: The load.
        memory_bytes: The card's memory.
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Replicas (or attention data-parallel ranks).
        with_mtp: Hold the multi-token-prediction layers too.
    """
    kv_bits = KV_BITS[kv_precision]
    weights = weight_table(arch, precision, engine, with_mtp).per_gpu(tensor, pipeline, expert)
    rounding = rounding_bytes(arch, precision, engine, tensor, pipeline, expert)
    sequences = np.ceil(inference.concurrency / np.asarray(data))
    compute_bits = 32.0 if precision == "fp32" else 16.0
    vocab = arch.vocab_size
    context = context_bytes()
    window_extra, block, spare = 0.0, 1.0, None
    visible = visible_bytes(memory_bytes)

    if engine in ("vllm", "sglang", "tensorrt_llm"):
        limit = constant("vllm", "max_num_batched_tokens")
        if engine == "sglang":
            limit = constant("sglang", "chunked_prefill_tokens")
        elif engine == "tensorrt_llm":
            limit = constant("tensorrt_llm", "max_num_tokens")
        elif np.ndim(memory_bytes) or memory_bytes < 70 * GIB:
            small = constant("vllm", "max_num_batched_tokens_small")
            limit = np.where(np.asarray(memory_bytes) < 70 * GIB, small, limit)
        step = inference.max_num_batched_tokens or limit
        seqs = inference.max_num_seqs or constant("vllm", "max_num_seqs")
        logits = seqs * vocab * (2 + 4) / tensor
        activations = step_activations(arch, step, 16.0, tensor, expert) + logits
        graphs = constant("vllm", "cuda_graph_mib") * MIB
        peers = np.where(np.asarray(tensor) * np.asarray(pipeline) > 1, 1.0, 0.0)
        non_torch = (
            constant("vllm", "non_torch_mib") + peers * constant("vllm", "non_torch_per_peer_mib")
        ) * MIB
        framework = context + non_torch + graphs + rounding
        block = constant("vllm", "block_tokens") if engine == "vllm" else 1.0
        if engine == "vllm":
            share = inference.gpu_memory_utilization or constant("vllm", "gpu_memory_utilization")
            budget = visible * share + context
            window_extra = step
        elif engine == "sglang":
            share = inference.gpu_memory_utilization or constant("sglang", "mem_fraction_static")
            budget = visible * share + activations + framework
        else:
            share = inference.gpu_memory_utilization or constant("tensorrt_llm", "kv_free_share")
            fixed = weights + activations + framework
            budget = fixed + np.maximum(0.0, visible - fixed) * share
        pool = budget - weights - activations - framework
        tokens, most, own = _pool(arch, kv_bits, inference, pool, tensor, pipeline, data, window_extra, block)
        kv = own * sequences
        spare = np.maximum(0.0, pool - kv)
        peak = weights + rounding + kv + activations
        reserved = peak + spare
    elif engine == "llama_cpp":
        step = np.minimum(
            inference.max_num_batched_tokens or constant("llama_cpp", "micro_batch_tokens"),
            np.maximum(1, inference.context_tokens),
        )
        length = float(inference.max_model_len or inference.context_tokens)
        window_extra = float(step)
        own = sequence_bytes(arch, kv_bits, length, tensor, pipeline, window_extra=window_extra)
        kv = own * sequences
        activations = llama_cpp_compute(arch, step, length)
        framework = np.asarray(constant("llama_cpp", "context_mib") * MIB)
        budget = visible
        pool = budget - weights - activations - framework
        tokens, most, _ = _pool(
            arch, kv_bits, inference, pool, tensor, pipeline, data, window_extra, 1.0
        )
        peak = weights + kv + activations
        reserved = peak
    else:
        prompt, length = float(max(1, inference.input_tokens)), float(inference.context_tokens)
        own = sequence_bytes(arch, kv_bits, length, tensor, pipeline, full_context=True)
        kv = own * sequences
        first = kv * (prompt / max(prompt, length))
        rotary = prompt * _width(arch, "qk_dim") * 2 * compute_bits / 8
        unpacked = dequantised_bytes(arch, precision)
        logits = sequences * vocab * 4.0
        prefill = rotary + unpacked + step_activations(
            arch, sequences * prompt, compute_bits, tensor, expert
        )
        # One layer's keys are copied when the cache grows by concatenation.
        grown = kv / max(1, arch.num_layers) / 2
        decode = unpacked + np.maximum(logits, grown) + step_activations(
            arch, sequences, compute_bits, tensor, expert
        )
        held = weights + rounding
        peak = held + np.maximum(first + np.maximum(prefill, logits), kv + decode)
        activations = peak - held - kv
        reserved = np.maximum(
            held + first + prefill + cache_fragments(arch, first, prompt, sequences, compute_bits),
            held + 2 * kv if inference.output_tokens > 1 else 0.0,
        )
        reserved = np.maximum(peak, np.minimum(reserved, visible - context))
        framework = context + rounding + reserved - peak
        budget = visible
        pool = budget - weights - activations - framework
        tokens, most, _ = _pool(arch, kv_bits, inference, pool, tensor, pipeline, data, 0.0, 1.0)
    spare_pool = 0.0 if spare is None else spare
    required = weights + kv + activations + framework
    return ServingMemory(
        weights=weights, kv_cache=kv, activations=activations, framework=framework,
        spare_pool=spare_pool, peak_allocated=peak, reserved=reserved, total=required + spare_pool,
        required=required, budget=budget, capacity_tokens=tokens, max_concurrency=most,
        sequences=sequences, detail={"sequence_bytes": own, "pool_bytes": pool},
    )  # fmt: skip
