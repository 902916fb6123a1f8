"""What training holds between steps: weights, gradients, optimizer states, and their helpers.

Bytes a parameter follow the optimizers' own code: torch AdamW keeps two states in the weight's
dtype; bitsandbytes two codes of 8 bit and a 32-bit absmax a block of 256, embeddings left in
32 bit (Hugging Face Trainer's override); Adafactor a row and a column vector a matrix (arXiv
1804.04235); Muon one momentum a hidden matrix and AdamW for the rest; plain SGD nothing, with
momentum (Megatron's default) one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.memory.activations import adapter_parameters
from configurator.memory.weights import weight_table
from configurator.scenario import Sharding, Training

HALF, WIDE = 2, 4
SHARDED_WEIGHTS = ("zero3", "fsdp")
SHARDED_GRADIENTS = ("zero2", "zero3", "fsdp")
SHARDED_STATES = ("zero1", "zero2", "zero3", "fsdp")
ZERO_STAGE = {"none": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}
ZERO: Mapping[int, Sharding] = {1: "zero1", 2: "zero2", 3: "zero3"}
FSDP_SHARDING: Mapping[Sharding, Sharding] = {"zero1": "zero2", "zero3": "fsdp"}
OFFLOAD_STAGE = {"none": 0, "optimizer": 1, "parameters": 3}
# PyTorch's caching allocator: blocks of 10 MiB and more come in multiples of 2 MiB, and a rest of
# up to 1 MiB stays with its block (c10/cuda/CUDACachingAllocator.cpp: kMinLargeAlloc,
# kRoundLarge, should_split).
MIB = 1 << 20
MIN_LARGE, ROUND_LARGE, UNSPLIT = 10 * MIB, 2 * MIB, 1 * MIB


@dataclass(frozen=True, slots=True)
class Formats:
    """Bytes a trained parameter.

    Attributes:
        weight: Of the weight itself on the GPU.
        gradient: Of the gradient kept until the step.
        state: Of one optimizer state.
        master: Of the 32-bit copy that the optimizer updates; 0 where there is none.
    """

    weight: int
    gradient: int
    state: int
    master: int


def zero_stage(training: Training) -> int:
    """ZeRO stage that a scenario runs with; states on the host need ZeRO-1, parameters ZeRO-3."""
    return max(ZERO_STAGE[training.sharding], OFFLOAD_STAGE[training.offload])


def as_run(training: Training, engine: str) -> tuple[Training, str]:
    """Return what a scenario comes to: how it shards and offloads, and which engine does it.

    FSDP runs what asks for it by engine or by sharding; it knows no ZeRO-1 (gradients go with
    the states), and one switch for host memory, with which all goes there, sharded
    (``torch.distributed.fsdp.CPUOffloadPolicy``). Other ZeRO and offload is DeepSpeed's, which
    the Trainer hands them to. Megatron has its own. The generated code is written from the same.
    """
    sharding, offload = training.sharding, training.offload
    if engine == "megatron":
        return training, engine
    if sharding == "fsdp" or engine == "fsdp":
        engine, sharding = "fsdp", FSDP_SHARDING.get(sharding, sharding)
        if offload != "none":
            sharding, offload = "fsdp", "parameters"
    elif engine == "deepspeed" or offload != "none" or sharding not in ("none", "ddp"):
        engine, stage = "deepspeed", zero_stage(training)
        sharding = ZERO[stage] if stage else sharding
    return training.model_copy(update={"sharding": sharding, "offload": offload}), engine


def formats(training: Training, engine: str) -> Formats:
    """Return what a scenario's mixed precision means on an engine.

    PEFT keeps adapters in 32 bit whatever the base. DeepSpeed and Megatron run "mixed precision"
    with 16-bit weights and a 32-bit master copy (ZeRO, arXiv 1910.02054, section 3.1), Megatron
    with 32-bit main gradients; plain PyTorch and FSDP with 32-bit weights. ZeRO keeps the master
    copy whatever the weights were loaded in, in pure BF16 too (DeepSpeed 0.19
    ``runtime/zero/stage3.py``: ``_create_fp32_partitions``).
    """
    mode, zero = training.mixed_precision, engine == "deepspeed" and zero_stage(training) > 0
    if training.method != "full" or mode == "fp32":
        return Formats(WIDE, WIDE, WIDE, 0)
    if mode == "pure_bf16" and not zero:
        return Formats(HALF, HALF, HALF, 0)
    if mode == "bf16_master" or engine in ("deepspeed", "megatron"):
        return Formats(HALF, WIDE if engine == "megatron" else HALF, WIDE, WIDE)
    return Formats(WIDE, WIDE, WIDE, 0)


@lru_cache(maxsize=1024)
def _end_parameters(arch: Architecture) -> tuple[int, int, int]:
    """Return elements of token embedding, head (0 if tied) and all other vectors of the ends."""
    embedding = sum(m.parameters for m in arch.ends if m.role == "embedding")
    head = sum(m.parameters for m in arch.ends if m.role == "head")
    other = sum(m.parameters for m in arch.ends) - embedding - head
    return embedding, head, other


@lru_cache(maxsize=1024)
def _matrix_shapes(arch: Architecture) -> tuple[tuple[int, int, int], ...]:
    """Return ``(rows, columns, copies)`` of every weight of the model, equal ones together."""
    shapes: dict[tuple[int, int], int] = {}
    for group in arch.groups:
        for m in group.layer.matrices:
            key = (m.out_features, m.in_features)
            shapes[key] = shapes.get(key, 0) + m.count * group.count
    for m in arch.ends:
        key = (m.out_features, m.in_features)
        shapes[key] = shapes.get(key, 0) + m.count
    return tuple((rows, columns, n) for (rows, columns), n in shapes.items())


@lru_cache(maxsize=1024)
def _factored_elements(arch: Architecture) -> int:
    """Elements of Adafactor's states: rows + columns a matrix, all of a vector."""
    return sum(
        n * (rows + columns if columns > 1 else rows) for rows, columns, n in _matrix_shapes(arch)
    )


