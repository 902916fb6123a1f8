"""Measured cases as the formulas of speed need them: one row a measured quantity.

A row's plan, loads and cache are those that an estimate of the same scenario is made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configurator.errors import InputError
from configurator.estimate import architecture_of, device_of, held_memory, served_precisions
from configurator.memory.weights import resolve_precision
from configurator.parallelism import choose_split
from configurator.performance.coefficients import FAMILIES, chip_of, model_key, precision_class
from configurator.performance.serving import HELD_OUTPUT, make_plan
from configurator.performance.training import make_training_plan
from configurator.performance.workload import Workload, workload
from configurator.validate import asked

# One standard deviation that the fit expects of a quantity's log error; sets the weights.
EXPECTED_ERROR = {
    "ttft_s": 0.25, "tpot_s": 0.12, "output_tokens_per_s": 0.08, "prefill_tokens_per_s": 0.2,
    "decode_tokens_per_s": 0.08, "train_tokens_per_s": 0.12,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measured quantity of one case, ready for the formulas."""

    case: str
    group: str
    family: str
    engine: str
    model: str
    card: str
    quantity: str
    measured: float
    context: Mapping[str, str]
    workload: Workload
    plan: Any
    inputs: tuple[float, ...]


def read_rows(cases: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the speed measurements of cases; cases without any give none."""
    rows: list[Row] = []
    for case in cases:
        wanted = {
            k.removeprefix("performance."): v
            for k, v in case["measured"].items()
            if k.removeprefix("performance.") in EXPECTED_ERROR
        }
        if wanted:
            rows += _case_rows(case, wanted)
    return rows


def _case_rows(case: Mapping[str, Any], wanted: Mapping[str, float]) -> list[Row]:
    scenario = asked(case)
    hardware = scenario.hardware
    if hardware is None:
        raise InputError("hardware", "hardware_required")
    arch, device, engine = architecture_of(scenario), device_of(hardware.gpu), scenario.engine
    split = choose_split(scenario, arch, int(device.domain_size))
    ranks = (split.tensor, split.pipeline, split.expert, split.data)
    context = {
        "engine": engine, "architecture": device.architecture, "card": chip_of(device.id),
        "vendor": device.vendor, "segment": device.segment,
    }  # fmt: skip
    inputs: tuple[float, ...] = ()
    plan: Any
    if scenario.is_training:
        family, context["precision"] = "training", scenario.fitting.method
        precision = resolve_precision(scenario, arch)
        sums = workload(arch, precision, "bf16", engine)
        plan = make_training_plan(precision, scenario.fitting, engine, device, *ranks)
    else:
        family, serving = FAMILIES[engine], scenario.serving
        precision, kv = served_precisions(scenario, arch)
        own = arch.quantization
        method = own.method if own and own.precision == precision else None
        context["precision"] = precision_class(precision, method)
        sums = workload(arch, precision, kv, engine)
        plan = make_plan(arch, precision, engine, serving, device, *ranks)
        held = held_memory(scenario, arch, device, *ranks)
        inputs = (
            float(serving.concurrency), float(serving.input_tokens), float(serving.output_tokens),
            float(np.floor(held.capacity_tokens)) / split.data, HELD_OUTPUT.get(engine, 0.5),
            float(serving.max_num_seqs or 1e9),
        )  # fmt: skip
    return [
        Row(
            case["id"],
            case["group"],
            family,
            engine,
            model_key(arch),
            device.id,
            quantity,
            float(value),
            context,
            sums,
            plan,
            inputs,
        )
        for quantity, value in wanted.items()
    ]
