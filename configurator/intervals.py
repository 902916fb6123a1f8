"""The 90 % interval of the device total: residuals of measured cases, by engine and task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configurator.catalog import catalog_dir, parse_yaml

FILE = "intervals.yaml"
LEVEL = 0.9
# Fewer cases than this say too little: the default interval is used.
FEWEST = 8
# From so many on a sample shows its tails of 5 %; below, normal ones count too.
ENOUGH = 19
STUDENT = 1.895  # 95 % quantile at FEWEST − 1 degrees of freedom, the widest that is needed
# Drivers and libraries differ by as much: an interval is never narrower.
LEAST = 0.02
# Where nothing was measured: serving engines follow rules that can be read, the caching allocator
# of sharded training was seen to hold up to 50 % more than its share (DeepSpeed, before its
# buffers were modelled).
DEFAULT = {"inference": (-0.10, 0.12), "training": (-0.25, 0.50)}


def _kind(task: str) -> str:
    return "inference" if task == "inference" else "training"


def key(engine: str, task: str) -> str:
    """Name of an engine's interval for serving or for training."""
    return f"{engine}_{_kind(task)}"


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Any]]:
    path = catalog_dir() / FILE
    table: dict[str, dict[str, Any]] = parse_yaml(path.read_text(encoding="utf-8"))
    return table["intervals"]


def interval(engine: str, task: str, vendor: str) -> tuple[float, float]:
    """Return the interval's ends relative to the estimate, e.g. ``(-0.03, 0.05)``.

    On cards of a maker that no case is of, they are those of an engine without cases, or the
    engine's own where that is further out.
    """
    row = _table().get(key(engine, task))
    low, high = DEFAULT[_kind(task)]
    if row is None:
        return low, high
    if vendor in row["vendors"]:
        return row["low"], row["high"]
    return min(low, row["low"]), max(high, row["high"])


def from_residuals(residuals: Iterable[float]) -> tuple[float, float] | None:
    """Return the ends that hold ``LEVEL`` of the cases, or None where there are too few.

    The quantiles are taken one case further out than the sample's own (as in split conformal
    prediction), so that a new case falls inside with the stated share. Few cases seldom hold the
    extremes: there the interval also holds the normal prediction interval,
    ``mean ± t · s · √(1 + 1/n)``.

    Args:
        residuals: measured ÷ estimated − 1.
    """
    values = np.sort(np.asarray(list(residuals), float))
    n = len(values)
    if n < FEWEST:
        return None
    tail = (1 - LEVEL) / 2
    low = values[max(0, int(np.floor(tail * (n + 1))) - 1)]
    high = values[min(n - 1, int(np.ceil((1 - tail) * (n + 1))) - 1)]
    if n < ENOUGH:
        middle, reach = values.mean(), STUDENT * values.std(ddof=1) * np.sqrt(1 + 1 / n)
        low, high = min(low, middle - reach), max(high, middle + reach)
    return float(min(low, -LEAST)), float(max(high, LEAST))


def write(residuals: Mapping[str, Mapping[str, list[float]]], today: date) -> Path:
    """Write ``catalog/intervals.yaml`` and return its path.

    Args:
        residuals: By :func:`key` and vendor.
        today: The date that stands in the file.
    """
    rows: dict[str, Any] = {}
    for name, by_vendor in sorted(residuals.items()):
        values = [value for found in by_vendor.values() for value in found]
        ends = from_residuals(values)
        if ends is not None:
            rows[name] = {
                "low": round(ends[0], 4), "high": round(ends[1], 4), "n": len(values),
                "vendors": sorted(by_vendor.keys() - {"custom"}),
            }  # fmt: skip
    text = (
        "# 90 % intervals of the memory needed, relative to the estimate. Written by\n"
        "# `configurator calibrate` from measured cases: device totals, reserved memory, and for\n"
        "# engines with a cache pool the pool's deviation as a share of the memory needed.\n"
    )
    body = yaml.safe_dump(
        {"date": today.isoformat(), "level": LEVEL, "intervals": rows}, sort_keys=False
    )
    path = catalog_dir() / FILE
    path.write_text(text + body, encoding="utf-8")
    _table.cache_clear()
    return path
