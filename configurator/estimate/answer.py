"""The one function that puts the terms together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from configurator.architecture import Architecture
from configurator.catalog import load_catalog
from configurator.device import Device
from configurator.errors import InputError
from configurator.estimate.asked import (
    architecture_of,
    device_of,
    held_memory,
    holds_mtp,
    memory_interval,
    served_precisions,
)
from configurator.estimate.reasons import (
    serving_terms,
    speed_terms,
    training_speed_term,
    training_terms,
    warnings_of,
)
from configurator.estimate.records import (
    Estimate,
    Fits,
    Kv,
    Memory,
    Notice,
    Performance,
    Term,
)
from configurator.memory.kv_cache import KV_BITS, bytes_per_token
from configurator.memory.training import TrainingMemory, training_memory
from configurator.memory.training_state import as_run
from configurator.memory.weights import resolve_precision, weight_table
from configurator.parallelism import Split, choose_split
from configurator.performance import ServingSpeed, TrainingSpeed, serving_speed, training_speed
from configurator.performance.coefficients import FAMILIES, measured_cards
from configurator.scenario import CustomGpu, Scenario
from configurator.units import GIB


def estimate(scenario: Scenario) -> Estimate:
    """Answer a scenario that names its hardware, with the facts of the built-in catalog.

    Args:
        scenario: What is asked.

    Raises:
        InputError: Names the field, its value and the way out.
    """
    if scenario.hardware is None:
        raise InputError("hardware", "hardware_required")
    arch = architecture_of(scenario)
    device = device_of(scenario.hardware.gpu)
    split = choose_split(scenario, arch, int(device.domain_size))
    precision = resolve_precision(scenario, arch)
    assumptions = [Notice(code, "info", values) for code, values in arch.assumptions]
    if scenario.precision not in ("auto", precision):
        stored = {"asked": scenario.precision, "precision": precision}
        assumptions.append(Notice("quantised_base", "info", stored))
    warnings: list[Notice] = []
    if scenario.is_training:
        memory, kv, performance, terms = _training(
            scenario, arch, device, split, precision, assumptions
        )
    else:
        memory, kv, performance, terms = _serving(
            scenario, arch, device, split, precision, assumptions
        )
    hardware = scenario.hardware
    if hardware.tensor_parallel is None and hardware.gpu_count > 1:
        assumptions.append(
            Notice(
                "split_chosen",
                "info",
                {"tensor": split.tensor, "pipeline": split.pipeline, "data": split.data},
            )
        )
    assumptions += _unsure(scenario, device)
    warnings += warnings_of(scenario, arch, device, split, precision, memory, kv)
    warnings += [*_slow(performance), *_unmeasured(scenario, device, performance)]
    sources = [] if isinstance(hardware.gpu, CustomGpu) else [f"gpu:{device.id}"]
    if isinstance(scenario.model, str):
        sources.append(f"model:{arch.name}")
    sources.append(f"engine:{scenario.engine}")
    return Estimate(
        scenario, arch, device, split, precision, memory, kv, performance, tuple(terms),
        tuple(warnings), tuple(assumptions), tuple(sources),
    )  # fmt: skip


def _unsure(scenario: Scenario, device: Device) -> Iterator[Notice]:
    """Say where the catalog itself is not sure of the card or the model."""
    catalog, hardware = load_catalog(), scenario.hardware
    if hardware is not None and isinstance(hardware.gpu, str):
        card = catalog.gpu(hardware.gpu)
        if card.memory_basis == "marketing":
            said = {"gpu": device.name, "gib": card.memory_gb.value}
            yield Notice("memory_marketing", "info", said)
    if isinstance(scenario.model, str) and catalog.model(scenario.model).confidence == "low":
        yield Notice("model_unsure", "info", {"model": catalog.model(scenario.model).name})


def _unmeasured(scenario: Scenario, device: Device, performance: Performance) -> Iterator[Notice]:
    """Say that the engine's speed was measured on no card by this maker."""
    known = performance.output_tokens_per_s or performance.train_tokens_per_s
    if not known or scenario.hardware is None or isinstance(scenario.hardware.gpu, CustomGpu):
        return
    engine, cards = scenario.engine, load_catalog().gpus
    family = "training" if scenario.is_training else FAMILIES[engine]
    measured = measured_cards(family, engine)
    if measured and device.vendor not in {cards[c].vendor for c in measured if c in cards}:
        yield Notice("vendor_unmeasured", "info", {"engine": engine, "vendor": device.vendor})


# Slower than people read (about 240 words a minute, Brysbaert 2019, at 0.75 words a token), or
# longer than they wait.
READING_TOKENS_PER_S = 5.0
PATIENCE_S = 30.0


def _slow(performance: Performance) -> Iterator[Notice]:
    """Warn of a service that nobody would wait for."""
    if performance.tpot_s is not None and performance.tpot_s > 1 / READING_TOKENS_PER_S:
        pace = 1 / performance.tpot_s
        yield Notice("slow_pace", "warning", {"pace": pace, "reading": READING_TOKENS_PER_S})
    if performance.ttft_s is not None and performance.ttft_s > PATIENCE_S:
        yield Notice("slow_start", "warning", {"seconds": performance.ttft_s})


def _fits(required: float, high: float, budget: float) -> Fits:
    if high <= budget:
        return True
    return "tight" if required <= budget else False