def largest_matrix(arch: Architecture, ends: bool = True) -> int:
    """Elements of the largest weight; of the decoder layers alone without ``ends``."""
    layers = (m.out_features * m.in_features for g in arch.groups for m in g.layer.matrices)
    size = max(layers, default=0)
    return max([size, *(m.out_features * m.in_features for m in arch.ends)]) if ends else size


@lru_cache(maxsize=1024)
def block_slack(arch: Architecture, bytes_each: float) -> float:
    """Bytes that ``memory_allocated`` shows beyond the weights: unsplit ends of large blocks."""
    slack = 0.0
    for rows, columns, n in _matrix_shapes(arch):
        size = rows * columns * bytes_each
        rest = -size % ROUND_LARGE
        if size >= MIN_LARGE and rest <= UNSPLIT:
            slack += n * rest
    return slack


@dataclass(frozen=True, slots=True)
class State:
    """Bytes on the fullest GPU between two steps, and what the step itself adds.

    Attributes:
        weights: Base weights and adapters.
        gradients: Kept until the step.
        optimizer: States and master copy.
        step: Temporaries of the optimizer step.
        buffers: Communication buffers that live as long as the run (buckets).
        host: Bytes in host memory for this GPU.
        adapters: Bytes of adapter weights, part of ``weights``.
        late: Part of ``gradients`` that the loss's own backward does not meet yet.
        reduction: Temporaries while gradients are reduced, that is in the layers' backward.
        shard: Trained elements whose states this GPU updates.
    """

    weights: Any
    gradients: Any
    optimizer: Any
    step: Any
    buffers: Any
    host: Any
    adapters: Any
    late: Any
    reduction: Any
    shard: Any


def optimizer_bytes(
    arch: Architecture, training: Training, engine: str, parameters: Any, share: Any
) -> Any:
    """Bytes of optimizer states and master copy before data-parallel sharding.

    Args:
        arch: The model.
        training: Optimizer, method and precision.
        engine: Decides about 32-bit exceptions.
        parameters: Trained elements on the GPU (number or array).
        share: Share of the whole model that the GPU holds.
    """
    f = formats(training, engine)
    kind, full = training.optimizer, training.method == "full"
    embedding, head, other = _end_parameters(arch) if full else (0, 0, 0)
    master = parameters * f.master
    if kind == "adamw":
        return master + parameters * 2 * f.state
    if kind in ("adamw_8bit", "paged_adamw_8bit"):
        block = constant("training", "optimizer_8bit_block")
        wide = embedding * share if engine == "transformers" else 0.0
        return master + (parameters - wide) * 2 * (1 + WIDE / block) + wide * 2 * WIDE
    if kind == "adafactor":
        if full:
            return master + _factored_elements(arch) * share * WIDE
        rank = training.lora_rank
        return master + parameters / max(1, rank) * WIDE + rank * WIDE
    if kind == "muon":
        ends = (embedding + head + other) * share
        return master + (parameters - ends) * f.state + ends * 2 * f.state
    return master + parameters * (f.state if engine == "megatron" else 0)


def zero_group(training: Training, sharded: Any) -> Any:
    """Elements that DeepSpeed updates at once: the shard, with ZeRO-3 a sub-group of it."""
    if zero_stage(training) < 3:
        return sharded
    return np.minimum(sharded, constant("training", "deepspeed_sub_group_elements"))


