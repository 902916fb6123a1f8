"""Memory of a serving engine on the fullest GPU, each engine by its own rules.

Every function broadcasts: ``tensor``, ``pipeline``, ``expert``, ``data`` and the device's fields
may be arrays of one shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.memory import llama_cpp, sglang, transformers, vllm
from configurator.memory.kv_cache import KV_BITS, sequence_bytes
from configurator.memory.weights import rounding_bytes, stored_bits, weight_table
from configurator.scenario import Inference
from configurator.units import MIB


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
        host: Bytes moved to host memory to make the rest fit.
        host_layers: Layers of this GPU that they are, a whole number; of a mixture in llama.cpp,
            layers whose experts they are.
        host_share: Their share of the GPU's layers.
        host_experts: Whether experts alone were moved.
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
    host: Any = 0.0
    host_layers: Any = 0.0
    host_share: Any = 0.0
    host_experts: bool = False
    detail: dict[str, Any] = field(default_factory=dict)


def context_bytes() -> float:
    """CUDA context and libraries of one process."""
    return (constant("device", "cuda_context_mib") + constant("device", "cublas_mib")) * MIB


def visible_bytes(memory_bytes: Any) -> Any:
    """What CUDA calls the card's total: the driver keeps a share for itself."""
    return np.maximum(0.0, memory_bytes - constant("device", "driver_reserved_mib") * MIB)


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


@dataclass(frozen=True)
class _Ask:
    """What every engine's rules are asked about."""

    arch: Architecture
    precision: str
    kv_bits: float
    inference: Inference
    memory_bytes: Any
    tensor: Any
    pipeline: Any
    expert: Any
    data: Any
    weights: Any
    rounding: Any
    version: str | None
    a100: Any = False
    host_share: Any = 0.0

    @property
    def sequences(self) -> Any:
        """Sequences that one replica holds; what is beyond ``max_num_seqs`` waits without cache."""
        asked = np.ceil(self.inference.concurrency / np.asarray(self.data))
        return np.minimum(asked, self.inference.max_num_seqs or np.inf)

    @property
    def model_len(self) -> float:
        """Longest sequence that the engine is set up for."""
        return float(
            self.inference.max_model_len
            or max(self.arch.context_length or 0, self.inference.context_tokens)
        )

    def sequence(self, context: float, **rules: Any) -> Any:
        """Bytes of one sequence's cache."""
        return sequence_bytes(self.arch, self.kv_bits, context, self.tensor, self.pipeline, **rules)

    @property
    def peers(self) -> Any:
        """Whether the GPU talks to others."""
        return np.where(np.asarray(self.tensor) * np.asarray(self.pipeline) > 1, 1.0, 0.0)


def _pooled(
    ask: _Ask, kv: Any, pool: Any, activations: Any, parts: dict[str, Any], capacity: Any,
    concurrency: Any, detail: dict[str, Any],
) -> ServingMemory:  # fmt: skip
    """An engine that fills a cache pool: what the scenario does not need of it is spare."""
    framework: Any = sum(parts.values())
    required = ask.weights + kv + activations + framework
    spare = np.maximum(0.0, pool - kv)
    peak = ask.weights + ask.rounding + kv + activations
    detail |= {f"framework_{k}": v for k, v in parts.items()}
    return ServingMemory(
        weights=ask.weights, kv_cache=kv, activations=activations, framework=framework,
        spare_pool=spare, peak_allocated=peak, reserved=peak + spare, total=required + spare,
        required=required, budget=required + pool - kv,
        capacity_tokens=np.maximum(0.0, capacity), max_concurrency=np.maximum(0.0, concurrency),
        sequences=ask.sequences, detail=detail,
    )  # fmt: skip


def _pooled_by_token(
    ask: _Ask, step: Any, pool: Any, activations: Any, parts: dict[str, Any]
) -> ServingMemory:
    """A pool that is handed out token by token."""
    own, token = ask.sequence(float(ask.inference.context_tokens)), ask.sequence(1e6) / 1e6
    room = np.maximum(0.0, pool)
    return _pooled(
        ask, own * ask.sequences, pool, activations, parts,
        np.floor(room / np.maximum(token, 1.0)) * ask.data,
        np.floor(room / np.maximum(own, 1.0)) * ask.data,
        {"step_tokens": step, "sequence_bytes": own, "pool_bytes": pool},
    )  # fmt: skip


