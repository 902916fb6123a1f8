"""What DeepSpeed's ZeRO reserves beyond its live tensors, from its own buffers.

Read from DeepSpeed 0.19.8 (``deepspeed/runtime/zero``: ``stage3.py``, ``stage_1_and_2.py``,
``partitioned_param_coordinator.py``, ``partition_parameters.py``) and met by memory snapshots of
runs with ZeRO-1, 2 and 3 on two H200. PyTorch's caching allocator keeps a pool for each stream,
and a block freed in one stream never serves another. With ``overlap_comm`` there are three:

- computing, which also holds weights, states and buckets;
- gathering (ZeRO-3): the whole parameters, up to ``stage3_max_live_parameters``;
- reducing: copies of full buckets, the shard of the gradients in ZeRO-1 and 2, and in 64 bit what
  a norm is taken of when the states are on the host.

The states are flat tensors as large as the shard. They come in the first step, when the cache
holds what the first backward left, and a freed block of activations is seldom large enough.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.engines import constant
from configurator.memory.training_state import (
    HALF,
    WIDE,
    State,
    largest_matrix,
    zero_group,
    zero_stage,
)
from configurator.scenario import Training

DOUBLE = 8
LOGITS = 2.5  # 10 bytes a logit beside 4: what a batch with so much smaller blocks lacks at least
END_GATHERS = 2  # the embedding's and the head's blocks, split by layers before they come again


def gather_pool(arch: Architecture, whole: Any, each: float, compute: int, ranks: Any) -> Any:
    """Bytes that the gathering stream keeps beyond the live parameters.

    Where not all parameters stay whole, embedding and head are gathered anew in every pass, and
    the blocks that they had are split by layers in between. A prefetch of several parameters
    comes in one buffer (``_all_gather_dtype``) that is copied out (``wait``); a single rank
    needs none.

    Args:
        arch: The model.
        whole: Parameters of the GPU before sharding.
        each: Bytes a parameter as gathered.
        compute: Bytes a parameter of embedding and head.
        ranks: Data-parallel ranks.
    """
    live = constant("training", "deepspeed_live_parameters")
    prefetch = constant("training", "deepspeed_prefetch_elements") * each
    ends = END_GATHERS * largest_matrix(arch) * compute * np.where(whole > live, 1.0, 0.0)
    return ends + np.where(ranks > 1, prefetch, 0.0)


@lru_cache(maxsize=1024)
def bucket_copies(arch: Architecture, size: float) -> float:
    """Elements of the blocks that copies of full buckets take in the reducing stream.

    Gradients come from the head to the embedding and fill a bucket while they fit. A block is
    new where no earlier one was as large. A gradient larger than the bucket is reduced alone,
    without a copy.
    """
    head = [m.parameters for m in arch.ends if m.role == "head"]
    first = [m.parameters for m in arch.ends if m.role not in ("head", "norm")]
    order = list(head)
    for group in reversed(arch.groups):
        layer = [
            m.out_features * m.in_features
            for m in reversed(group.layer.matrices)
            for _ in range(m.count)
        ]
        order += layer * group.count
    order += first
    total, largest, filled = 0.0, 0.0, 0.0
    for elements in [*order, size + 1]:
        if filled + elements > size:
            if largest < filled <= size:
                total, largest = total + filled, filled
            filled = 0.0
        filled += elements
    return total


def reduce_pool(arch: Architecture, training: Training, state: State, ranks: Any) -> Any:
    """Bytes of the reducing stream's pool.

    Args:
        arch: The model.
        training: Method, precision and offload.
        state: Persistent bytes.
        ranks: Data-parallel ranks.
    """
    number = WIDE if training.mixed_precision == "fp32" else HALF
    zero3, full = zero_stage(training) == 3, training.method == "full"
    size = constant("training", "deepspeed_bucket_elements")
    copies = (bucket_copies(arch, size) if full else 0.0) * number
    pool = copies * np.where((ranks > 1) | zero3, 1.0, 0.0)
    if training.offload == "none" or not full:
        return pool + (state.gradients if not zero3 else 0.0)
    # get_norm_dtype: the layers' largest gradient first, then the embedding's or the head's.
    share = np.maximum(1, ranks) if zero3 else 1.0
    part = constant("training", "deepspeed_norm_elements") if zero3 else np.inf
    inner, outer = largest_matrix(arch, ends=False) / share, largest_matrix(arch) / share
    norms = np.minimum(outer, part) + np.where(outer > inner, np.minimum(inner, part), 0.0)
    return pool + DOUBLE * norms


def reserved_flat(
    training: Training, shard: Any, states: Any, step: Any, first: Any, active: Any, block: Any,
    buckets: Any,
) -> Any:  # fmt: skip
    """Bytes of the computing stream after the first steps, which allocate the states.

    Two states a sub-group, and for the largest one the 32-bit gradient and AdamW's square root,
    each a flat tensor of 4 bytes an element (``_prepare_fp32_grad_for_sub_group``,
    ``_optimizer_step``). A cached block serves one only if it is as large, and the largest that
    the first backward leaves are three of 32-bit logits and one of 16-bit ones, or the two
    buckets of ZeRO-1 and 2:

    - states larger than those are all allocated beside them;
    - a state that fills more than half of one takes it whole, and the next forward pass needs
      another; the gradient takes the third, the square root is new;
    - of smaller ones a pair shares a block.

    The smaller states of a last sub-group take such blocks too. Where they are too large for
    them they lie in what the largest sub-group's temporaries left, and the second step allocates
    these anew. Smaller batches than this one are looked at too: the blocks of a larger one may
    serve states that those of a smaller one do not, but nobody plans on needing less for more
    (Qwen2.5-3B with ZeRO-3 on two H200 is past such a point and held 11 % less than is said here).

    Args:
        training: The ZeRO stage.
        shard: Trained elements whose states the GPU holds.
        states: Bytes of the states, master copy left out.
        step: Temporaries of the step.
        first: Persistent bytes before the first step.
        active: Activations and slack in the first backward.
        block: Bytes of the 32-bit logits.
        buckets: Bytes of buckets, of ``active``.
    """
    group = zero_group(training, shard)
    number = np.floor(shard / np.maximum(1.0, group))
    large, small = group * WIDE, (shard - number * group) * WIDE
    groups = states * number * group / np.maximum(1.0, shard)
    most: Any = first + active
    for size in (block, *(np.minimum(block, x) for x in (large, 2 * large, small))):
        grown = np.maximum(buckets, active - LOGITS * (block - size))
        cached = np.maximum(size, buckets / 2)
        whole = 2 * number * cached + step - large
        new = np.where(large >= cached, groups + step, np.where(2 * large >= cached, whole, cached))
        displaced = np.where((small >= cached) & (small > 0) & (number > 0), step, 0.0)
        most = np.maximum(most, first + grown + new + displaced)
    return most
