"""vLLM's own memory rules: profiling run, graph reserve, block pool.

Source: vLLM 0.24 (v1/worker/gpu_worker.py, v1/worker/gpu_model_runner.py,
v1/core/kv_cache_utils.py, model_executor/layers/fused_moe), restated; the constants were measured
on an H100 (docs/methodology.md).
Every function broadcasts over its numeric arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from configurator.architecture import Architecture, Cache, Layer
from configurator.engines import constant
from configurator.scenario import Inference
from configurator.units import GIB, MIB

# Families that run on the second model runner, which does not charge CUDA graphs to the budget.
V2_FAMILIES = frozenset({"llama", "mistral", "qwen3", "deepseek_v2", "qwen2_moe", "granitemoe"})
# From here on a card counts as large.
LARGE_CARD = 70 * GIB
# FlashInfer's largest fused message by tensor-parallel ranks, bytes (vLLM 0.24, pass config).
FUSED_MESSAGE = {2: 64 * MIB, 4: 2 * MIB, 8: MIB / 2}
# Latent attention expands at most this much cached context at a time.
MLA_WORKSPACE_TOKENS = 65_536
MLA_WORKSPACE_BLOCKS = 4


@dataclass(frozen=True)
class Release:
    """What an older release does otherwise than the one described here.

    Attributes:
        sorts_logits: It sorts whole rows of logits to sample, and its CUDA graphs are not charged
            to the budget (before pull request 33538).
        charges_context: Its budget pays for what other libraries held before the model was
            loaded, the CUDA context included (before pull request 19312).
        first_engine: Its scheduler (V0, the default before 0.8) has the same defaults on every
            card, and prompts of up to 32,768 tokens are not cut (engine/arg_utils.py of 0.7).
    """

    sorts_logits: bool = False
    charges_context: bool = False
    first_engine: bool = False


SORTING_ENDS, CHARGING_ENDS, FIRST_ENGINE_ENDS = (0, 16), (0, 10), (0, 8)
UNCUT_TOKENS = 32_768


def release(version: str | None) -> Release:
    """Read a version as text ("0.11.0", "vLLM 0.9.x"); without a number the newest is meant."""
    found = re.search(r"(\d+)\.(\d+)", version or "")
    if found is None:
        return Release()
    number = int(found[1]), int(found[2])
    return Release(number < SORTING_ENDS, number < CHARGING_ENDS, number < FIRST_ENGINE_ENDS)


def _second_runner(arch: Architecture, old: bool) -> bool:
    return arch.model_type in V2_FAMILIES and not old


def has_large_defaults(memory_bytes: Any, a100: Any = False, version: str | None = None) -> Any:
    """Whether the API server's defaults on a card are the larger ones.

    From 70 GiB on, but not where the card's name says A100 (vLLM source, engine/arg_utils.py);
    before 0.8 on none.
    """
    if release(version).first_engine:
        return np.zeros(np.shape(memory_bytes), dtype=bool)
    return (np.asarray(memory_bytes) >= LARGE_CARD) & np.logical_not(a100)


def batched_tokens(inference: Inference, large: Any) -> Any:
    """Tokens of the profiling step: ``max_num_batched_tokens`` or the API server's default."""
    if inference.max_num_batched_tokens:
        return inference.max_num_batched_tokens
    small = constant("vllm", "max_num_batched_tokens_small")
    return np.where(large, constant("vllm", "max_num_batched_tokens"), small)


def default_sequences(large: Any) -> Any:
    """The API server's ``max_num_seqs`` where none is given."""
    return np.where(large, constant("vllm", "max_num_seqs"), constant("vllm", "max_num_seqs_small"))


def sequences_at_once(inference: Inference, large: Any, asked: Any = 0) -> Any:
    """``max_num_seqs``, or the default, or more where more are asked for.

    The launch command then states it; vLLM allows no more than ``max_num_batched_tokens``.

    Args:
        inference: The load.
        large: ``has_large_defaults`` of the card.
        asked: Sequences that a replica is to hold.
    """
    if inference.max_num_seqs:
        return inference.max_num_seqs
    most = batched_tokens(inference, large)
    return np.maximum(default_sequences(large), np.minimum(asked, most))


