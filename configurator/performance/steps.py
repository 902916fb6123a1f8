"""Time of one forward pass: bytes over bandwidth, FLOP over rate, messages, launches.

Every formula is a pure function on numbers or arrays that broadcast. Coefficients (efficiencies,
latencies) come from ``catalog/efficiency.yaml``; their names are the attributes used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configurator.performance.workload import Workload

Coefficients = Mapping[str, Any]
# Chunks of a prompt that llama.cpp keeps in flight (ggml-backend: GGML_SCHED_MAX_COPIES).
PIPELINE_COPIES = 4.0


@dataclass(frozen=True)
class Plan:
    """Cards and split as the formulas need them; numbers or arrays.

    Attributes:
        tensor, pipeline, expert, data: The split.
        bandwidth: Bytes/s of one card's memory.
        quantized_rate, wide_rate, expert_rate, attention_rate: FLOP/s of one card.
        link: Bytes/s to a peer, one way, over the slowest link the tensor-parallel group uses.
        fast_link: 1 where peers are joined by NVLink or the like, 0 for PCIe.
        host: Bytes/s at which layers in host memory come to the card; no limit where the CPU
            computes them.
        chunk: Prompt tokens that one step takes at most.
        host_share: Share of the layers' weights that lies in host memory, experts left out.
        host_expert_share: Share of the experts' weights that lies there.
    """

    tensor: Any
    pipeline: Any
    expert: Any
    data: Any
    bandwidth: Any
    quantized_rate: Any
    wide_rate: Any
    expert_rate: Any
    attention_rate: Any
    link: Any
    fast_link: Any
    host: Any
    chunk: Any
    host_share: Any = 0.0
    host_expert_share: Any = 0.0


def combine(first: Any, second: Any, sharpness: Any) -> Any:
    """Two resources used at once: ``(a^q + b^q)^(1/q)``; q = 1 adds them, q → ∞ is the larger."""
    top = np.maximum(first, second)
    low = np.minimum(first, second)
    ratio = low / np.maximum(top, 1e-30)
    return top * (1.0 + ratio**sharpness) ** (1.0 / sharpness)


def touched_experts(model: Workload, tokens: Any, spread: Any) -> Any:
    """Share of the experts that a batch reads: ``1 − (1 − k/E)^(tokens^spread)``.

    With independent routing spread is 1; tokens of one text choose alike, so less is read.
    """
    if np.ndim(model.experts) == 0 and model.top_k >= model.experts:
        return 1.0
    share = np.minimum(model.top_k / model.experts, 1.0 - 1e-9)
    return 1.0 - (1.0 - share) ** (np.maximum(tokens, 1.0) ** spread)


def _expert_ranks(plan: Plan) -> Any:
    return np.maximum(plan.tensor, plan.expert)


def _expert_tokens(plan: Plan, tokens: Any) -> Any:
    """Tokens that an expert group sees: all replicas' where it spans them (attention DP)."""
    return tokens * np.where(plan.expert > plan.tensor, plan.data, 1.0)


def _expert_imbalance(plan: Plan, c: Coefficients) -> Any:
    """Load of the fullest expert rank over the mean: ``1 + c·(1 − tensor-or-1 ÷ ranks)``."""
    return 1.0 + c["expert_imbalance"] * (1.0 - 1.0 / np.maximum(plan.expert, 1.0))


def _messages(
    model: Workload, plan: Plan, c: Coefficients, tokens: Any, rounds: Any
) -> dict[str, Any]:
    """Seconds for all-reduces, all-to-alls and pipeline hops of ``tokens`` in ``rounds`` passes.

    Two all-reduces a layer (Megatron-LM, arXiv 1909.08053, section 3) of ``tokens × hidden`` 16-bit
    numbers; a ring moves ``2·(t − 1)/t`` of them over each card's link. Experts spread over
    data-parallel ranks need two all-to-alls a layer instead.
    """
    t = plan.tensor
    split = np.where(np.asarray(t) > 1, 1.0, 0.0)
    slow = np.where(np.asarray(plan.fast_link) > 0, 1.0, c["pcie_latency"])
    number = 2.0 * model.layers * split
    latency = rounds * number * c["allreduce_s"] * np.log2(np.maximum(t, 2)) * slow
    message = tokens * model.hidden * 2.0
    volume = number * message * 2.0 * (t - 1.0) / t / (plan.link * c["link_share"])
    spans = np.where(plan.expert > plan.tensor, 1.0, 0.0)
    inside = np.where((plan.expert > 1) & (plan.expert <= plan.tensor), 1.0, 0.0)
    exchange = model.moe_layers * (
        (spans + inside) * rounds * c["alltoall_s"]
        + spans * 2.0 * message * model.top_k * 1.5 / t / (plan.link * c["link_share"])
    )
    hops = (plan.pipeline - 1.0) * (rounds * c["hop_s"] + message / plan.link)
    return {"allreduce": latency + volume, "alltoall": exchange, "pipeline": hops}