def _step_bytes(
    arch: Architecture, training: Training, engine: str, sharded: Any, tensor: Any
) -> Any:
    """Temporaries of the optimizer step on this GPU's shard.

    torch's foreach AdamW holds the square root of every second moment at once: one state more
    (measured: 62.756 GiB = 5 × 12.551 GiB for Llama-2-7B in pure bf16). DeepSpeed flattens its
    shard of the gradients in 32 bit and hands torch's AdamW one tensor of it; ZeRO-3 takes
    ``sub_group_size`` elements at a time. Fused and 8-bit kernels hold nothing. Adafactor and Muon
    go matrix by matrix: three 32-bit copies; five 16-bit ones (Newton-Schulz).
    """
    f, kind = formats(training, engine), training.optimizer
    if engine == "deepspeed" and zero_stage(training) > 0:
        group = zero_group(training, sharded)
        return group * (WIDE + (f.state if kind == "adamw" else 0))
    largest = largest_matrix(arch) if training.method == "full" else 0
    if kind == "adamw" and engine in ("transformers", "fsdp"):
        return sharded * f.state
    if kind == "adafactor":
        return np.minimum(sharded, largest / tensor) * 3 * WIDE
    if kind == "muon":
        return np.minimum(sharded, largest_matrix(arch, ends=False) / tensor) * 5 * HALF
    return 0.0 * sharded


def upcasts_base(training: Training, precision: str, engine: str) -> bool:
    """Whether what bitsandbytes leaves of a base is raised to 32 bit: ends, packed experts.

    PEFT's ``prepare_model_for_kbit_training`` does so for bitsandbytes models, in the same call
    that switches gradient checkpointing on. 8-bit products keep their inputs as wide as they come
    (bitsandbytes ``MatMul8bitLt``), so there it tells without checkpointing too; in pure BF16 an
    8-bit base is taken for GPTQ's, which PEFT leaves as it is.
    """
    called = training.gradient_checkpointing
    if precision != "nf4":
        called = precision == "int8" and training.mixed_precision != "pure_bf16"
    return training.method == "qlora" and engine == "transformers" and called


def autocasts_base(training: Training, precision: str, engine: str) -> bool:
    """Whether a frozen base with 32-bit ends is used under autocast.

    The stream between layers is 32 bit then, and the head's 16-bit copy lives until the head's
    backward (autocast keeps no cache of frozen weights). Four runs on an H200 held 1.0 to 1.2 GiB
    more for a head of 622 million (own measurement).
    """
    if training.method == "full" or engine != "transformers":
        return False
    wide = precision == "fp32" or upcasts_base(training, precision, engine)
    return wide and training.mixed_precision not in ("pure_bf16", "fp32")


def training_state(
    arch: Architecture, precision: str, training: Training, engine: str,
    tensor: Any, pipeline: Any, expert: Any, data: Any,
) -> State:  # fmt: skip
    """Return the persistent bytes of the fullest GPU.

    Args:
        arch: The model.
        precision: Stored precision of a frozen base (resolved, not ``auto``).
        training: How it is trained.
        engine: ``transformers deepspeed fsdp megatron``.
        tensor: Tensor-parallel ranks; like the next three a number or an array.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Data-parallel ranks.
    """
    f = formats(training, engine)
    plain = weight_table(arch, "bf16", "transformers")
    elements = plain.per_gpu(tensor, pipeline, expert) / HALF
    share = elements / max(1.0, plain.total / HALF)
    alone = training.sharding in ("none", "ddp") and engine in ("transformers", "fsdp")
    slack: Any = 0.0
    if training.method == "full":
        trainable, base, adapters = elements, elements * f.weight, 0.0 * elements
        if alone:
            slack = block_slack(arch, f.weight)
    else:
        stored = weight_table(arch, precision, "transformers")
        base = stored.per_gpu(tensor, pipeline, expert)
        if alone and precision in ("bf16", "fp16"):
            slack = block_slack(arch, HALF)
        if upcasts_base(training, precision, engine):
            wide = sum(_end_parameters(arch)) + arch.packed_expert_parameters
            base = base + wide * share * HALF
        count = adapter_parameters(arch, training.lora_rank, training.lora_targets)
        trainable = count * share  # A or B is whole on every tensor-parallel rank: at most 2×
        adapters = trainable * f.weight
    one = np.where((np.asarray(tensor) == 1) & (np.asarray(pipeline) == 1), 1.0, 0.0)
    base = base + slack * one

    by = training.sharding
    zero = zero_stage(training) if engine == "deepspeed" else 0
    split = np.maximum(1, np.asarray(data))
    weight_split = split if by in SHARDED_WEIGHTS else 1
    # ZeRO-1 keeps whole gradients only from one micro-batch to the next.
    parted = by in SHARDED_GRADIENTS or (zero == 1 and training.gradient_accumulation == 1)
    gradient_split = split if parted else 1
    state_split = split if by in SHARDED_STATES else 1
    weights = (base + adapters) / weight_split
    gradients = trainable * f.gradient / gradient_split
    states = optimizer_bytes(arch, training, engine, trainable, share) / state_split
    step = _step_bytes(arch, training, engine, trainable / state_split, tensor)
    buffers = _buckets(training, engine, trainable, f.gradient, split)
    reduction = 0.0 * elements
    if zero:
        buffers, reduction = _zero_buffers(arch, training, trainable, f.gradient, split)
    host = 0.0 * elements
    place = training.offload
    if place != "none":
        # ZeRO-Offload: 32-bit gradients follow the states to the host (arXiv 2101.06840).
        moves = parted or place == "parameters"
        if zero:
            host = _zero_host(training, states, trainable / split, f.master)
        else:
            host = host + states + (gradients * (WIDE / f.gradient) if moves else 0.0)
        states, step = 0.0 * states, 0.0 * step
        gradients = 0.0 * gradients if moves else gradients
    if place == "parameters":
        host = host + (_pinned(weights) if zero else weights)
        weights = 0.0 * weights
    late = gradients if zero in (1, 2) and training.gradient_accumulation == 1 else 0.0 * gradients
    return State(
        weights=weights,
        gradients=gradients,
        optimizer=states,
        step=step,
        buffers=buffers,
        host=host,
        adapters=0.0 * adapters if place == "parameters" else adapters / weight_split,
        late=late,
        reduction=reduction,
        shard=trainable / state_split,
    )


