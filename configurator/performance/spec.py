"""What is fitted: every coefficient with its unit, what it multiplies, and what it may depend on.

``value`` is where a fit starts and, for ``fixed`` ones, a documented constant. ``levels`` says on
what a factor may hang and how far (one standard deviation of its logarithm) it may lie from 1.
"""

# ruff: noqa: E501 - a table reads better with one coefficient a line
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Coefficient:
    """One coefficient of the speed model."""

    name: str
    value: float
    unit: str
    multiplies: str
    levels: Mapping[str, float] = field(default_factory=dict)
    width: float = 0.7
    fixed: bool = False


def _fixed(name: str, value: float, unit: str, text: str) -> Coefficient:
    return Coefficient(name, value, unit, text, fixed=True)


_LOOSE, _WIDE, _MILD, _TIGHT = 0.4, 0.28, 0.18, 0.08

_BANDWIDTH = "share of the card's memory bandwidth"
_RATE = "share of the card's dense FLOP/s at the precision"

_SERVING = (
    Coefficient("weight_bandwidth", 0.75, _BANDWIDTH, "bytes of dense weights read a step",
                {"engine": _TIGHT, "architecture": _TIGHT, "precision": _MILD,
                 "engine/precision": _MILD, "architecture/precision": _TIGHT, "card": 0.08}, 0.3),
    Coefficient("expert_bandwidth", 0.8, "share of weight_bandwidth", "bytes of touched experts",
                {"engine": _MILD, "precision": _MILD, "architecture/precision": _MILD}, 0.4),
    Coefficient("cache_bandwidth", 0.6, _BANDWIDTH, "bytes of cache read a step",
                {"engine": _MILD, "architecture": _MILD, "engine/architecture": _MILD,
                 "card": _TIGHT}),
    Coefficient("repeat_passes", 0.03, "times", "query heads a key-value head: re-read cache",
                {"engine": _LOOSE, "engine/architecture": 0.8}),
    Coefficient("state_bandwidth", 0.5, _BANDWIDTH, "bytes of linear-attention state", {}),
    Coefficient("gemm_rate", 0.65, _RATE, "FLOP of matrix products",
                {"engine": _MILD, "architecture": _MILD, "precision": _MILD,
                 "engine/precision": _MILD, "architecture/precision": _MILD, "card": _MILD}, 0.3),
    Coefficient("expert_rate", 0.6, "share of gemm_rate", "FLOP of experts",
                {"engine": _MILD, "precision": _MILD}, 0.5),
    Coefficient("attention_rate", 0.3, "share of the 16-bit FLOP/s", "FLOP of decode attention",
                {"engine": _MILD, "architecture": _MILD}),
    Coefficient("prefill_attention_rate", 0.5, "share of the 16-bit FLOP/s",
                "FLOP of prefill attention", {"engine": _MILD, "architecture": _MILD}),
    Coefficient("activation_passes", 2.0, "times", "bytes of activations a layer and prompt token",
                {"engine": _MILD, "architecture": _MILD}),
    Coefficient("layer_s", 15e-6, "s", "layers a decode step",
                {"engine": _WIDE, "architecture": _MILD, "engine/architecture": _MILD,
                 "precision": _TIGHT}),
    Coefficient("moe_layer_s", 20e-6, "s", "layers with experts a decode step",
                {"engine": _WIDE, "architecture": _MILD, "precision": _MILD, "engine/precision": 0.8}),
    Coefficient("mla_layer_s", 10e-6, "s", "layers with latent attention a decode step",
                {"engine": _WIDE}),
    Coefficient("linear_layer_s", 10e-6, "s", "layers with linear attention a decode step",
                {"engine": _WIDE}),
    Coefficient("prefill_layer_s", 60e-6, "s", "layers a prefill pass",
                {"engine": _WIDE, "architecture": _MILD}),
    Coefficient("allreduce_s", 5e-6, "s", "all-reduces × log2(tensor-parallel ranks)",
                {"engine": _WIDE, "architecture": _MILD, "engine/architecture": _MILD}),
    Coefficient("link_share", 0.5, "share of the link's bandwidth", "bytes sent",
                {"engine": _MILD, "architecture": _MILD}),
    Coefficient("alltoall_s", 20e-6, "s", "layers with experts spread over ranks",
                {"engine": _WIDE}),
    Coefficient("expert_imbalance", 0.3, "share", "(1 − 1/ranks): load of the fullest expert rank",
                {"engine": _WIDE}),
    Coefficient("routing_spread", 0.9, "exponent", "tokens that choose experts independently",
                {"engine": _TIGHT}, 0.2),
    Coefficient("step_s", 1e-3, "s", "steps: scheduling, sampling",
                {"engine": _WIDE, "engine/architecture": _MILD}),
    Coefficient("sequence_s", 10e-6, "s", "sequences a step: sampling, detokenising",
                {"engine": _WIDE, "engine/architecture": _MILD}),
    Coefficient("request_s", 15e-3, "s", "requests: tokenising, queueing, first answer",
                {"engine": _LOOSE, "engine/architecture": _LOOSE}),
    Coefficient("batch_s", 2e-3, "s", "prompt batches alone", {"engine": _MILD}),
    Coefficient("step_wait", 1.0, "steps", "decode steps that a new prompt waits for",
                {"engine": _LOOSE, "engine/architecture": 0.25}),
    Coefficient("interference", 0.8, "share", "other prompts' prefill that delays a decode step",
                {"engine": _MILD, "engine/architecture": _MILD}),
    Coefficient("bunching", 1.0, "times", "other prompts' prefill before one's own",
                {"engine": _LOOSE, "engine/architecture": _LOOSE}),
    Coefficient("bunching_power", 0.7, "exponent", "half the other sequences",
                {"engine": 0.25, "engine/architecture": 0.25}, 0.4),
    Coefficient("overlap", 2.0, "exponent", "how sharply the larger of memory and compute rules", {}, 0.4),
    _fixed("launch_overlap", 1.0, "exponent", "launches are recorded in graphs: they add up"),
    _fixed("kernel_bytes_per_s", 1e15, "bytes/s", "weights that one card's kernels take in (no limit seen)"),
    _fixed("kernel_flop_per_s", 1e18, "FLOP/s", "matrix products of one card's kernels (no limit seen)"),
    _fixed("linear_s", 0.0, "s", "matrix products launched one by one"),
    _fixed("expert_loop_s", 0.0, "s", "experts visited one by one"),
    _fixed("hop_s", 20e-6, "s", "pipeline hops (assumed)"),
    _fixed("pcie_latency", 3.0, "times", "all-reduce latency without NVLink (assumed)"),
    _fixed("pipeline_share", 0.85, "exponent", "ideal speed-up of a prompt over pipeline stages"),
    _fixed("host_bandwidth", 50e9, "bytes/s", "layers in host memory, at most, over PCIe (assumed)"),
)  # fmt: skip