def _weight_seconds(model: Workload, plan: Plan, c: Coefficients, tokens: Any) -> tuple[Any, Any]:
    """Seconds to read the dense weights and the touched experts once, on one card."""
    t = plan.tensor
    dense = (
        model.column_bytes / t
        + model.replicated_bytes
        + model.kv_bytes / np.minimum(t, model.kv_heads)
        + model.head_bytes / t
    )
    touched = touched_experts(model, _expert_tokens(plan, tokens), c["routing_spread"])
    experts = model.expert_bytes / _expert_ranks(plan) * touched * _expert_imbalance(plan, c)
    # A kernel takes in only so many bytes a second, however fast the memory is.
    memory = plan.bandwidth * c["weight_bandwidth"]
    speed = 1.0 / combine(1.0 / memory, 1.0 / c["kernel_bytes_per_s"], 4.0)
    return dense / speed, experts / (speed * c["expert_bandwidth"])


def _linear_seconds(
    model: Workload, plan: Plan, c: Coefficients, tokens: Any, logits: Any
) -> tuple[Any, Any]:
    """Seconds of matrix products at 2 FLOP a parameter and token: dense and experts, one card."""
    t = plan.tensor

    def seconds_a_flop(rate: Any) -> Any:
        return 1.0 / (rate * c["gemm_rate"]) + 1.0 / c["kernel_flop_per_s"]

    quantized = (model.quantized_params / t) * seconds_a_flop(plan.quantized_rate)
    wide = model.wide_params / t + model.replicated_params
    head = logits * model.head_params / t
    dense = 2.0 * (tokens * quantized + (tokens * wide + head) * seconds_a_flop(plan.wide_rate))
    ranks = _expert_ranks(plan)
    seen = _expert_tokens(plan, tokens)
    experts = 2.0 * seen * model.expert_params / ranks * seconds_a_flop(plan.expert_rate)
    return dense, experts * _expert_imbalance(plan, c) / c["expert_rate"]


def _exposed(launches: Any, work: Any, sharpness: Any) -> Any:
    """Seconds that launches add to the card's own work.

    Recorded graphs replay launch after launch (sharpness 1: all of it adds); eager code launches
    ahead of the card, so only what exceeds the card's work shows (sharpness → ∞).
    """
    return combine(launches, work, sharpness) - work


def _host_seconds(model: Workload, plan: Plan, c: Coefficients, tokens: Any, rounds: Any) -> Any:
    """Seconds to read what ``tokens`` visit of the weights in host memory, once a round."""
    dense = model.column_bytes + model.replicated_bytes + model.kv_bytes
    touched = touched_experts(model, _expert_tokens(plan, tokens), c["routing_spread"])
    experts = model.expert_bytes * touched
    there = plan.host_share * dense + plan.host_expert_share * experts
    return there * rounds / np.minimum(c["host_bandwidth"], plan.host)