def context_bytes(memory_bytes: Any) -> Any:
    """CUDA context of one worker: a small card has fewer multiprocessors to keep room for."""
    small = constant("vllm", "context_mib_small")
    large = constant("vllm", "context_mib")
    return np.where(np.asarray(memory_bytes) < LARGE_CARD, small, large) * MIB


def _widths(layer: Layer, role: str) -> int:
    """Output width of the up projections of a role in a layer, 0 where it has none."""
    return max(
        (
            m.out_features
            for m in layer.matrices
            if m.role == role and m.linear and m.name.rsplit(".", 1)[-1] == "up_proj"
        ),
        default=0,
    )


def _workspace_bytes(
    arch: Architecture, layer: Layer, tokens: Any, tensor: Any, expert: Any
) -> Any:
    """The Triton expert kernels' two workspaces of every routed token, kept for good."""
    split = np.maximum(1, np.asarray(tensor) / np.maximum(1, expert))
    ffn = layer.ffn / split
    gate = 2 * ffn if layer.gated else ffn
    widths = np.maximum(ffn, arch.hidden_size) + np.maximum(gate, arch.hidden_size)
    return 2 * tokens * layer.experts_per_token * widths


def _step_bytes(arch: Architecture, layer: Layer, tokens: Any, tensor: Any, mxfp4: bool) -> Any:
    """Live 16-bit tensors of one layer at its widest point, bytes for the whole step.

    Without the workspace of its experts.
    """
    hidden = arch.hidden_size * arch.residual_streams
    query = layer.heads * max(layer.qk_dim, layer.v_dim) / tensor
    keys = layer.kv_heads * layer.qk_dim / np.minimum(tensor, max(1, layer.kv_heads))
    attention = 3 * hidden + 3 * query + (0 if layer.attention == "mla" else 3 * keys)
    if layer.attention == "none":
        attention = hidden
    if not layer.experts:
        return 2 * tokens * np.maximum(attention, 3 * layer.ffn / tensor + 3 * hidden)
    if mxfp4:
        routed = layer.experts_per_token * (layer.ffn + arch.hidden_size)
        return 2 * tokens * (4 * hidden + routed + query)
    shared = _widths(layer, "shared_expert")
    beside = 3 * shared / tensor + 5 * hidden if shared else 0.0
    return 2 * tokens * np.maximum(attention, beside)


def activation_bytes(
    arch: Architecture,
    precision: str,
    tokens: Any,
    sequences: Any,
    context: Any,
    tensor: Any,
    expert: Any,
    old: bool = False,
) -> Any:
    """Peak of the profiling run beyond the weights.

    The larger of the forward step over ``max_num_batched_tokens`` and the sampler over
    ``max_num_seqs`` rows of logits, plus the library's workspace. Latent attention also profiles
    a throw-away expansion of its cached context.

    Args:
        arch: The model.
        precision: Resolved precision of the weights.
        tokens: ``max_num_batched_tokens``.
        sequences: ``max_num_seqs``.
        context: ``max_model_len``.
        tensor: Tensor-parallel ranks.
        expert: Expert-parallel ranks.
        old: ``Release.sorts_logits``.
    """
    forward: Any = 0.0
    kept: Any = 0.0
    mxfp4 = precision == "mxfp4"
    for group in arch.groups:
        layer = group.layer
        step = _step_bytes(arch, layer, tokens, tensor, mxfp4)
        if layer.experts and not mxfp4:
            kept = np.maximum(kept, _workspace_bytes(arch, layer, tokens, tensor, expert))
        if layer.attention == "mla":
            block = constant("vllm", "block_tokens")
            chunk = np.minimum(
                np.maximum(8 * context, MLA_WORKSPACE_BLOCKS * sequences * block),
                MLA_WORKSPACE_TOKENS,
            )
            wide = 2 * chunk * layer.heads / tensor * (layer.qk_dim + layer.v_dim)
            step = np.maximum(step, wide + 2 * tokens * 3 * arch.hidden_size)
        forward = np.maximum(forward, step)
    second = _second_runner(arch, old)
    kind = "sort" if old else "v2" if second else "v1"
    rows = np.minimum(sequences, tokens)
    sampler = 2 * tokens * arch.hidden_size + rows * arch.vocab_size * constant(
        "vllm", f"logit_bytes_{kind}"
    )
    if old:
        return np.maximum(forward + kept, sampler)
    if not second:  # a row of the vocabulary for each multiprocessor, to cut off the improbable
        sampler = sampler + constant("vllm", "sampler_rows") * arch.vocab_size * 4
    return kept + np.maximum(
        forward + constant("vllm", "workspace_mib") * MIB,
        sampler + constant("vllm", "sampler_workspace_mib") * MIB,
    )


