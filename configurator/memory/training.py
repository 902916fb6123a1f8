"""Training memory: the peak over forward end, backward and optimizer step on the fullest GPU.

A step has three high points and only the highest counts (adding all of them up is wrong both
ways): the end of the forward pass with the logits and their 32-bit copies, the backward pass
(the loss's own backward, the head's gradient, or the first layer to go back), and the optimizer
step with its temporaries. What is live at each was recorded tensor by tensor; see
:mod:`configurator.memory.activations` and :mod:`configurator.memory.training_state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.memory.activations import (
    WIDE,
    Profile,
    TokenBytes,
    final_norm_bytes,
    folded_experts,
    layer_activations,
    training_profile,
)
from configurator.memory.training_deepspeed import gather_pool, reduce_pool, reserved_flat
from configurator.memory.training_state import (
    HALF,
    SHARDED_WEIGHTS,
    State,
    as_run,
    autocasts_base,
    formats,
    largest_matrix,
    training_state,
    upcasts_base,
    zero_stage,
)
from configurator.memory.weights import weight_table
from configurator.scenario import Training

PHASES = ("forward_end", "backward", "optimizer_step")
MIB = 1 << 20


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on the fullest GPU.

    Attributes:
        weights, gradients, optimizer: Persistent between steps, adapters included.
        activations: ``peak_allocated`` less those three.
        peak_allocated: Live tensors at the peak (``torch.cuda.max_memory_allocated``).
        reserved: What the caching allocator holds (``torch.cuda.max_memory_reserved``).
        framework: ``total`` less ``peak_allocated``: CUDA context, kernels, allocator slack.
        total: Device memory (``nvidia-smi``).
        host: Host memory a GPU needs.
        phase: Which of :data:`PHASES` peaks; an index array where the splits are arrays.
        detail: Parts of the peak by name, for explanations.
    """

    weights: Any
    gradients: Any
    optimizer: Any
    activations: Any
    peak_allocated: Any
    reserved: Any
    framework: Any
    total: Any
    host: Any
    phase: Any
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class _Live:
    """Bytes of activations by moment."""

    saved: Any  # kept from forward to backward, final norm included
    layer: Any  # one layer's replay and its own backward, beside what is saved
    logits_forward: Any
    loss_backward: Any
    head_gradient: Any
    casts_forward: Any
    casts_backward: Any
    gathered: Any
    streams: Any  # freed blocks of the streams that gather and scatter
    logits: Any


def _on_gpu(item: TokenBytes, tokens: float, tensor: Any, sequence_parallel: bool) -> Any:
    """Bytes of one layer's tokens on one tensor-parallel rank."""
    wide = item.hidden / tensor if sequence_parallel else item.hidden + 0.0 * tensor
    return tokens * (
        wide + (item.heads + item.ffn) / tensor + item.kv / np.minimum(tensor, item.kv_heads)
    )


