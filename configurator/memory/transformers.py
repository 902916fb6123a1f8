"""What transformers holds beside weights and cache: attention, unpacked weights, lost fragments."""

from __future__ import annotations

from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.memory.weights import stored_bits


def attention_step(
    arch: Architecture, sequences: Any, prompt: float, bits: float, tensor: Any
) -> tuple[float, Any]:
    """Bytes of transformers' mask of a prompt beyond a window, and of its attention at the widest.

    PyTorch's kernels take such a mask as booleans, one for all sequences, and make numbers of it;
    key and value are repeated for the query's heads. Families without a kernel write the scores
    out, three tensors at once (measured on an H200 with transformers 5.17: 16k and 32k tokens of
    Gemma 3 and Mistral 0.1, 2k and 4k of gpt-oss, GPT-J, BLOOM and MPT).

    Args:
        arch: The model.
        sequences: Prompts at once.
        prompt: Tokens of each.
        bits: Bits of a compute number.
        tensor: Tensor-parallel ranks.
    """
    size = bits / 8
    layers = [group.layer for group in arch.groups if group.layer.heads]
    mask = prompt**2 if any(layer.window and layer.window < prompt for layer in layers) else 0.0
    widest: Any = 0.0
    for layer in layers:
        each = layer.eager.scores
        if not each and not mask:
            continue
        scores = 3.0 * each * layer.heads / tensor * sequences * prompt**2
        query, key = layer.heads * layer.qk_dim, layer.kv_heads * layer.qk_dim
        live = 2 * arch.hidden_size + (4 * query + 2 * key) / tensor
        tensors = sequences * prompt * live * size
        widest = np.maximum(widest, tensors + (scores if each else (1 + size) * mask))
    return mask, widest


def dequantised_bytes(arch: Architecture, precision: str) -> float:
    """Bytes of the largest weight that is unpacked to 16 bit for a product (bitsandbytes)."""
    if precision != "nf4":
        return 0.0
    tensors = [(m, g.layer) for g in arch.groups for m in g.layer.matrices]
    return arch.unpacked_copies * max(
        (
            m.out_features * m.in_features * 2.0
            for m, layer in [*tensors, *((m, None) for m in arch.ends)]
            if m.linear and stored_bits(m, precision, arch, "transformers", layer) < 16
        ),
        default=0.0,
    )


def cache_fragments(arch: Architecture, kv: Any, prompt: float, sequences: Any, bits: float) -> Any:
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