_EAGER = (
    Coefficient("weight_bandwidth", 0.6, _BANDWIDTH, "bytes of dense weights read a step",
                {"precision": 0.42, "architecture": 0.27, "card": 0.12}, 0.4),
    Coefficient("cache_bandwidth", 0.5, _BANDWIDTH, "bytes of cache read a step",
                {"architecture": 0.27}),
    Coefficient("repeat_passes", 2.0, "times", "query heads a key-value head: copies of the cache",
                {"architecture": 0.42}),
    Coefficient("gemm_rate", 0.5, _RATE, "FLOP of matrix products",
                {"architecture": 0.27, "precision": 0.42}),
    Coefficient("prefill_attention_rate", 0.3, "share of the 16-bit FLOP/s",
                "FLOP of prefill attention", {"architecture": 0.27}),
    Coefficient("layer_s", 400e-6, "s", "layers a pass, launched from Python",
                {"architecture": 0.42}),
    Coefficient("linear_s", 10e-6, "s", "matrix products launched one by one",
                {"precision": 1.0}, 1.0),
    Coefficient("expert_loop_s", 60e-6, "s", "experts visited one by one", {"precision": 0.42}),
    Coefficient("step_s", 2e-3, "s", "steps: sampling, Python", {"architecture": 0.27}),
    Coefficient("overlap", 2.0, "exponent", "how sharply the larger of memory and compute rules", {}, 0.2),
    Coefficient("launch_overlap", 4.0, "exponent", "launches run ahead of the card", {}, 0.4),
    _fixed("kernel_bytes_per_s", 1e15, "bytes/s", "weights that one card's kernels take in (no limit seen)"),
    _fixed("kernel_flop_per_s", 1e18, "FLOP/s", "matrix products of one card's kernels (no limit seen)"),
    _fixed("expert_bandwidth", 0.8, "share of weight_bandwidth", "bytes of touched experts"),
    _fixed("state_bandwidth", 0.3, _BANDWIDTH, "bytes of linear-attention state (assumed)"),
    _fixed("expert_rate", 0.5, "share of gemm_rate", "FLOP of experts (assumed)"),
    _fixed("attention_rate", 0.2, "share of the 16-bit FLOP/s", "FLOP of decode attention (assumed)"),
    _fixed("activation_passes", 6.0, "times", "bytes of activations a layer and prompt token"),
    _fixed("moe_layer_s", 0.0, "s", "layers with experts a decode step"),
    _fixed("mla_layer_s", 200e-6, "s", "layers with latent attention (assumed)"),
    _fixed("linear_layer_s", 200e-6, "s", "layers with linear attention (assumed)"),
    _fixed("prefill_layer_s", 400e-6, "s", "layers a prefill pass"),
    _fixed("allreduce_s", 20e-6, "s", "all-reduces × log2(tensor-parallel ranks) (assumed)"),
    _fixed("link_share", 0.5, "share of the link's bandwidth", "bytes sent (assumed)"),
    _fixed("alltoall_s", 50e-6, "s", "layers with experts spread over ranks (assumed)"),
    _fixed("expert_imbalance", 0.3, "share", "(1 − 1/ranks): load of the fullest expert rank"),
    _fixed("routing_spread", 0.9, "exponent", "tokens that choose experts independently"),
    _fixed("sequence_s", 20e-6, "s", "sequences a step (assumed)"),
    _fixed("request_s", 5e-3, "s", "requests (assumed)"),
    _fixed("batch_s", 2e-3, "s", "prompt batches alone (assumed)"),
    _fixed("step_wait", 0.0, "steps", "static batch: nobody waits for a step"),
    _fixed("interference", 0.0, "share", "static batch: no prefill between decode steps"),
    _fixed("bunching", 2.0, "times", "static batch: all prompts go first"),
    _fixed("bunching_power", 1.0, "exponent", "half the other sequences"),
    _fixed("hop_s", 50e-6, "s", "pipeline hops (assumed)"),
    _fixed("pcie_latency", 3.0, "times", "all-reduce latency without NVLink (assumed)"),
    _fixed("pipeline_share", 0.0, "exponent", "device_map pipelines nothing"),
    _fixed("host_bandwidth", 6.5e9, "bytes/s", "layers in host memory, pageable copies (measured, H200)"),
)  # fmt: skip