def _live(
    arch: Architecture, precision: str, training: Training, engine: str, profile: Profile,
    tensor: Any, pipeline: Any, expert: Any, data: Any,
) -> _Live:  # fmt: skip
    tokens = float(training.micro_batch_size * training.sequence_length)
    hidden, c = arch.hidden_size, profile.compute
    together = engine in ("megatron", "fsdp")  # sequence parallel, vocabulary-parallel loss
    vocab = arch.vocab_size / tensor if together else arch.vocab_size + 0.0 * tensor
    layers = np.ceil(arch.num_layers / pipeline)
    stage = layers / max(1, arch.num_layers)
    # 1F1B: stage 0 holds as many micro-batches as there are stages (arXiv 2104.04473).
    flight = np.minimum(pipeline, training.gradient_accumulation)
    targets, rank = training.lora_targets, training.lora_rank
    everything: Any = 0.0
    layer_peak: Any = 0.0
    folded: Any = 0.0
    widest = 0
    raised = upcasts_base(training, precision, engine)
    for group in arch.groups:
        item = layer_activations(
            group.layer, hidden, profile, targets, rank, training.sequence_length
        )
        everything = everything + group.count * _on_gpu(item.saved, tokens, tensor, together)
        own = _on_gpu(item.backward, tokens, tensor, together)
        if training.gradient_checkpointing:
            own = own + _on_gpu(item.replayed, tokens, tensor, together)
        if profile.frozen and group.layer.experts:
            sums = folded_experts(group.layer, targets, rank, WIDE if raised else c)
            ranks = np.maximum(tensor, expert)
            folded = folded + group.count * sums.saved / ranks
            own = own + sums.backward / ranks
            own = own + (sums.saved / ranks if training.gradient_checkpointing else 0.0)
        layer_peak = np.maximum(layer_peak, own)
        widest = max(widest, group.layer.parameters)
    stream = tokens * hidden * profile.residual * arch.residual_streams
    stream = stream / tensor if together else stream + 0.0 * tensor
    if training.gradient_checkpointing:
        kept = stream * layers + (stream if profile.residual == WIDE else 0.0)
    else:
        kept = (everything + folded) * stage + (stream if profile.residual == WIDE else 0.0)
    layer_norm = any(m.role == "norm" and m.out_features == 2 * hidden for m in arch.ends)
    tail = tokens * final_norm_bytes(hidden, profile, layer_norm) / (tensor if together else 1)
    one_stage = np.asarray(pipeline) == 1
    # The last stage has the loss, the first has the most micro-batches in flight.
    logits = tokens * vocab
    per_logit = _logit_bytes(profile, engine)
    head = arch.vocab_size * hidden / tensor
    gradient_bytes = 0 if profile.frozen else c + (WIDE if profile.style == "autocast" else 0)
    linear = _linear_parameters(arch)
    casts: Any = 0.0 * tensor
    casts_one: Any = 0.0 * tensor
    if profile.style == "autocast":
        casts_one = HALF * arch.vocab_size * hidden / tensor
        casts = HALF * linear * stage / tensor + casts_one
    dequantise = 0.0
    if training.method == "qlora":
        dequantise = arch.unpacked_copies * HALF * largest_matrix(arch, ends=False)
    widest_gpu = widest / np.maximum(tensor, expert if arch.is_moe else 1)
    layer_gradient = 0 if profile.frozen else gradient_bytes * largest_matrix(arch, ends=False)
    tied = (
        head * (WIDE if profile.style == "autocast" else c)
        if (arch.tied_embeddings and not profile.frozen)
        else 0.0
    )
    layer_peak = (
        layer_peak + dequantise / tensor + layer_gradient / tensor + tied
        + (HALF * widest_gpu if profile.style == "autocast" else 0.0)
    )  # fmt: skip
    norm_peak = 0.0
    if not training.gradient_checkpointing and profile.style != "fused":
        norm_peak = tokens * hidden * 4 * WIDE / (tensor if together else 1)
    layer_peak = np.maximum(layer_peak, norm_peak)
    gathered, streams = _gathered(
        arch, precision, training, engine, profile, tensor, expert, data, widest
    )
    last = np.where(one_stage | (kept + tail + per_logit[1] * logits > kept * flight), 1.0, 0.0)
    saved = np.where(last > 0, kept + tail, kept * flight)
    return _Live(
        saved=saved,
        layer=np.maximum(0.0, layer_peak - tail * last),
        logits_forward=per_logit[0] * logits * last,
        loss_backward=per_logit[1] * logits * last,
        head_gradient=(profile.logits * logits + head * gradient_bytes) * last,
        casts_forward=casts,
        casts_backward=casts_one if training.gradient_checkpointing else casts,
        gathered=gathered,
        streams=streams,
        logits=logits,
    )


