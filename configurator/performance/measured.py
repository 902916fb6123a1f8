"""Measured cases as the formulas need them: one row a measured quantity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from configurator.architecture import read_architecture
from configurator.catalog import load_catalog
from configurator.device import Device, from_catalog, from_custom
from configurator.memory.kv_cache import resolve_kv_precision
from configurator.memory.weights import resolve_precision
from configurator.parallelism import choose_split
from configurator.performance.coefficients import FAMILIES, model_key, precision_class
from configurator.performance.serving import HELD_OUTPUT, capacity_tokens, make_plan
from configurator.performance.training import make_training_plan
from configurator.performance.workload import Workload, workload
from configurator.scenario import Scenario, parse_scenario

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


def _device(scenario: Scenario) -> Device:
    hardware = scenario.hardware
    assert hardware is not None
    if isinstance(hardware.gpu, str):
        return from_catalog(load_catalog().gpu(hardware.gpu))
    return from_custom(hardware.gpu)


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
    scenario = parse_scenario(case["scenario"])
    model = scenario.model
    if isinstance(model, str):
        raise ValueError(f"{case['id']}: the case must carry its model's config")
    arch = read_architecture(getattr(model, "config", None), getattr(model, "name", "model"))
    device, engine = _device(scenario), scenario.engine
    precision = resolve_precision(scenario, arch)
    split = choose_split(scenario, arch, int(device.domain_size))
    own = arch.quantization
    method = own.method if own and own.precision == precision else None
    context = {
        "engine": engine, "architecture": device.architecture, "card": device.id,
        "vendor": device.vendor, "segment": device.segment,
        "precision": precision_class(precision, method),
    }  # fmt: skip
    inputs: tuple[float, ...] = ()
    plan: Any
    if scenario.is_training:
        family, context["precision"] = "training", scenario.fitting.method
        sums = workload(arch, precision, "bf16", engine)
        plan = make_training_plan(
            precision, scenario.fitting, engine, device, split.tensor, split.pipeline,
            split.expert, split.data,
        )  # fmt: skip
    else:
        family, serving = FAMILIES[engine], scenario.serving
        kv = resolve_kv_precision(
            scenario.kv_cache_precision, engine, precision, arch.native_precision, own
        )
        sums = workload(arch, precision, kv, engine)
        plan = make_plan(
            arch, precision, engine, serving, device, split.tensor, split.pipeline, split.expert,
            split.data,
        )  # fmt: skip
        room = capacity_tokens(
            sums, plan, device.memory_bytes, serving.gpu_memory_utilization or 0.9,
            float(serving.context_tokens),
        )  # fmt: skip
        inputs = (
            float(serving.concurrency), float(serving.input_tokens), float(serving.output_tokens),
            float(room), HELD_OUTPUT.get(engine, 0.5), float(serving.max_num_seqs or 1e9),
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