def _memory(
    parts: Mapping[str, Any], required: Any, budget: Any, capacity: float, low: float, high: float,
    total: Any, host: Any = 0.0, phase: str = "",
) -> Memory:  # fmt: skip
    gib = {name: float(value) / GIB for name, value in parts.items()}
    need, room, whole = float(required) / GIB, float(budget) / GIB, float(total) / GIB
    need_low, need_high = need * (1 + low), need * (1 + high)
    card = capacity / GIB
    return Memory(
        **gib,
        total_gib=whole,
        total_low_gib=whole * (1 + low),
        total_high_gib=whole * (1 + high) if whole > card else min(whole * (1 + high), card),
        required_gib=need,
        required_low_gib=need_low,
        required_high_gib=need_high,
        capacity_gib=card,
        budget_gib=room,
        headroom_gib=room - need,
        fits=_fits(need, need_high, room),
        host_gib=float(host) / GIB,
        phase=phase,
    )


def _serving(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    assumptions: list[Notice],
) -> tuple[Memory, Kv, Performance, list[Term]]:  # fmt: skip
    inference = scenario.serving
    _, kv_precision = served_precisions(scenario, arch)
    low, high = memory_interval(scenario, device.vendor)
    held = held_memory(
        scenario, arch, device, split.tensor, split.pipeline, split.expert, split.data
    )
    if holds_mtp(arch, scenario):
        table = weight_table(arch, precision, scenario.engine, True)
        plain_table = weight_table(arch, precision, scenario.engine, False)
        extra = table.per_gpu(split.tensor, split.pipeline, split.expert) - plain_table.per_gpu(
            split.tensor, split.pipeline, split.expert
        )
        assumptions.append(Notice("mtp_counted", "info", {"gib": float(extra) / GIB}))
    if scenario.engine == "llama_cpp" and arch.vision_parameters:
        gib = arch.vision_parameters * 2 / GIB
        assumptions.append(Notice("text_model_alone", "info", {"gib": gib}))
    if scenario.kv_cache_precision == "auto":
        assumptions.append(Notice("kv_default", "info", {"precision": kv_precision}))
    if held.host_layers:
        layers = int(held.host_layers)
        of = round(layers / float(held.host_share))
        facts = {"layers": layers, "of": of, "gib": float(held.host) / GIB}
        code = "experts_on_host" if held.host_experts else "layers_on_host"
        assumptions.append(Notice(code, "info", facts))
    memory = _memory(
        {
            "weights_gib": held.weights, "kv_cache_gib": held.kv_cache,
            "activations_gib": held.activations, "gradients_gib": 0.0, "optimizer_gib": 0.0,
            "framework_gib": held.framework, "spare_pool_gib": held.spare_pool,
            "peak_allocated_gib": held.peak_allocated, "reserved_gib": held.reserved,
        },
        held.required, held.budget, device.memory_bytes, low, high, held.total, held.host,
    )  # fmt: skip
    capacity = int(held.capacity_tokens)
    kv = Kv(
        kv_precision,
        bytes_per_token(arch, KV_BITS[kv_precision], float(inference.context_tokens)),
        capacity,
        int(held.max_concurrency),
    )
    speed: ServingSpeed = serving_speed(
        arch, precision, kv_precision, scenario.engine, inference, device,
        split.tensor, split.pipeline, split.expert, split.data, kv_capacity_tokens=capacity,
        host_share=0.0 if held.host_experts else float(held.host_share),
        host_expert_share=float(held.host_share),
    )  # fmt: skip
    performance = _performance(speed)
    terms = serving_terms(scenario, arch, split, precision, kv, held, memory)
    terms += speed_terms(scenario, arch, device, precision, speed)
    return memory, kv, performance, terms


def _training(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    assumptions: list[Notice],
) -> tuple[Memory, None, Performance, list[Term]]:  # fmt: skip
    fitting = scenario.fitting
    run, engine = as_run(fitting, scenario.engine)
    if engine != scenario.engine:
        assumptions.append(Notice(f"run_by_{engine}", "info", {}))
    if run.offload != fitting.offload:
        assumptions.append(Notice("all_offloaded", "info", {}))
    held: TrainingMemory = training_memory(
        arch, precision, fitting, scenario.engine, split.tensor, split.pipeline, split.expert,
        split.data, device_bytes=device.memory_bytes,
    )  # fmt: skip
    low, high = memory_interval(scenario, device.vendor)
    # What batches of varying length make the allocator keep; it gives that back before it fails.
    kept = 0.0
    if scenario.varying_lengths:
        room = device.memory_bytes - float(held.total)
        kept = max(0.0, min(float(held.detail["varying_lengths"]), room))
        assumptions.append(Notice("varying_lengths", "info", {"gib": kept / GIB}))
    memory = _memory(
        {
            "weights_gib": held.weights, "kv_cache_gib": 0.0, "activations_gib": held.activations,
            "gradients_gib": held.gradients, "optimizer_gib": held.optimizer,
            "framework_gib": held.framework, "spare_pool_gib": kept,
            "peak_allocated_gib": held.peak_allocated, "reserved_gib": held.reserved + kept,
        },
        held.total, device.memory_bytes, device.memory_bytes, low, high, held.total + kept,
        held.host, str(held.phase),
    )  # fmt: skip
    if kept:
        memory = replace(memory, total_low_gib=memory.required_low_gib)
    speed: TrainingSpeed = training_speed(
        arch, precision, fitting, scenario.engine, device, split.tensor, split.pipeline,
        split.expert, split.data,
    )  # fmt: skip
    terms = training_terms(held, memory)
    terms.append(training_speed_term(scenario, device, split, speed))
    return memory, None, _performance(speed), terms


def _performance(speed: ServingSpeed | TrainingSpeed) -> Performance:
    values: dict[str, Any] = {}
    for item in fields(Performance):
        value = getattr(speed, item.name, None)
        if value is not None and not isinstance(value, str):
            value = float(value) if math.isfinite(float(value)) else None
        values[item.name] = value
    if all(value is None for name, value in values.items() if name != "bound_by"):
        values["bound_by"] = None
    return Performance(**values)