def _logit_bytes(profile: Profile, engine: str) -> tuple[float, float]:
    """Bytes a logit live at the end of the forward pass and at the start of the backward.

    transformers (``ForCausalLMLoss``): the head's output, its 32-bit copy and the log-softmax;
    going back the log-softmax, the gradient of the negative log-likelihood and the gradient of
    the softmax, all 32 bit. Megatron works in place in 32 bit beside the head's output.
    """
    if engine == "megatron":
        return profile.logits + 2.0 * WIDE, profile.logits + 1.0 * WIDE
    copy = WIDE if profile.logits < WIDE else 0
    return profile.logits + copy + 1.0 * WIDE, 3.0 * WIDE


def _linear_parameters(arch: Architecture) -> int:
    """Elements of the matrices that autocast casts, head left out."""
    return sum(
        m.parameters * g.count for g in arch.groups for m in g.layer.matrices if m.in_features > 1
    )


def _gathered(
    arch: Architecture, precision: str, training: Training, engine: str, profile: Profile,
    tensor: Any, expert: Any, data: Any, widest: int,
) -> tuple[Any, Any]:  # fmt: skip
    """Bytes of whole parameters and gradients that a sharded run gathers, and keeps after that.

    FSDP: two units (the running layer and the prefetched one), the root unit (embedding and
    head), and one layer's gradient before it is scattered. ZeRO-3's prefetching runs ahead until
    10⁹ parameters are whole (``stage3_max_live_parameters``), beside the shards of them.
    Parameters in host memory come through the same buffers; FSDP's shard of the largest unit
    besides, in its stored format (``FSDPParam.all_gather_inputs``, torch 2.11).

    FSDP gathers and scatters on streams of their own, and the caching allocator keeps a pool for
    each stream (PyTorch's notes on CUDA semantics): what the largest unit took there, parameters
    and gradients, stays reserved beside what computing reserves. For DeepSpeed see
    :mod:`configurator.memory.training_deepspeed`.
    """
    if training.sharding not in SHARDED_WEIGHTS:
        return 0.0 * tensor, 0.0 * tensor
    share = np.maximum(tensor, expert) if arch.is_moe else tensor
    each = float(profile.compute)
    if training.method != "full":
        table = weight_table(arch, precision, "transformers")
        each = table.layer_total / max(1, sum(g.layer.parameters * g.count for g in arch.groups))
    unit = widest * each / share
    ends = sum(m.parameters for m in arch.ends) * profile.compute / tensor
    gradient = 0.0 if profile.frozen else widest * profile.compute / share
    streams: Any = 0.0
    if engine == "deepspeed":
        live = constant("training", "deepspeed_live_parameters")
        whole = arch.parameters / tensor
        # Gradients are scattered out of the buckets of the persistent state.
        gathered = np.minimum(whole, np.maximum(live, 2 * widest / share)) * each
        streams = gather_pool(arch, whole, each, profile.compute, np.asarray(data))
    else:
        gathered = 2 * unit + ends + gradient
        largest = np.maximum(ends, unit)
        streams = largest if profile.frozen else largest + np.maximum(ends, gradient)
        if training.offload == "parameters":  # the shard comes over as it is stored, then is cast
            stored = profile.compute if profile.frozen else formats(training, engine).weight
            streams = streams + largest * stored / profile.compute / np.asarray(data)
    alone = (np.asarray(data) == 1) & (training.offload != "parameters")
    return np.where(alone, 0.0, gathered), np.where(alone, 0.0, streams)