def decode_step(
    model: Workload, plan: Plan, c: Coefficients, batch: Any, context: Any, tokens_each: Any = 1.0
) -> dict[str, Any]:
    """Seconds of one decode step of ``batch`` sequences holding ``context`` tokens each, by term.

    With pipeline stages, ``batch/stages`` sequences pass the whole model while the other
    micro-batches fill the other stages, so a token still costs the whole model's time.

    Args:
        model: Sums of the model.
        plan: Cards and split.
        c: Coefficients.
        batch: Sequences of one replica.
        context: Tokens that a sequence holds.
        tokens_each: Tokens a sequence and step (draft tokens + 1 with speculative decoding).
    """
    here = np.maximum(batch / plan.pipeline, 1.0)
    tokens = here * tokens_each
    dense_read, expert_read = _weight_seconds(model, plan, c, tokens)
    dense_math, expert_math = _linear_seconds(model, plan, c, tokens, tokens)
    here_dense, here_experts = 1.0 - plan.host_share, 1.0 - plan.host_expert_share
    sharp = c["overlap"]
    bytes_read: Any = 0.0
    flop: Any = 0.0
    state: Any = 0.0
    t = plan.tensor
    for read in model.reads:
        seen = np.minimum(context, read.window) / read.ratio
        bytes_read = bytes_read + read.bytes_per_token / np.minimum(t, read.heads) * seen
        bytes_read = bytes_read + read.index_bytes * context / read.ratio
        flop = flop + read.decode_flop / t * seen
        state = state + read.state_bytes / np.minimum(t, read.state_heads)
    passes = 1.0 + c["repeat_passes"] * model.query_group
    cache = here * bytes_read * passes / (plan.bandwidth * c["cache_bandwidth"])
    attention = tokens * flop / (plan.attention_rate * c["attention_rate"])
    launches = (
        model.layers * c["layer_s"]
        + model.moe_layers * c["moe_layer_s"]
        + model.mla_layers * c["mla_layer_s"]
        + model.linear_layers * c["linear_layer_s"]
        + (model.linears + model.moe_layers * 3.0 * model.experts) * c["linear_s"]
        + model.moe_layers * model.experts * c["expert_loop_s"]
    )
    weights = combine(dense_read * here_dense, dense_math, sharp)
    experts = combine(expert_read * here_experts, expert_math, sharp)
    cache = combine(cache, attention, sharp)
    cache = cache + here * state / (plan.bandwidth * c["state_bandwidth"])
    return {
        "weights": weights,
        "experts": experts,
        "host_weights": _host_seconds(model, plan, c, tokens, 1.0),
        "cache": cache,
        "launches": _exposed(launches, weights + experts + cache, c["launch_overlap"]),
        **_messages(model, plan, c, tokens, 1.0),
        "step": c["step_s"] + batch * c["sequence_s"],
        "compute": dense_math + expert_math + attention,
    }


def prefill(
    model: Workload, plan: Plan, c: Coefficients, sequences: Any, tokens: Any, cached: Any = 0.0
) -> dict[str, Any]:
    """Seconds to process the prompts of ``sequences`` requests together, by term.

    Attention is causal: a prompt of n tokens after c cached ones pairs ``n·(c + n/2)`` tokens.

    Args:
        model: Sums of the model.
        plan: Cards and split; ``plan.chunk`` tokens go through at once.
        c: Coefficients.
        sequences: Prompts processed together (may be fractional).
        tokens: New tokens of each.
        cached: Tokens of each that the cache already holds.
    """
    tokens = np.maximum(tokens, 1.0)
    every = sequences * tokens
    rounds = np.maximum(1.0, every / plan.chunk)
    dense_read, expert_read = _weight_seconds(model, plan, c, every / rounds)
    dense_math, expert_math = _linear_seconds(model, plan, c, every, sequences)
    here_dense, here_experts = 1.0 - plan.host_share, 1.0 - plan.host_expert_share
    flop: Any = 0.0
    for read in model.reads:
        span = np.minimum(cached + tokens / 2.0, read.window) / read.ratio
        flop = flop + read.prefill_flop / plan.tensor * span
    flop = flop * every
    attention = flop / (plan.attention_rate * c["prefill_attention_rate"])
    width = model.hidden * (4.0 + model.ffn_per_hidden / plan.tensor) * 2.0
    elementwise = every * model.layers * width * c["activation_passes"] / plan.bandwidth
    launches = rounds * (
        model.layers * c["prefill_layer_s"]
        + model.moe_layers * model.experts * c["expert_loop_s"]
        + (model.linears + model.moe_layers * 3.0 * model.experts) * c["linear_s"]
    )
    sharp = c["overlap"]
    weights = combine(rounds * dense_read * here_dense, dense_math, sharp)
    experts = combine(rounds * expert_read * here_experts, expert_math, sharp)
    work = weights + experts + attention + elementwise
    terms = {
        "weights": weights,
        "experts": experts,
        "host_weights": _host_seconds(model, plan, c, every / rounds, rounds),
        "attention": attention,
        "elementwise": elementwise,
        "launches": _exposed(launches, work, c["launch_overlap"]),
        **_messages(model, plan, c, every, rounds),
    }
    stages = np.minimum(plan.pipeline, PIPELINE_COPIES)
    speedup = (rounds * stages / (rounds + stages - 1.0)) ** c["pipeline_share"]
    return {name: value / speedup for name, value in terms.items()} | {
        "compute": (dense_math + expert_math + attention) / speedup
    }


def total(terms: Mapping[str, Any]) -> Any:
    """Sum of a step's terms (``compute`` is a part of others, kept for explanations)."""
    out: Any = 0.0
    for name, value in terms.items():
        if name != "compute":
            out = out + value
    return out