def _vllm(ask: _Ask) -> ServingMemory:
    arch, inference = ask.arch, ask.inference
    release = vllm.release(ask.version)
    old = release.sorts_logits
    large = vllm.has_large_defaults(ask.memory_bytes, ask.a100, ask.version)
    step = vllm.batched_tokens(inference, large)
    if release.first_engine and not inference.max_num_batched_tokens:
        step = step if ask.model_len > vllm.UNCUT_TOKENS else np.maximum(step, ask.model_len)
    seqs = vllm.sequences_at_once(inference, large, ask.sequences)
    activations = vllm.activation_bytes(
        arch, ask.precision, step, seqs, ask.model_len, ask.tensor, ask.expert, old
    )
    charged, beside = vllm.graph_bytes(arch, old)
    libraries, communication = vllm.non_torch_bytes(
        arch, step, ask.memory_bytes, ask.tensor, ask.pipeline, old, ask.a100
    )
    parts = {
        "allocator_rounding": ask.rounding,
        "rotary_table": vllm.rope_bytes(arch),
        "libraries": libraries,
        "communication": communication,
        "cuda_graphs": charged,
    }
    at_start = {
        "cuda_context": vllm.context_bytes(ask.memory_bytes),
        "communication_at_start": vllm.started_communication_bytes(
            arch, ask.memory_bytes, ask.tensor, ask.pipeline
        ),
    }
    unseen = {
        "cuda_graphs_beside": beside,
        "runner_buffers": vllm.buffer_bytes(arch, step, seqs, old),
    }
    share = inference.gpu_memory_utilization or constant("vllm", "gpu_memory_utilization")
    # A share that leaves no room for what it does not see has to be lowered, or the start fails.
    room = visible_bytes(ask.memory_bytes) - sum(unseen.values())
    if release.charges_context:
        parts |= at_start
    else:
        room = room - sum(at_start.values())
    requested = np.minimum(visible_bytes(ask.memory_bytes) * share, room)
    layout = vllm.block_pool(arch, ask.kv_bits, ask.tensor, ask.pipeline)
    pool = requested - ask.weights - activations - sum(parts.values())
    blocks = np.floor(np.maximum(0.0, pool) / np.maximum(layout.block_bytes, 1.0))
    longest = layout.blocks(ask.model_len, step)
    own = layout.blocks(float(inference.context_tokens), step)
    parts |= at_start | unseen
    kv = ask.sequences * own * layout.block_bytes
    uniform = len(layout.groups) == 1 and layout.groups[0][1] is None
    tokens = blocks * layout.groups[0][0] if uniform else np.floor(blocks / longest * ask.model_len)
    detail = {"step_tokens": step, "step_sequences": seqs, "pool_bytes": pool,
              "sequence_bytes": own * layout.block_bytes}  # fmt: skip
    return _pooled(
        ask, kv, pool, activations, parts, tokens * ask.data,
        np.floor(blocks / np.maximum(own, 1.0)) * ask.data, detail,
    )  # fmt: skip


def _sglang(ask: _Ask) -> ServingMemory:
    """SGLang: the static share of what is free before loading holds weights and cache."""
    arch, inference = ask.arch, ask.inference
    step = sglang.prefill_tokens(inference, ask.memory_bytes)
    seqs = vllm.sequences_at_once(inference, vllm.has_large_defaults(ask.memory_bytes))
    activations = vllm.activation_bytes(
        arch, ask.precision, step, seqs, ask.model_len, ask.tensor, ask.expert
    )
    context = constant("vllm", "context_mib") * MIB
    shared = ask.peers * constant("sglang", "distributed_mib") * MIB
    free = visible_bytes(ask.memory_bytes) - context - shared
    share = sglang.static_share(inference, ask.memory_bytes, ask.tensor, ask.pipeline, ask.version)
    graphs = sum(vllm.graph_bytes(arch))
    # A share that leaves no room for a step and the graphs has to be lowered.
    pool = np.minimum(free * share, free - activations - graphs) - ask.weights - ask.rounding
    parts = {
        "allocator_rounding": ask.rounding, "cuda_context": context, "communication": shared,
        "cuda_graphs": graphs,
    }  # fmt: skip
    return _pooled_by_token(ask, step, pool, activations, parts)