def training_memory(
    arch: Architecture, precision: str, training: Training, engine: str,
    tensor: Any = 1, pipeline: Any = 1, expert: Any = 1, data: Any = 1,
    device_bytes: Any = None, varying_lengths: bool = False,
) -> TrainingMemory:  # fmt: skip
    """Return the memory of one training step on the fullest GPU.

    Args:
        arch: The model.
        precision: Stored precision of a frozen base, resolved (not ``auto``).
        training: Method, precision mode, batch, optimizer, checkpointing, sharding, offload.
        engine: ``transformers deepspeed fsdp megatron``.
        tensor: Tensor-parallel ranks; like the next three a number or an array that broadcasts.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Data-parallel ranks.
        device_bytes: Card's memory as the driver reports it; caps ``reserved`` and ``total``.
        varying_lengths: Batches of varying length up to ``sequence_length`` (unpacked samples)
            instead of equal ones: the peak stays, but no cached block fits the next batch.

    Raises:
        InputError: The LoRA targets name no module of the model.
    """
    training, engine = as_run(training, engine)
    scalar = all(np.ndim(x) == 0 for x in (tensor, pipeline, expert, data, device_bytes))
    tensor, pipeline = np.asarray(tensor, float), np.asarray(pipeline, float)
    expert, data = np.asarray(expert, float), np.asarray(data, float)
    profile = replace(training_profile(training, engine), norms=arch.norm_kept)
    if upcasts_base(training, precision, engine):
        profile = replace(profile, residual=WIDE, logits=WIDE)
    copied = autocasts_base(training, precision, engine)
    if copied:
        profile = replace(profile, residual=WIDE)
    state = training_state(arch, precision, training, engine, tensor, pipeline, expert, data)
    live = _live(arch, precision, training, engine, profile, tensor, pipeline, expert, data)
    if copied or (arch.head_quantised and training.method == "qlora"):
        copy = arch.unpacked_copies * HALF * arch.vocab_size * arch.hidden_size / tensor
        live = replace(
            live, logits_forward=live.logits_forward + copy,
            loss_backward=live.loss_backward + copy,
        )  # fmt: skip
    held = state.weights + state.gradients + state.optimizer
    base = held + state.buffers
    forward = live.saved + live.casts_forward + live.logits_forward + live.gathered - state.late
    loss = np.maximum(live.loss_backward, live.head_gradient) - state.late
    back = np.maximum(loss, live.layer + state.reduction)
    backward = live.saved + live.casts_backward + back + live.gathered
    phases = np.stack(np.broadcast_arrays(base + forward, base + backward, base + state.step))
    index = np.argmax(phases, axis=0)
    peak = np.max(phases, axis=0)
    live_most = np.maximum(forward, backward)
    if engine == "deepspeed" and zero_stage(training) > 0:
        reserved = _reserved_zero(arch, training, profile, state, live, peak, live_most, data)
    else:
        reserved = peak + _slack(training, profile, state, live, live_most)
    ragged = base + constant("training", "varying_lengths") * live_most
    if varying_lengths:
        reserved = np.maximum(reserved, ragged)
    # DeepSpeed and FSDP start NCCL for a single rank too.
    lone = constant("training", "one_rank_mib") if engine in ("deepspeed", "fsdp") else 0.0
    context = _context_bytes() + np.where(
        (tensor > 1) | (pipeline > 1) | (expert > 1) | (data > 1),
        constant("training", "communication_mib") * MIB, lone * MIB,
    )  # fmt: skip
    total = reserved + context
    host, optimizer = state.host, state.optimizer
    if device_bytes is not None:
        room = np.asarray(device_bytes, float)
        if training.optimizer == "paged_adamw_8bit":  # unified memory: what does not fit moves out
            out = np.clip(total - room, 0.0, optimizer)
            optimizer, host, held = optimizer - out, host + out, held - out
            peak, reserved, total = peak - out, reserved - out, total - out
        # The allocator gives cached blocks back before it fails.
        total = np.where(total > room, np.maximum(room, peak + context), total)
        reserved = np.maximum(peak, total - context)
    detail: dict[str, Any] = {
        "weights_base": state.weights - state.adapters,
        "weights_adapters": state.adapters,
        "gradients_buckets": state.buffers + state.reduction,
        "optimizer_temporaries": state.step,
        "activations_saved": live.saved,
        "activations_layer": live.layer,
        "activations_logits": live.logits_forward,
        "activations_loss_backward": live.loss_backward,
        "activations_head_gradient": live.head_gradient,
        "activations_autocast_copies": live.casts_forward,
        "activations_gathered": live.gathered,
        "framework_allocator_slack": reserved - peak,
        "framework_context": context,
        "varying_lengths": np.maximum(0.0, ragged - reserved),
    }
    parts = {
        "weights": state.weights, "gradients": state.gradients, "optimizer": optimizer,
        "activations": np.maximum(0.0, peak - held), "peak_allocated": peak, "reserved": reserved,
        "framework": total - peak, "total": total, "host": host,
    }  # fmt: skip
    if scalar:
        numbers = {name: float(value) for name, value in parts.items()}
        return TrainingMemory(
            **numbers, phase=PHASES[int(index)], detail={k: float(v) for k, v in detail.items()}
        )
    shape = phases.shape[1:]
    arrays = {name: np.broadcast_to(value, shape) for name, value in parts.items()}
    return TrainingMemory(
        **arrays, phase=index, detail={k: np.broadcast_to(v, shape) for k, v in detail.items()}
    )


