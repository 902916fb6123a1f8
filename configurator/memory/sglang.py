"""SGLang's own defaults: tokens of a prefill step, and the static share of a card's memory.

Source: SGLang 0.5.3 to 0.5.16, srt/server_args.py (pull request 10975), restated; older rules from
the same file of 0.4.6 and 0.4.8 (pull request 7054).
Every function broadcasts over its numeric arguments.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from configurator.scenario import Inference
from configurator.units import GIB, MIB

# A card's memory from here on, GiB: tokens of a prefill step, and the largest batch of its CUDA
# graphs under four tensor-parallel ranks and from four on.
SIZES = (
    (0, 2048, 8, 8),
    (20, 2048, 24, 80),
    (35, 4096, 32, 160),
    (60, 8192, 256, 512),
    (160, 16384, 512, 512),
)
# Before 0.5.3 a card from so many GiB on kept back so many, and so many more for each rank.
RESERVED = ((0, 2.8, 0.1), (35, 9.5, 0.5), (90, 12.0, 0.5), (160, 32.0, 0.0))
# Before 0.4.7 the share was by tensor-parallel ranks.
SHARES = ((1, 0.88), (2, 0.87), (4, 0.85), (8, 0.81), (16, 0.79))
BY_RANKS_ENDS, BY_TABLE_ENDS = (0, 4, 7), (0, 5, 3)


def _row(table: tuple[tuple[float, ...], ...], size: Any) -> tuple[Any, ...]:
    """Columns of the last row of a table whose first number is not above ``size``."""
    place = np.searchsorted([row[0] for row in table], size, side="right") - 1
    return tuple(np.array(column)[place] for column in zip(*table, strict=True))[1:]


def prefill_tokens(inference: Inference, memory_bytes: Any) -> Any:
    """Tokens of a prefill step: as asked for, or ``chunked_prefill_size`` by the card's memory."""
    return inference.max_num_batched_tokens or _row(SIZES, np.asarray(memory_bytes) / GIB)[0]


def static_share(
    inference: Inference, memory_bytes: Any, tensor: Any, pipeline: Any, version: str | None = None
) -> Any:
    """Share of a card's free memory for weights and cache, ``mem_fraction_static``.

    As asked for, or what a metadata reserve of 512 MiB, 1.5 MiB a token of a prefill step, 2 MiB a
    sequence of the largest CUDA graph and 128 MiB a rank leave; from 60 GiB on at most all but 10.

    Args:
        inference: The load.
        memory_bytes: The card's memory.
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
        version: As text; without a number the newest is meant.
    """
    if inference.gpu_memory_utilization:
        return inference.gpu_memory_utilization
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    number = tuple(int(part or 0) for part in found.groups()) if found else BY_TABLE_ENDS
    if number < BY_RANKS_ENDS:
        return _row(SHARES, tensor)[0]
    gib, ranks = np.asarray(memory_bytes) / GIB, np.asarray(tensor) * np.asarray(pipeline)
    if number < BY_TABLE_ENDS:
        fixed, each = _row(RESERVED, gib)
        reserved = fixed + each * ranks
    else:
        _, few, many = _row(SIZES, gib)
        tokens = np.maximum(2048, prefill_tokens(inference, memory_bytes))
        graphs = np.where(np.asarray(tensor) < 4, few, many)
        reserved = (512 + 1.5 * tokens + 2 * graphs + 128 * ranks) * MIB / GIB
        reserved = np.where(gib > 60, np.maximum(10, reserved), reserved)
    return np.round(1 - reserved / gib, 3)
