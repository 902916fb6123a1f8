"""Predicted against measured: the table that says how right the engine is.

A case is one line of JSON: ``{"id", "source", "group", "quality", "scenario", "measured": {path:
value}}``; each key of ``measured`` is a path into the Estimate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configurator import intervals
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate, running_engine
from configurator.scenario import Scenario, parse_scenario

# Paths whose estimate carries an interval of its own, and where it stands.
_INTERVALS = {"memory.total_gib": ("memory.total_low_gib", "memory.total_high_gib")}


@dataclass(frozen=True)
class Comparison:
    """One measured figure beside ours.

    Attributes:
        case: Id of the case.
        source: Where it was measured.
        quality: A: exact conditions known; B: one assumption.
        quantity: Path into the Estimate.
        engine, task, gpu, model: Of the scenario.
        predicted, measured: In the quantity's unit.
        low, high: Our 90 % interval; None where the quantity has none.
        rule: The rule of thumb's figure for it; None where it says nothing.
    """

    case: str
    source: str
    quality: str
    quantity: str
    engine: str
    task: str
    gpu: str
    model: str
    predicted: float
    measured: float
    low: float | None
    high: float | None
    rule: float | None

    @property
    def error(self) -> float:
        """Predicted ÷ measured − 1."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured figure lies in the interval."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Row:
    """One line of the table: errors are shares, not percent."""

    quantity: str
    engine: str
    task: str
    n: int
    median: float
    mean: float
    p90: float
    worst: float
    bias: float
    coverage: float | None
    rule_median: float | None


def rule_of_thumb(answer: Estimate, quantity: str) -> float | None:
    """What the usual rule says: weights × 1.2 to serve, 16 bytes a parameter to train.

    LoRA: weights × 1.2 and nothing for activations. GiB; None for what the rule does not cover.
    """
    if quantity not in ("memory.total_gib", "memory.peak_allocated_gib", "memory.reserved_gib"):
        return None
    gib = answer.architecture.parameters / 2**30
    bits = {
        "fp32": 32, "fp8": 8, "int8": 8, "int4": 4, "nf4": 4, "mxfp4": 4, "nvfp4": 4, "q8_0": 8,
        "q6_k": 6, "q5_k_m": 5, "q4_k_m": 4, "q4_0": 4, "q3_k_m": 3, "q2_k": 2,
    }  # fmt: skip
    if answer.scenario.is_training and answer.scenario.fitting.method == "full":
        return gib * 16 / answer.split.gpus
    return gib * bits.get(answer.precision, 16) / 8 * 1.2 / answer.split.gpus


def _at(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def read_cases(*folders: Path) -> list[dict[str, Any]]:
    """Read every ``*.jsonl`` of folders (or files), in name order; of one ``id`` the first case.

    Raises:
        InputError: The folders hold no cases, or a line is not JSON.
    """
    files = [f for at in folders for f in ([at] if at.is_file() else sorted(at.glob("*.jsonl")))]
    cases: dict[str, dict[str, Any]] = {}
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
                cases.setdefault(str(case.get("id", f"{file}:{number}")), case)
            except (ValueError, AttributeError) as error:
                raise InputError(f"{file.name}:{number}", "bad_case", reason=error) from None
    if not cases:
        raise InputError("--truth", "no_cases", ", ".join(map(str, folders)))
    return list(cases.values())


def asked(case: Mapping[str, Any]) -> Scenario:
    """Return a case's scenario, with the engine's version where the case names one.

    Raises:
        InputError: Names the field, its value and the way out.
    """
    return parse_scenario({"engine_version": case.get("engine_version"), **case["scenario"]})


def compare(cases: Iterable[Mapping[str, Any]]) -> tuple[list[Comparison], list[str]]:
    """Estimate every case; return the comparisons and a line for each case that failed."""
    found: list[Comparison] = []
    failed: list[str] = []
    for case in cases:
        try:
            answer = estimate(asked(case))
        except InputError as error:
            failed.append(f"{case.get('id')}: {error}")
            continue
        tree = answer.to_dict()
        for quantity, measured in case["measured"].items():
            predicted = _at(tree, quantity)
            if predicted is None:
                failed.append(f"{case.get('id')}: no answer for {quantity}")
                continue
            low_path, high_path = _INTERVALS.get(quantity, (f"{quantity}_low", f"{quantity}_high"))
            found.append(
                Comparison(
                    str(case["id"]),
                    str(case["source"]),
                    str(case.get("quality", "")),
                    quantity,
                    answer.scenario.engine,
                    answer.scenario.task,
                    str(answer.device.id),
                    answer.architecture.name,
                    float(predicted),
                    float(measured),
                    _at(tree, low_path),
                    _at(tree, high_path),
                    rule_of_thumb(answer, quantity),
                )
            )
    return found, failed


def memory_residuals(
    cases: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, list[float]]]:
    """Return measured ÷ estimated − 1 of the device's memory, by engine and task and by vendor.

    A measured total or reserved memory is compared with its estimate, and inside the range that
    varying sample lengths span it counts as met. A measured cache capacity says by how much the
    memory that the engine needs beside its pool was missed.
    """
    out: dict[str, dict[str, list[float]]] = {}
    for case in cases:
        try:
            answer = estimate(asked(case))
        except InputError:
            continue
        memory, values = answer.memory, []
        measured = case["measured"]
        if "memory.total_gib" in measured and memory.gradients_gib:
            total = measured["memory.total_gib"]
            span = total - min(max(total, memory.required_gib), memory.total_gib)
            values.append(span / memory.total_gib)
        elif "memory.total_gib" in measured:
            values.append(measured["memory.total_gib"] / memory.total_gib - 1)
        elif "memory.reserved_gib" in measured:
            values.append(measured["memory.reserved_gib"] / memory.reserved_gib - 1)
        if "kv.capacity_tokens" in measured and answer.kv and answer.kv.capacity_tokens:
            pool = memory.kv_cache_gib + memory.spare_pool_gib
            lost = pool * (1 - measured["kv.capacity_tokens"] / answer.kv.capacity_tokens)
            values.append(lost / memory.total_gib)
        name = intervals.key(running_engine(answer.scenario), answer.scenario.task)
        if values:
            out.setdefault(name, {}).setdefault(answer.device.vendor, []).extend(values)
    return out