def graph_bytes(arch: Architecture, old: bool = False) -> tuple[float, float]:
    """CUDA graphs: bytes charged to the budget, and bytes beside it."""
    if _second_runner(arch, old):
        return 0.0, constant("vllm", "graph_mib_per_layer_v2") * MIB * arch.num_layers
    size = constant("vllm", "graph_mib") + constant("vllm", "graph_mib_per_layer") * arch.num_layers
    return (0.0, size * MIB) if old else (size * MIB, 0.0)


def fused_reduce_bytes(arch: Architecture, tokens: Any, large: Any, tensor: Any) -> Any:
    """Workspace of the all-reduce that is fused with the norm, on by default on Hopper and B200.

    ``8·tp·min(tokens, S/2h)·h`` with the largest message S of FlashInfer's table; smaller cards
    and the A100 do without it.
    """
    hidden = arch.hidden_size
    if np.ndim(tensor) == 0:
        message: Any = FUSED_MESSAGE.get(int(tensor), 0.0)
    else:
        ranks = [tensor == tp for tp in FUSED_MESSAGE]
        message = np.select(ranks, list(FUSED_MESSAGE.values()), 0.0)
    rows = np.minimum(tokens, message / (2 * hidden))
    size = 8 * np.asarray(tensor) * rows * hidden + np.where(message > 0, 6 * MIB, 0.0)
    return np.where(large, size, 0.0)


def non_torch_bytes(
    arch: Architecture,
    tokens: Any,
    memory_bytes: Any,
    tensor: Any,
    pipeline: Any,
    old: bool,
    a100: Any = False,
) -> tuple[Any, Any]:
    """What grows outside torch while profiling (charged), and communication buffers (charged)."""
    tensor, pipeline = np.asarray(tensor), np.asarray(pipeline)
    alone = tensor * pipeline == 1
    if old:
        single = constant("vllm", "non_torch_mib_sort")
        return single * MIB + 0.0 * tensor, np.where(
            alone, 0.0, constant("vllm", "non_torch_peer_mib_sort") * MIB
        )
    modules = np.where(
        alone, constant("vllm", "non_torch_mib"), constant("vllm", "non_torch_peers_mib")
    )
    if not _second_runner(arch, old):
        modules = modules + constant("vllm", "non_torch_mib_v1")
    large = np.asarray(memory_bytes) >= LARGE_CARD
    group = np.where(large, constant("vllm", "group_communicator_mib") * MIB, 0.0)
    reduce = fused_reduce_bytes(arch, tokens, has_large_defaults(memory_bytes, a100), tensor)
    return modules * MIB, np.where(tensor > 1, group + reduce, 0.0)


def started_communication_bytes(
    arch: Architecture, memory_bytes: Any, tensor: Any, pipeline: Any
) -> Any:
    """Communication buffers of several GPUs from before the budget is taken: beside it."""
    several = np.asarray(tensor) * np.asarray(pipeline) > 1
    mib: Any = constant("vllm", "communication_mib")
    if any(g.layer.experts for g in arch.groups):
        mib += constant("vllm", "expert_communication_mib")
    large = np.asarray(memory_bytes) >= LARGE_CARD
    mib = np.where(large, mib, constant("vllm", "communication_small_mib"))
    return np.where(several, mib * MIB, 0.0)


def rope_bytes(arch: Architecture) -> float:
    """The rotary tables: positions × rotary width, 16 bit, whole on every rank."""
    width = max((g.layer.qk_dim for g in arch.groups if g.layer.attention != "linear"), default=0)
    if any(g.layer.attention == "mla" for g in arch.groups):
        width = min(width, 64)
    return (arch.rotary_positions or arch.context_length or 4096) * width * 2.0