def _tensorrt_llm(ask: _Ask) -> ServingMemory:
    """TensorRT-LLM: a share of what is free after weights and a profiling step is cache."""
    arch, inference = ask.arch, ask.inference
    step = inference.max_num_batched_tokens or constant("tensorrt_llm", "max_num_tokens")
    seqs = inference.max_num_seqs or constant("vllm", "max_num_seqs_small")
    activations = vllm.activation_bytes(
        arch, ask.precision, step, seqs, ask.model_len, ask.tensor, ask.expert
    )
    parts = {
        "cuda_context": constant("vllm", "context_mib") * MIB,
        "communication": ask.peers * constant("vllm", "group_communicator_mib") * MIB,
        "cuda_graphs": sum(vllm.graph_bytes(arch)),
    }
    free = visible_bytes(ask.memory_bytes) - ask.weights - activations - sum(parts.values())
    share = inference.gpu_memory_utilization or constant("tensorrt_llm", "kv_free_share")
    pool = np.where(free > 0, free * share, free)
    return _pooled_by_token(ask, step, pool, activations, parts)


def _grown(
    ask: _Ask, kv: Any, activations: Any, parts: dict[str, Any], peak: Any, reserved: Any,
    own: Any, length: float, detail: dict[str, Any],
) -> ServingMemory:  # fmt: skip
    """An engine whose cache grows with its load: ``own`` bytes for ``length`` tokens of each."""
    framework: Any = sum(parts.values())
    required = ask.weights + kv + activations + framework
    budget = visible_bytes(ask.memory_bytes)
    room = np.maximum(0.0, budget - required + kv)
    token = own / max(1.0, length)
    detail |= {"sequence_bytes": own, **{f"framework_{k}": v for k, v in parts.items()}}
    return ServingMemory(
        weights=ask.weights, kv_cache=kv, activations=activations, framework=framework,
        spare_pool=0.0, peak_allocated=peak, reserved=reserved, total=required, required=required,
        budget=budget, capacity_tokens=np.floor(room / np.maximum(token, 1e-9)) * ask.data,
        max_concurrency=np.floor(room / np.maximum(own, 1.0)) * ask.data,
        sequences=ask.sequences, detail=detail,
    )  # fmt: skip


def _llama_cpp(ask: _Ask) -> ServingMemory:
    arch, inference = ask.arch, ask.inference
    step = np.minimum(
        inference.max_num_batched_tokens or constant("llama_cpp", "micro_batch_tokens"),
        np.maximum(1, inference.context_tokens),
    )
    length = float(inference.max_model_len or inference.context_tokens)
    # The cache of a layer lies where the layer does.
    own = ask.sequence(length, window_extra=float(step)) * (1 - ask.host_share)
    kv = own * ask.sequences
    activations = llama_cpp.compute_bytes(
        arch, step, length, ask.sequences, ask.kv_bits, ask.version
    )
    parts = {"cuda_context": np.asarray(constant("llama_cpp", "context_mib") * MIB)}
    peak = ask.weights + kv + activations
    detail = {"step_tokens": step}
    return _grown(ask, kv, activations, parts, peak, peak, own, length, detail)