def _buckets(training: Training, engine: str, trainable: Any, each: int, split: Any) -> Any:
    """Bytes of gradient buckets that live as long as the run.

    Copies on several ranks are DistributedDataParallel's, named or not. It keeps its buckets
    beside the gradients (``gradient_as_bucket_view`` is off by default).
    """
    many = np.where(split > 1, 1.0, 0.0)
    if training.sharding in ("none", "ddp") and engine in ("transformers", "fsdp"):
        return trainable * each * many
    return 0.0 * trainable * many


def _zero_buffers(
    arch: Architecture, training: Training, trainable: Any, each: int, split: Any
) -> tuple[Any, Any]:
    """Bytes of DeepSpeed's buffers: as long as the run, and while gradients are reduced.

    DeepSpeed 0.19, ``runtime/zero/stage3.py`` and ``stage_1_and_2.py``, with the defaults of
    ``runtime/zero/config.py``, which the generated configuration leaves. A bucket has
    ``reduce_bucket_size`` elements however few are trained and however many ranks there are.
    ZeRO-3 allocates one at the start (``_setup_for_real_optimizer``), ZeRO-1 and 2 two of them
    (``overlap_comm``) at the first gradient of each backward (``setup_buckets``). By the time
    that one is full and copied to be reduced, layers have freed more than the copy takes.
    ZeRO-1 and 2 add the shards of further micro-batches to the first one; with states on the host
    they keep a buffer for the largest gradient (``temp_grad_buffer_for_gpu_offload``).
    """
    number = WIDE if training.mixed_precision == "fp32" else HALF
    size = constant("training", "deepspeed_bucket_elements")
    zero = 0.0 * trainable * split
    if zero_stage(training) == 3:
        return zero + size * number, zero
    offload = training.offload != "none"
    largest = largest_matrix(arch) * number if offload and training.method == "full" else 0
    again = 1.0 if training.gradient_accumulation > 1 and not offload else 0.0
    shard = again * trainable * each / split
    return zero + largest, zero + 2 * size * number + shard


def _pinned(size: Any) -> Any:
    """Bytes that PyTorch pins for a tensor: the next power of two (``CachingHostAllocator``)."""
    return np.where(size > 0, 2.0 ** np.ceil(np.log2(np.maximum(size, 1.0))), 0.0)


def _zero_host(training: Training, states: Any, shard: Any, master: int) -> Any:
    """Bytes of states and gradients that DeepSpeed keeps in host memory for a GPU.

    Both pin the 32-bit gradients. ZeRO-1 and 2 pin the master copy and a 16-bit one, ZeRO-3 the
    reduced 16-bit gradients (``stage_1_and_2.py``: ``__init__``, ``initialize_optimizer_states``;
    ``stage3.py``: ``_setup_for_real_optimizer``). Two measured processes held 34.1 and 39.5 GiB,
    of which 31.5 and 33.3 are these; the rest is the libraries' own.
    """
    number = WIDE if training.mixed_precision == "fp32" else HALF
    pinned = _pinned(shard * WIDE) + _pinned(shard * number)
    if zero_stage(training) == 3:
        return states + pinned
    return states - shard * master + _pinned(shard * master) + pinned