_LLAMA_CPP = (
    Coefficient("weight_bandwidth", 0.8, _BANDWIDTH, "bytes of weights read a step",
                {"architecture": 0.12, "precision": 0.27, "segment": 0.12,
                 "architecture/precision": 0.12, "card": 0.12}, 0.3),
    Coefficient("kernel_flop_per_s", 2.5e14, "FLOP/s", "matrix products of one card's kernels",
                {"architecture": 0.12, "precision": 0.27}, 0.4),
    Coefficient("kernel_bytes_per_s", 1.1e12, "bytes/s", "weights that one card's kernels take in",
                {"architecture": 0.12, "precision": 0.12}, 0.3),
    Coefficient("cache_bandwidth", 0.4, _BANDWIDTH, "bytes of cache read a step",
                {"architecture": 0.27, "card": 0.27}),
    Coefficient("gemm_rate", 0.4, _RATE, "FLOP of matrix products",
                {"architecture": 0.27, "segment": 0.27, "precision": 0.27,
                 "architecture/precision": 0.27, "card": 0.27}),
    Coefficient("prefill_attention_rate", 0.3, "share of the 16-bit FLOP/s",
                "FLOP of prefill attention", {"architecture": 0.27, "card": 0.27}),
    Coefficient("layer_s", 30e-6, "s", "layers a decode step",
                {"architecture": 0.27, "precision": 0.12, "card": 0.27}),
    Coefficient("prefill_layer_s", 30e-6, "s", "layers a prefill pass", {"architecture": 0.27}),
    Coefficient("hop_s", 100e-6, "s", "pipeline hops", {"architecture": 0.27}),
    Coefficient("pipeline_share", 0.8, "exponent", "ideal speed-up of a prompt over pipeline stages",
                {"precision": 0.27, "architecture": 0.27}),
    Coefficient("step_s", 3e-4, "s", "steps: sampling", {}),
    Coefficient("overlap", 2.0, "exponent", "how sharply the larger of memory and compute rules", {}, 0.2),
    _fixed("repeat_passes", 0.0, "times", "query heads a key-value head: copies of the cache"),
    _fixed("activation_passes", 2.0, "times", "bytes of activations a layer and prompt token"),
    _fixed("expert_bandwidth", 0.8, "share of weight_bandwidth", "bytes of touched experts (assumed)"),
    _fixed("state_bandwidth", 0.3, _BANDWIDTH, "bytes of linear-attention state (assumed)"),
    _fixed("expert_rate", 0.5, "share of gemm_rate", "FLOP of experts (assumed)"),
    _fixed("attention_rate", 0.1, "share of the 16-bit FLOP/s", "FLOP of decode attention (assumed)"),
    _fixed("launch_overlap", 1.0, "exponent", "launches follow one another: they add up"),
    _fixed("linear_s", 0.0, "s", "matrix products launched one by one"),
    _fixed("expert_loop_s", 0.0, "s", "experts visited one by one"),
    _fixed("moe_layer_s", 20e-6, "s", "layers with experts a decode step (assumed)"),
    _fixed("mla_layer_s", 20e-6, "s", "layers with latent attention (assumed)"),
    _fixed("linear_layer_s", 20e-6, "s", "layers with linear attention (assumed)"),
    _fixed("allreduce_s", 20e-6, "s", "all-reduces × log2(tensor-parallel ranks) (assumed)"),
    _fixed("link_share", 0.5, "share of the link's bandwidth", "bytes sent (assumed)"),
    _fixed("alltoall_s", 50e-6, "s", "layers with experts spread over ranks (assumed)"),
    _fixed("expert_imbalance", 0.3, "share", "(1 − 1/ranks): load of the fullest expert rank"),
    _fixed("routing_spread", 0.9, "exponent", "tokens that choose experts independently"),
    _fixed("sequence_s", 50e-6, "s", "sequences a step (assumed)"),
    _fixed("request_s", 5e-3, "s", "requests (assumed)"),
    _fixed("batch_s", 1e-4, "s", "prompt batches alone"),
    _fixed("step_wait", 1.0, "steps", "decode steps that a new prompt waits for (assumed)"),
    _fixed("interference", 1.0, "share", "other prompts' prefill that delays a decode step (assumed)"),
    _fixed("bunching", 1.0, "times", "other prompts' prefill before one's own (assumed)"),
    _fixed("bunching_power", 0.7, "exponent", "half the other sequences (assumed)"),
    _fixed("pcie_latency", 2.0, "times", "all-reduce latency without NVLink (assumed)"),
    _fixed("host_bandwidth", 50e9, "bytes/s", "layers in host memory, read by the CPU (assumed; 57 on a server)"),
)  # fmt: skip

