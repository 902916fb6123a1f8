"""llama.cpp's compute buffer, as its builds lay it out."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from configurator.architecture import Architecture

# Builds of llama.cpp from which flash attention is on by default (August 2025), and from which
# the mask is 16 bit and llama-server makes room for one row of logits a sequence (June 2026).
FLASH_BUILD, LEAN_BUILD = 6325, 9500


def build(version: str | None) -> float:
    """Read a build's number from text ("llama.cpp b6325"); without one the newest is meant."""
    found = re.search(r"\bb(\d{3,5})\b", version or "")
    return float(found[1]) if found else math.inf


def compute_bytes(
    arch: Architecture, step: Any, length: float, sequences: Any, kv_bits: float,
    version: str | None = None,
) -> Any:  # fmt: skip
    """llama.cpp's compute buffer: the widest point of the graph for one micro-batch, 32 bit.

    Either the logits beside the last hidden states; or a layer's gate and up beside the residual
    stream, its norm and the mask; or attention: the mask in 32 and 16 bit, or without flash
    attention the scores (src/llama-graph.cpp, ``build_attn_inp_kq_mask`` and ``build_attn_mha``;
    src/llama-context.cpp, ``sched_reserve``). CUDA's flash attention unpacks one layer's quantised
    cache to 16 bit (``launch_fattn``).

    Args:
        arch: The model.
        step: Tokens of a micro-batch.
        length: Cells of one sequence's cache.
        sequences: Sequences held at once.
        kv_bits: Bits of a cached number.
        version: Of llama.cpp, where an older one is meant.
    """
    number = build(version)
    flash, lean = number >= FLASH_BUILD, number >= LEAN_BUILD
    ffn = max((g.layer.ffn * max(1, g.layer.experts_per_token) for g in arch.groups), default=0)
    caches = [(g.layer, c) for g in arch.groups for c in g.layer.cache if c.elements_per_token]
    heads = max((layer.heads for layer, _ in caches), default=0)
    rows = np.minimum(step, sequences) if lean else step
    head = (rows * arch.vocab_size + step * arch.hidden_size) * 4.0
    mask = 2.0 if flash else 4.0
    layer = step * ((2 * ffn + 2 * arch.hidden_size) * 4.0 + length * mask)
    cell = mask if lean else 6.0 if flash else mask + 4.0 * heads
    attention = step * (3 * arch.hidden_size * 4.0 + length * cell)
    if flash and kv_bits < 16:
        attention = attention + 2.0 * sequences * max(
            (c.elements_per_token * min(length, c.window or length) for _, c in caches), default=0.0
        )
    return np.maximum(np.maximum(head, layer), attention)
