"""What one forward pass touches: bytes, parameters and cache of a model, summed once.

A :class:`Workload` holds plain numbers for one model; the calibration stacks many of them into
arrays and calls the same formulas (:mod:`configurator.performance.steps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from configurator.architecture import Architecture, Layer
from configurator.memory.kv_cache import KV_BITS
from configurator.memory.weights import stored_bits

# Tokens that sparse attention reads (DeepSeek-V3.2-Exp, config ``index_topk``).
SPARSE_TOKENS = 2048.0
UNLIMITED = 1e15


@dataclass(frozen=True)
class CacheRead:
    """What attention reads for one sequence and one new token, all equal layers together.

    Attributes:
        bytes_per_token: A cached token, all heads.
        heads: Ranks that can share it.
        window: Tokens read at most.
        ratio: Tokens that share one entry.
        index_bytes: A cached token whatever the window (sparse attention's index).
        state_bytes, state_heads: Read and written whatever the context (linear attention).
        decode_flop, prefill_flop: A new token and a cached token.
    """

    bytes_per_token: Any
    heads: Any
    window: Any
    ratio: Any
    index_bytes: Any
    state_bytes: Any
    state_heads: Any
    decode_flop: Any
    prefill_flop: Any


EMPTY_READ = CacheRead(0.0, 1.0, UNLIMITED, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Workload:
    """Sums over a model's layers. ``quantized`` parameters run at the quantised rate."""

    layers: Any
    hidden: Any
    column_bytes: Any
    replicated_bytes: Any
    kv_bytes: Any
    kv_heads: Any
    expert_bytes: Any
    head_bytes: Any
    quantized_params: Any
    wide_params: Any
    replicated_params: Any
    expert_params: Any
    head_params: Any
    experts: Any
    top_k: Any
    moe_layers: Any
    mla_layers: Any
    linear_layers: Any
    linears: Any
    query_group: Any
    ffn_per_hidden: Any
    total_params: Any
    reads: tuple[CacheRead, ...]


def _reads(layer: Layer, count: int, kv_bits: float) -> list[CacheRead]:
    """Cache reads of ``count`` equal layers (MLA absorbed in decode: arXiv 2405.04434, 2.1.2)."""
    out: list[CacheRead] = []
    pairs = 2.0 * layer.heads * (layer.qk_dim + layer.v_dim)
    for cache in layer.cache:
        state = 2.0 * (cache.state_elements * 2 + cache.state_fp32_elements * 4)
        window = float(cache.window or UNLIMITED)
        decode = prefill = pairs if cache.elements_per_token else 0.0
        if layer.attention == "mla":
            decode = 2.0 * layer.heads * (2.0 * cache.elements_per_token - 64.0)
            if cache.fixed_bytes_per_token:
                window = SPARSE_TOKENS
        elif layer.attention == "linear":
            decode = prefill = 0.0
        out.append(
            CacheRead(
                count * cache.elements_per_token * kv_bits / 8,
                float(cache.heads),
                window,
                float(cache.ratio),
                count * cache.fixed_bytes_per_token,
                count * state,
                float(cache.state_heads),
                count * decode,
                count * prefill,
            )
        )
    return out


def _merge(reads: Sequence[CacheRead]) -> tuple[CacheRead, ...]:
    """Add up reads that are split and bounded alike."""
    merged: dict[tuple[Any, ...], CacheRead] = {}
    for read in reads:
        key = (read.heads, read.window, read.ratio, read.state_heads)
        old = merged.get(key)
        if old is not None:
            read = CacheRead(
                old.bytes_per_token + read.bytes_per_token, read.heads, read.window, read.ratio,
                old.index_bytes + read.index_bytes, old.state_bytes + read.state_bytes,
                read.state_heads, old.decode_flop + read.decode_flop,
                old.prefill_flop + read.prefill_flop,
            )  # fmt: skip
        merged[key] = read
    return tuple(merged.values())


def _build(arch: Architecture, precision: str, kv_precision: str, engine: str) -> Workload:
    kv_bits = KV_BITS[kv_precision]
    size = dict.fromkeys(("column", "replicated", "kv", "expert"), 0.0)
    quantized = wide = replicated = active_experts = 0.0
    linears = 0.0
    count_of = dict.fromkeys(("moe", "mla", "linear"), 0.0)
    reads: list[CacheRead] = []
    group_weight = ffn_weight = 0.0
    for group in arch.groups:
        layer, count = group.layer, group.count
        for matrix in layer.matrices:
            bits = stored_bits(matrix, precision, arch, engine, layer)
            amount = matrix.parameters * count
            place = {"row": "column", "vocab": "column"}.get(matrix.shard, matrix.shard)
            size[place] += amount * bits / 8
            if not matrix.linear and matrix.role != "router":
                continue
            if matrix.shard == "expert":
                active_experts += amount * layer.experts_per_token / max(1, layer.experts)
                continue
            linears += count * matrix.count
            if matrix.shard == "replicated":
                replicated += amount
            elif bits < 15.5:
                quantized += amount
            else:
                wide += amount
        count_of["moe"] += count * bool(layer.experts)
        count_of["mla"] += count * (layer.attention == "mla")
        count_of["linear"] += count * (layer.attention == "linear")
        reads += _reads(layer, count, kv_bits)
        group_weight += count * layer.heads / max(1, layer.kv_heads)
        width = layer.ffn * (layer.experts_per_token if layer.experts else 1)
        ffn_weight += count * width / arch.hidden_size
    head_bytes = head_params = 0.0
    for matrix in arch.ends:
        stored = matrix.parameters * stored_bits(matrix, precision, arch, engine) / 8
        is_embedding = matrix.name == "embed_tokens"
        if matrix.role == "head" or (is_embedding and arch.tied_embeddings):
            head_bytes += stored
            head_params += matrix.parameters
    moe = next((g.layer for g in arch.groups if g.layer.experts), None)
    layers = float(arch.num_layers)
    return Workload(
        layers, float(arch.hidden_size), size["column"], size["replicated"], size["kv"],
        float(arch.max_kv_heads), size["expert"], head_bytes, quantized, wide,
        replicated, active_experts, head_params, float(moe.experts if moe else 1),
        float(moe.experts_per_token if moe else 1), count_of["moe"], count_of["mla"],
        count_of["linear"], linears, group_weight / max(1.0, layers),
        ffn_weight / max(1.0, layers), float(arch.parameters), _merge(reads),
    )  # fmt: skip


_CACHE: dict[tuple[int, str, str, str], tuple[Architecture, Workload]] = {}
_CACHE_LIMIT = 1024


def workload(arch: Architecture, precision: str, kv_precision: str, engine: str) -> Workload:
    """Return the sums of a model; kept by identity, so one model is summed once.

    Args:
        arch: The model.
        precision: Resolved precision of the weights.
        kv_precision: Resolved precision of the cache.
        engine: ``llama_cpp`` stores GGUF types.
    """
    key = (id(arch), precision, kv_precision, engine)
    known = _CACHE.get(key)
    if known is not None and known[0] is arch:
        return known[1]
    if len(_CACHE) >= _CACHE_LIMIT:
        _CACHE.clear()
    made = _build(arch, precision, kv_precision, engine)
    _CACHE[key] = (arch, made)
    return made


def stack_workloads(many: Sequence[Workload]) -> Workload:
    """Return many workloads as one whose fields are arrays (the calibration's rows)."""
    depth = max(len(w.reads) for w in many)
    padded = [(*w.reads, *(EMPTY_READ,) * (depth - len(w.reads))) for w in many]
    reads = tuple(
        CacheRead(*(np.array([getattr(p[i], f.name) for p in padded]) for f in fields(CacheRead)))
        for i in range(depth)
    )
    columns: dict[str, Any] = {
        f.name: np.array([getattr(w, f.name) for w in many])
        for f in fields(Workload)
        if f.name != "reads"
    }
    return Workload(**columns, reads=reads)