def _row(key: tuple[str, str, str], items: Sequence[Comparison]) -> Row:
    errors = np.array([c.error for c in items])
    size = np.abs(errors)
    inside = [c.inside for c in items if c.inside is not None]
    rules = [abs(c.rule / c.measured - 1) for c in items if c.rule is not None]
    return Row(
        *key, len(items), float(np.median(size)), float(size.mean()), float(np.quantile(size, 0.9)),
        float(size.max()), float(errors.mean()),
        float(np.mean(inside)) if inside else None,
        float(np.median(rules)) if rules else None,
    )  # fmt: skip


def table(found: Iterable[Comparison]) -> list[Row]:
    """Sum up the comparisons per quantity, engine and task."""
    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for item in found:
        groups.setdefault((item.quantity, item.engine, item.task), []).append(item)
    return [_row(key, items) for key, items in sorted(groups.items())]


def format_table(rows: Sequence[Row]) -> str:
    """Return the table as aligned text, errors in percent."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    head = (
        "quantity",
        "engine",
        "task",
        "n",
        "median",
        "mean",
        "p90",
        "worst",
        "bias",
        "inside",
        "rule of thumb",
    )
    lines = [head]
    for r in rows:
        lines.append((
            r.quantity, r.engine, r.task, str(r.n), percent(r.median), percent(r.mean),
            percent(r.p90), percent(r.worst), percent(r.bias), percent(r.coverage),
            percent(r.rule_median),
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def report(found: Sequence[Comparison], failed: Sequence[str]) -> dict[str, Any]:
    """Return table, cases and failures as plain JSON values."""
    return {
        "table": [asdict(r) for r in table(found)],
        "cases": [{**asdict(c), "error": c.error} for c in found],
        "failed": list(failed),
    }


def dump_report(result: Mapping[str, Any]) -> str:
    """Return a report as JSON with one case a line, figures cut to six digits."""

    def cut(value: Any) -> Any:
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def line(row: Mapping[str, Any]) -> str:
        return json.dumps({k: cut(v) for k, v in row.items()}, ensure_ascii=False)

    parts = [
        f'"{name}": [\n' + ",\n".join(line(r) for r in result[name]) + "\n]"
        for name in ("table", "cases")
    ]
    return "{\n" + ",\n".join([*parts, f'"failed": {json.dumps(result["failed"])}']) + "\n}\n"


# A median may move by this much (share of the measured value) without being called worse.
MEDIAN_TOLERANCE = 0.001


def worse_than(rows: Sequence[Row], published: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which medians are worse than the published ones, and which rows went missing."""
    now = {(r.quantity, r.engine, r.task): r for r in rows}
    out = []
    for old in published:
        key = (old["quantity"], old["engine"], old["task"])
        row = now.get(key)
        if row is None:
            out.append(f"{' '.join(key)}: no cases any more")
        elif row.median > old["median"] + MEDIAN_TOLERANCE:
            out.append(f"{' '.join(key)}: median {row.median:.2%}, published {old['median']:.2%}")
    return out