def buffer_bytes(arch: Architecture, tokens: Any, sequences: Any, old: bool = False) -> Any:
    """Persistent runner buffers that the budget does not see."""
    if _second_runner(arch, old):  # penalty counters and grammar masks
        return sequences * arch.vocab_size * (4 + 1 / 8)
    return tokens * arch.hidden_size * 2.0  # input embeddings


@dataclass(frozen=True)
class Pool:
    """The block pool: what a block costs and how many a request takes.

    Attributes:
        block_bytes: Bytes of one block over all layers of the fullest GPU.
        groups: ``(tokens a block, window, layers are states)`` of every group of layers.
    """

    block_bytes: Any
    groups: tuple[tuple[Any, int | None, bool], ...]

    def blocks(self, context: Any, batched: Any) -> Any:
        """Blocks that one request of ``context`` tokens takes."""
        total: Any = 0.0
        for size, window, is_state in self.groups:
            if is_state:
                total = total + 1.0
                continue
            held = context
            extra = 0.0
            if window is not None:
                held, extra = np.minimum(window - 1 + batched, context), 1.0
            total = total + np.ceil(np.asarray(held) / size) + extra
        return total


def _specs(arch: Architecture) -> list[tuple[Cache, int]]:
    return [(c, g.count) for g in arch.groups for c in g.layer.cache]


def block_pool(arch: Architecture, bits: float, tensor: Any, pipeline: Any) -> Pool:
    """Lay the layers' caches out in blocks as the engine does.

    Layers of one kind share one block table. Where kinds differ (sliding windows, linear-attention
    states) pages are made equal by growing the block of the smaller ones, and kinds are cut into
    groups of as many layers as the rarest kind has (or the commonest, if less than half as many
    again).

    Args:
        arch: The model.
        bits: Bits a cached number.
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
    """
    block = constant("vllm", "block_tokens")
    stage = np.ceil(arch.num_layers / np.asarray(pipeline)) / arch.num_layers

    def token(cache: Cache) -> Any:
        split = np.minimum(tensor, cache.heads)
        one = cache.elements_per_token * bits / 8 / split + cache.fixed_bytes_per_token
        return one / cache.ratio

    kinds: dict[tuple[Any, ...], list[tuple[Cache, int]]] = {}
    for cache, count in _specs(arch):
        state = cache.state_elements or cache.state_fp32_elements
        key: tuple[Any, ...] = ("state",) if state else ("window", cache.window)
        kinds.setdefault(key, []).append((cache, count))
    if len(kinds) <= 1 or any(c.ratio > 1 for c, _ in _specs(arch)):
        total: Any = 0.0
        for cache, count in _specs(arch):
            if cache.window is None or len(kinds) <= 1:
                total = total + count * block * token(cache)
        window = None
        if len(kinds) == 1:
            window = next(iter(kinds))[1] if next(iter(kinds))[0] == "window" else None
        return Pool(total * stage, ((block, window, False),))

    counts = {k: sum(n for _, n in v) for k, v in kinds.items()}
    few, many = min(counts.values()), max(counts.values())
    size = many if many < 1.5 * few else few
    pages: dict[tuple[Any, ...], Any] = {}
    page: Any = 0.0
    for key, items in kinds.items():
        cache = items[0][0]
        if key[0] == "state":
            split = np.minimum(tensor, cache.state_heads)
            pages[key] = (cache.state_elements * 2 + cache.state_fp32_elements * 4) / split
        else:
            pages[key] = reduce(np.maximum, (block * token(c) for c, _ in items))
        page = np.maximum(page, pages[key])
    attention = [v for k, v in pages.items() if k[0] != "state"]
    if attention:  # pages are whole numbers of the smallest attention block
        unit = attention[0]
        page = np.ceil(page / unit) * unit
    groups: list[tuple[Any, int | None, bool]] = []
    for key in kinds:
        number = -(-counts[key] // size)
        is_state = key[0] == "state"
        tokens_a_block = block if is_state else np.floor(page / pages[key]) * block
        groups += [(tokens_a_block, None if is_state else key[1], is_state)] * number
    return Pool(page * size * stage, tuple(groups))