def _context_bytes() -> float:
    """Bytes of CUDA context, cuBLAS and workspaces: ``nvidia-smi`` less ``reserved``."""
    device = constant("device", "cuda_context_mib") + constant("device", "cublas_mib")
    return (device + constant("training", "workspace_mib")) * MIB


def _slack(
    training: Training, profile: Profile, state: State, live: _Live, activations: Any
) -> Any:
    """Bytes that PyTorch's caching allocator holds beyond the live ones at the peak.

    A block freed in one phase serves another only where it fits: the 16-bit logits are too small
    for their 32-bit copies, the states' temporaries split what activations left, and a replayed
    layer needs blocks of many sizes. The shares were fitted to an emulation of the allocator fed
    with the exact order of allocations of 90 runs, which meets the measured H100 runs to 0.2 GiB.

    Args:
        training: Whether layers are replayed.
        profile: Number formats.
        state: Persistent bytes and the step's temporaries.
        live: Activations by moment.
        activations: Bytes above the persistent ones at the end of forward or in backward.
    """
    share = {
        name: constant("training", f"slack_{name}")
        for name in ("logits", "step_replayed", "step_saved", "layer", "saved")
    }
    slack = share["logits"] * profile.logits * live.logits + live.streams
    both = np.minimum(activations, state.step)
    if training.gradient_checkpointing:
        return slack + share["step_replayed"] * both + share["layer"] * live.layer
    return slack + share["step_saved"] * both + share["saved"] * live.saved


def _reserved_zero(
    arch: Architecture, training: Training, profile: Profile, state: State, live: _Live,
    peak: Any, live_most: Any, data: Any,
) -> Any:  # fmt: skip
    """Bytes that the caching allocator holds in a DeepSpeed run with ZeRO.

    Three pools, one a stream: computing, gathering, reducing. Gathered parameters and the
    reduced shards of ZeRO-1 and 2 are live in the other two, so that computing's own blocks are
    the rest of the peak.

    Args:
        arch: The model.
        training: How it is trained.
        profile: Number formats.
        state: Persistent bytes and the step's temporaries.
        live: Activations by moment.
        peak: Live bytes at the peak.
        live_most: Activations at the end of forward or in backward, gathered weights included.
        data: Data-parallel ranks.
    """
    held = state.weights + state.gradients + state.optimizer + state.buffers
    slack = _slack(training, profile, replace(state, step=0.0), replace(live, streams=0.0), 0.0)
    main = held + live_most - live.gathered
    main = np.maximum(main + slack, held - state.late + state.step)
    if training.offload == "none":
        states = state.optimizer - state.shard * formats(training, "deepspeed").master
        active = live_most - live.gathered + state.late + slack
        flat = reserved_flat(
            training, state.shard, states, state.step, held - states - state.late, active,
            WIDE * live.logits, np.minimum(state.reduction, active),
        )  # fmt: skip
        main = np.maximum(main, flat)
    pools = live.gathered + live.streams + reduce_pool(arch, training, state, data)
    return np.maximum(peak, main + pools)