def _transformers(ask: _Ask) -> ServingMemory:
    """transformers: a cache grown by concatenation, eager kernels, PyTorch's allocator.

    A sliding-window layer keeps its window from 4.56 on (cache_utils.py,
    ``DynamicSlidingWindowLayer``), but as a view of the whole prompt until the first token after
    it: a prefill holds every layer's keys and values.
    """
    arch, inference, sequences = ask.arch, ask.inference, ask.sequences
    bits = 32.0 if ask.precision == "fp32" else 16.0
    prompt, length = float(max(1, inference.input_tokens)), float(inference.context_tokens)
    kv = ask.sequence(length) * sequences
    first = ask.sequence(prompt, full_context=True) * sequences
    own = ask.sequence(length, full_context=True)
    rotary = prompt * _width(arch, "qk_dim") * 2 * bits / 8
    unpacked = transformers.dequantised_bytes(arch, ask.precision)
    logits = sequences * arch.vocab_size * 4.0
    held = ask.weights + ask.rounding
    step = step_activations(arch, sequences * prompt, bits, ask.tensor, ask.expert)
    mask, attention = transformers.attention_step(arch, sequences, prompt, bits, ask.tensor)
    prefill = rotary + unpacked + np.maximum(step + mask, attention)
    # One layer's keys are copied when the cache grows by concatenation.
    grown = kv / max(1, arch.num_layers) / 2
    decode = (
        unpacked
        + np.maximum(logits, grown)
        + step_activations(arch, sequences, bits, ask.tensor, ask.expert)
    )
    peak = held + np.maximum(first + np.maximum(prefill, logits), np.maximum(first, kv) + decode)
    reserved = np.maximum(
        held + first + prefill + transformers.cache_fragments(arch, first, prompt, sequences, bits),
        held + 2 * kv if inference.output_tokens > 1 else 0.0,
    )
    context = context_bytes()
    reserved = np.maximum(peak, np.minimum(reserved, visible_bytes(ask.memory_bytes) - context))
    parts = {
        "cuda_context": context, "allocator_rounding": ask.rounding,
        "allocator_fragments": reserved - peak,
    }  # fmt: skip
    activations = peak - held - kv
    return _grown(ask, kv, activations, parts, peak, reserved, own,
                  float(inference.context_tokens), {"step_tokens": prompt})  # fmt: skip


_ENGINES: dict[str, Callable[[_Ask], ServingMemory]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt_llm": _tensorrt_llm,
    "llama_cpp": _llama_cpp,
    "transformers": _transformers,
}


# Engines that run with a part of the layers in host memory: llama.cpp computes them there, the
# others send them to the card for every step.
OFFLOADING = frozenset({"llama_cpp", "transformers", "vllm", "sglang"})


def expanded_latent_bytes(arch: Architecture, precision: str, tensor: Any) -> Any:
    """16-bit copies of MLA's up projection that engines keep when the stored one is quantised."""
    total: Any = 0.0
    for group in arch.groups:
        if group.layer.attention != "mla":
            continue
        for matrix in group.layer.matrices:
            if matrix.name == "kv_b_proj" and stored_bits(
                matrix, precision, arch, "vllm", group.layer
            ) < 16:  # fmt: skip
                total = total + group.count * matrix.parameters * 2 / tensor
    return total


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
    version: str | None = None,
    a100: Any = False,
    offload_margin: float | None = None,
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
        version: Of the engine, where an older one is meant.
        a100: Whether the card's name says A100.
        offload_margin: Layers may lie in host memory where the need, this share larger, is more
            than the card has; None: none may. Engines that cannot do so keep them all.
    """
    weights = weight_table(arch, precision, engine, with_mtp).per_gpu(tensor, pipeline, expert)
    if engine in ("vllm", "sglang"):
        weights = weights + expanded_latent_bytes(arch, precision, tensor) / np.asarray(pipeline)
    rounding = rounding_bytes(arch, precision, engine, tensor, pipeline, expert)
    ask = _Ask(
        arch, precision, KV_BITS[kv_precision], inference, memory_bytes, tensor, pipeline, expert,
        data, weights, rounding, version, a100,
    )  # fmt: skip
    held = _ENGINES[engine](ask)
    if offload_margin is None or engine not in OFFLOADING:
        return held
    # Layers lie on the card or beside it as a whole (vLLM and SGLang count gigabytes, in layers).
    # Of a mixture llama.cpp moves the experts alone: few of them work on a token.
    table = weight_table(arch, precision, engine, with_mtp)
    experts = engine == "llama_cpp" and table.expert > 0
    movable = sum(g.count for g in arch.groups if g.layer.experts or not experts)
    layers = np.ceil(movable / np.asarray(pipeline))
    part = table.expert if experts else table.layer_total
    layer = weights * part / table.total / layers
    cache = held.kv_cache / layers if engine == "llama_cpp" and not experts else 0.0
    moved: Any = 0.0
    for _ in range(2):  # room that is freed lets an allocator keep a little more
        lack = np.maximum(0.0, held.required - held.budget / (1 + offload_margin))
        moved = np.minimum(moved + np.ceil(lack / (layer + cache)), layers)
        share = 0.0 if experts else moved / layers
        held = _ENGINES[engine](replace(ask, weights=weights - moved * layer, host_share=share))
    return replace(
        held, host=moved * (layer + cache), host_layers=moved, host_share=moved / layers,
        host_experts=experts,
    )  # fmt: skip