_TRAINING = (
    Coefficient("gemm_rate", 0.6, _RATE, "FLOP of matrix products",
                {"engine": 0.12, "architecture": 0.27, "precision": 0.27, "card": 0.12}, 0.3),
    Coefficient("expert_rate", 0.4, "share of gemm_rate", "FLOP of experts", {}, 0.4),
    Coefficient("attention_rate", 0.4, "share of the 16-bit FLOP/s", "FLOP of attention",
                {"architecture": 0.27}),
    Coefficient("activation_passes", 2.0, "times", "bytes of activations a layer, token and pass",
                {"engine": 0.27}),
    Coefficient("layer_s", 500e-6, "s", "layers a pass, launched from Python", {"engine": 0.27}),
    Coefficient("adapter_launches", 0.6, "share", "launches that LoRA adapters add", {}),
    Coefficient("dequantize_passes", 2.0, "times", "bytes of 4-bit weights unpacked a pass",
                {"architecture": 0.27}),
    Coefficient("link_share", 0.5, "share of the slowest link", "bytes sent",
                {"architecture": 0.27}),
    Coefficient("gather_s", 20e-6, "s", "gathers and scatters × log2(ranks)", {}),
    Coefficient("update_share", 0.6, _BANDWIDTH, "bytes of the optimizer step", {}, 0.3),
    Coefficient("step_s", 5e-3, "s", "optimizer steps", {}),
    _fixed("overlap", 3.0, "exponent", "how sharply the larger of compute and messages rules"),
    _fixed("launch_overlap", 4.0, "exponent", "how sharply the larger of compute and launches rules"),
)  # fmt: skip

SPEC: Mapping[str, tuple[Coefficient, ...]] = {
    "serving": _SERVING, "eager": _EAGER, "llama_cpp": _LLAMA_CPP, "training": _TRAINING,
}  # fmt: skip
