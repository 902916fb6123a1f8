"""Measure this machine's card: memory bandwidth and matrix rates, in about a minute.

Needs torch with CUDA or ROCm, which the product does not install. The result is a card for
``hardware.gpu``: what was measured, divided by what a healthy card of known figures reaches in the
same test, so that it compares with the catalog's datasheet figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from configurator.engines import constant
from configurator.errors import InputError
from configurator.units import GIB

MATRIX = 8192
COPY_BYTES = 4 * GIB
WARM_UP = 3
_DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise InputError("measure", "needs_torch") from None
    if not torch.cuda.is_available():
        raise InputError("measure", "torch_no_gpu")
    return torch


def _seconds(torch: Any, action: Callable[[], Any], budget_s: float) -> float:
    """Return the median seconds of one call, timed on the device."""
    for _ in range(WARM_UP):
        action()
    torch.cuda.synchronize()
    times: list[float] = []
    end = time.monotonic() + budget_s
    while time.monotonic() < end or len(times) < WARM_UP:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) / 1e3)
    return sorted(times)[len(times) // 2]


def measure_card(index: int = 0, budget_s: float = 60.0) -> dict[str, Any]:
    """Time a large copy and square matrix products on one card.

    Args:
        index: Which card, as torch counts them.
        budget_s: Seconds for all tests together.

    Returns:
        ``{"gpu": card for hardware.gpu, "measured": figures as timed, "timestamp", "torch"}``.

    Raises:
        InputError: torch is missing, or sees no GPU or not this one.
    """
    torch = _torch()
    if not 0 <= index < torch.cuda.device_count():
        raise InputError(
            "measure.index", "index_between", index, most=torch.cuda.device_count() - 1
        )
    torch.cuda.set_device(index)
    share = budget_s / (1 + len(_DTYPES))
    free, total = torch.cuda.mem_get_info(index)
    size = int(min(COPY_BYTES, free // 4))
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = _seconds(torch, partial(target.copy_, source), share)
    del source, target
    measured: dict[str, float] = {"copy_gbps": 2 * size / copy_s / 1e9}
    card: dict[str, Any] = {
        "name": f"{torch.cuda.get_device_name(index)} (measured)",
        "memory_gib": total / GIB,
        "bandwidth_gbps": measured["copy_gbps"] / constant("measure", "copy_share"),
    }
    for precision, dtype in _DTYPES.items():
        kind = getattr(torch, dtype)
        left = torch.randn(MATRIX, MATRIX, device="cuda").to(kind)
        right = torch.randn(MATRIX, MATRIX, device="cuda").to(kind)
        result = torch.empty(MATRIX, MATRIX, device="cuda", dtype=kind)
        seconds = _seconds(torch, partial(torch.mm, left, right, out=result), share)
        measured[f"{precision}_tflops"] = 2 * MATRIX**3 / seconds / 1e12
        if precision != "fp32":
            card[f"{precision}_tflops"] = measured[f"{precision}_tflops"] / constant(
                "measure", "matrix_share"
            )
        del left, right, result
    card["fp32_tflops"] = measured["fp32_tflops"] / constant("measure", "fp32_share")
    torch.cuda.empty_cache()
    return {
        "gpu": card,
        "measured": measured,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": str(torch.__version__),
    }
