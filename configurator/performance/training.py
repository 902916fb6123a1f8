"""Training speed: FLOP, bytes and messages of one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.device import Device
from configurator.memory.training_state import as_run
from configurator.performance.coefficients import coefficients, interval
from configurator.performance.links import host_link, peer_link
from configurator.performance.serving import _plain, first_rate
from configurator.performance.steps import Coefficients, combine
from configurator.performance.workload import Workload, workload
from configurator.scenario import Training

# Bytes of optimizer state a parameter that a step reads and writes, weights and gradients included.
OPTIMIZER_BYTES = {
    "adamw": 28.0, "adamw_8bit": 16.0, "paged_adamw_8bit": 16.0, "adafactor": 14.0, "sgd": 12.0,
    "muon": 20.0,
}  # fmt: skip


@dataclass(frozen=True)
class TrainingSpeed:
    """Tokens a second of the whole deployment and what a step is made of.

    ``mfu`` counts 6 FLOP a parameter and token and the attention's, recomputation left out (PaLM,
    arXiv 2204.02311, appendix B). ``detail`` holds seconds of one optimizer step by term.
    """

    train_tokens_per_s: Any
    train_tokens_per_s_low: Any
    train_tokens_per_s_high: Any
    step_s: Any
    mfu: Any
    bound_by: Any
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class TrainingPlan:
    """A training set-up as the formula needs it; numbers or arrays.

    ``passes`` are the forward-equivalents of matrix products a token costs: 1 forward, 1 for the
    input gradients, 1 for the weight gradients of trained weights, 1 more with checkpointing.
    """

    tensor: Any
    pipeline: Any
    expert: Any
    data: Any
    bandwidth: Any
    rate: Any
    link: Any
    gradient_link: Any
    host: Any
    micro_batch: Any
    sequence: Any
    accumulation: Any
    checkpointing: Any
    adapters: Any
    quantized: Any
    fully_sharded: Any
    state_sharded: Any
    weight_bytes: Any
    gradient_bytes: Any
    autocast: Any
    optimizer_bytes: Any
    offload_weights: Any
    offload_states: Any


def make_training_plan(
    precision: str, training: Training, engine: str, device: Device, tensor: Any, pipeline: Any,
    expert: Any, data: Any,
) -> TrainingPlan:  # fmt: skip
    """Return cards, split and method as the formula needs them."""
    training, _ = as_run(training, engine)
    tensor_, data_ = np.asarray(tensor, dtype=float), np.asarray(data, dtype=float)
    rates = ("tf32", "fp32") if training.mixed_precision == "fp32" else ("bf16", "fp16", "fp32")
    if training.mixed_precision == "amp_fp16":
        rates = ("fp16", "fp32")
    autocast = training.mixed_precision.startswith("amp") and precision == "fp32"
    wide = precision == "fp32" and training.mixed_precision == "fp32"
    return TrainingPlan(
        tensor_, np.asarray(pipeline, dtype=float), np.asarray(expert, dtype=float), data_,
        np.asarray(device.bandwidth_bytes_per_s), first_rate(device, rates),
        peer_link(device, tensor_), peer_link(device, tensor_ * data_), host_link(device),
        float(training.micro_batch_size), float(training.sequence_length),
        float(training.gradient_accumulation), float(training.gradient_checkpointing),
        float(training.method != "full"), float(training.method == "qlora"),
        float(training.sharding in ("zero3", "fsdp")), float(training.sharding.startswith("zero")),
        4.0 if wide else 2.0, 4.0 if wide else 2.0, float(autocast),
        OPTIMIZER_BYTES[training.optimizer], float(training.offload == "parameters"),
        float(training.offload != "none"),
    )  # fmt: skip


def training_step(model: Workload, plan: TrainingPlan, c: Coefficients) -> dict[str, Any]:
    """Seconds of one optimizer step by term, and its tokens and FLOP.

    Matrix products 2 FLOP a parameter, token and pass; causal attention twice that for the backward
    and half as much again for FlashAttention's recomputation (arXiv 2307.08691, section 4). Fully
    sharded weights are gathered for the forward and the backward, gradients scattered (ZeRO, arXiv
    1910.02054, section 7), overlapped with the products.
    """
    t, p = plan.tensor, plan.pipeline
    tokens = plan.micro_batch * plan.sequence
    full = 1.0 - plan.adapters
    passes = 2.0 + full + plan.checkpointing
    active = (
        model.quantized_params + model.wide_params + model.replicated_params + model.expert_params
    )
    ranks = t * p
    head = model.head_params / t
    linear_flop = 2.0 * tokens * (active / ranks * passes + head / p * 3.0)
    pairs: Any = 0.0
    for read in model.reads:
        span = np.minimum(plan.sequence / 2.0, read.window) / read.ratio
        pairs = pairs + read.prefill_flop * span
    attention_flop = tokens * pairs / ranks
    attention_passes = 3.5 + plan.checkpointing
    fixed = plan.rate * c["gemm_rate"]
    linear = linear_flop / fixed
    experts = 2.0 * tokens * model.expert_params / ranks * passes / fixed
    linear = linear + experts * (1.0 / c["expert_rate"] - 1.0)
    attention = attention_flop * attention_passes / (plan.rate * c["attention_rate"])
    width = model.hidden * (8.0 + 2.0 * model.ffn_per_hidden / t) * 2.0
    elementwise = (
        tokens * model.layers / p * width * (2.0 + plan.checkpointing) * c["activation_passes"]
        + tokens * head / model.hidden * 12.0 * c["activation_passes"]
    ) / plan.bandwidth
    weights = model.total_params / ranks
    casts = plan.autocast * (1.0 - plan.fully_sharded) * weights * 6.0 * (2.0 + plan.checkpointing)
    unpacked = plan.quantized * weights * 2.5
    dequantize = unpacked * (2.0 + plan.checkpointing) * c["dequantize_passes"]
    moved = (casts + dequantize) / plan.bandwidth
    launches = (
        model.layers
        / p
        * c["layer_s"]
        * (2.0 + plan.checkpointing)
        * (1.0 + plan.adapters * c["adapter_launches"])
    )
    busy = combine(linear + attention + elementwise + moved, launches, c["launch_overlap"])
    d = plan.data
    ring = (d - 1.0) / d
    stored = np.where(plan.quantized > 0, 0.56, plan.weight_bytes)
    gather = plan.fully_sharded * weights * stored * ring * 2.0
    scatter = plan.fully_sharded * full * weights * plan.gradient_bytes * ring
    wire = plan.gradient_link * c["link_share"]
    sharded = (gather + scatter) / wire + plan.fully_sharded * model.layers * 3.0 * c[
        "gather_s"
    ] * np.log2(np.maximum(d, 1.0))
    inside = np.where(np.asarray(t) > 1, 1.0, 0.0) * (
        4.0 * model.layers / p * tokens * model.hidden * 2.0 * 2.0 * (t - 1.0) / t
    ) / (plan.link * c["link_share"])  # fmt: skip
    exchange = np.where(plan.expert > 1, 1.0, 0.0) * (
        4.0 * model.moe_layers / p * tokens * model.top_k * model.hidden * 2.0
    ) / (plan.gradient_link * c["link_share"])  # fmt: skip
    hosted = plan.offload_weights * weights * stored * (2.0 + plan.checkpointing) / d / plan.host
    # Stages wait for the first and the last micro-batch (GPipe, arXiv 1811.06965, section 2).
    bubble = 1.0 + (p - 1.0) / plan.accumulation
    micro = (combine(busy, sharded, c["overlap"]) + inside + exchange + hosted) * bubble
    trained = weights * np.where(plan.adapters > 0, 0.01, 1.0)
    reduce = (1.0 - plan.fully_sharded) * trained * plan.gradient_bytes * 2.0 * ring / wire
    owners = np.where((plan.fully_sharded > 0) | (plan.state_sharded > 0), d, 1.0)
    update = trained / owners * plan.optimizer_bytes / (plan.bandwidth * c["update_share"])
    update = update + plan.offload_states * trained / owners * 16.0 / plan.host
    step = plan.accumulation * micro + reduce + update + c["step_s"]
    model_flop = 2.0 * tokens * (active / ranks + head / p) * 3.0 + 3.0 * attention_flop
    return {
        "step": step,
        "tokens_per_s": tokens * plan.accumulation * d / step,
        "mfu": model_flop * plan.accumulation / step / plan.rate,
        "linear": plan.accumulation * linear, "attention": plan.accumulation * attention,
        "elementwise": plan.accumulation * elementwise,
        "conversion": plan.accumulation * moved, "launches": plan.accumulation * launches,
        "gather_scatter": plan.accumulation * sharded,
        "tensor_messages": plan.accumulation * (inside + exchange),
        "host": plan.accumulation * hosted, "gradient_reduce": reduce, "update": update,
    }  # fmt: skip


_BOUND = {
    "memory_bandwidth": ("elementwise", "conversion", "update"),
    "compute": ("linear", "attention"),
    "communication": ("gather_scatter", "tensor_messages", "gradient_reduce", "host"),
    "overhead": ("launches",),
}


def training_speed(
    arch: Architecture, precision: str, training: Training, engine: str, device: Device,
    tensor: Any = 1, pipeline: Any = 1, expert: Any = 1, data: Any = 1,
) -> TrainingSpeed:  # fmt: skip
    """Return how fast a model is trained; scalars in, scalars out, arrays in, arrays out.

    Args:
        arch: The model.
        precision: Resolved precision of the stored weights.
        training: Method, batch (per data-parallel rank), sequence and the rest.
        engine: ``transformers deepspeed fsdp megatron``.
        device: One card, or many as arrays.
        tensor: Tensor-parallel ranks; a number or an array, as the other parts of the split.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Data-parallel ranks.
    """
    c = coefficients("training", engine, training.method, device)
    model = workload(arch, precision, "bf16", engine)
    plan = make_training_plan(precision, training, engine, device, tensor, pipeline, expert, data)
    out = training_step(model, plan, c)
    low, high = interval("training", engine, "train_tokens_per_s", device, arch)
    speed = out["tokens_per_s"]
    parts = np.stack(
        np.broadcast_arrays(*(sum(out[n] for n in group) for group in _BOUND.values()))
    )
    names = np.array(list(_BOUND))[np.argmax(parts, axis=0)]
    detail = {k: _plain(v) for k, v in out.items() if k not in ("tokens_per_s", "mfu", "step")}
    return TrainingSpeed(
        _plain(speed), _plain(speed * low), _plain(speed * high), _plain(out["step"]),
        _plain(out["mfu"]), str(names) if names.ndim == 0 else names, detail,
    )  # fmt: skip
