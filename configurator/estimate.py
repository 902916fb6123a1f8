"""What is answered: the estimate, and the one function that puts the terms together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

from configurator.architecture import Architecture, read_architecture, typical_architecture
from configurator.catalog import Catalog, load_catalog
from configurator.device import Device, from_catalog, from_custom
from configurator.errors import InputError
from configurator.intervals import interval
from configurator.memory.kv_cache import KV_BITS, bytes_per_token, resolve_kv_precision
from configurator.memory.serving import ServingMemory, serving_memory
from configurator.memory.training import TrainingMemory, training_memory
from configurator.memory.weights import resolve_precision, weight_table
from configurator.parallelism import HOST_GPUS, Split, choose_split
from configurator.performance import ServingSpeed, TrainingSpeed, serving_speed, training_speed
from configurator.performance.coefficients import FAMILIES, coefficients, precision_class
from configurator.performance.serving import compute_rates, first_rate
from configurator.scenario import ConfigModel, CustomGpu, Inference, Scenario, SizeModel
from configurator.units import GIB
from configurator.words import say

Fits = bool | Literal["tight"]
Severity = Literal["info", "warning", "error"]
KV_WARNING_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or an assumption: a code, what it is about, and its text in any language."""

    code: str
    severity: Severity = "info"
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """Return the sentence in a language."""
        return say(f"notice.{self.code}", language, **self.values)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return code, severity and text."""
        return {"code": self.code, "severity": self.severity, "text": self.text(language)}


@dataclass(frozen=True, slots=True)
class Input:
    """One figure that went into a term."""

    symbol: str
    value: float | int | str
    unit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """Why a number is what it is: the formula, the figures put in, the result."""

    path: str
    formula: str
    inputs: tuple[Input, ...]
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB on the fullest GPU; see the contract."""

    weights_gib: float
    kv_cache_gib: float
    activations_gib: float
    gradients_gib: float
    optimizer_gib: float
    framework_gib: float
    spare_pool_gib: float
    peak_allocated_gib: float
    reserved_gib: float
    total_gib: float
    total_low_gib: float
    total_high_gib: float
    required_gib: float
    required_low_gib: float
    required_high_gib: float
    capacity_gib: float
    budget_gib: float
    headroom_gib: float
    fits: Fits
    host_gib: float = 0.0
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Kv:
    """The key-value cache of the deployment."""

    precision: str
    bytes_per_token: float
    capacity_tokens: int | None
    max_concurrency: int | None


@dataclass(frozen=True, slots=True)
class Performance:
    """Times and rates with 90 % intervals; see the contract. None where the task has none."""

    ttft_s: float | None = None
    ttft_s_low: float | None = None
    ttft_s_high: float | None = None
    tpot_s: float | None = None
    tpot_s_low: float | None = None
    tpot_s_high: float | None = None
    output_tokens_per_s: float | None = None
    output_tokens_per_s_low: float | None = None
    output_tokens_per_s_high: float | None = None
    requests_per_s: float | None = None
    requests_per_s_low: float | None = None
    requests_per_s_high: float | None = None
    prefill_tokens_per_s: float | None = None
    prefill_tokens_per_s_low: float | None = None
    prefill_tokens_per_s_high: float | None = None
    decode_tokens_per_s: float | None = None
    decode_tokens_per_s_low: float | None = None
    decode_tokens_per_s_high: float | None = None
    train_tokens_per_s: float | None = None
    train_tokens_per_s_low: float | None = None
    train_tokens_per_s_high: float | None = None
    mfu: float | None = None
    bound_by: str | None = None


@dataclass(frozen=True)
class Estimate:
    """The answer to one scenario with hardware."""

    scenario: Scenario
    architecture: Architecture
    device: Device
    split: Split
    precision: str
    memory: Memory
    kv: Kv | None
    performance: Performance
    terms: tuple[Term, ...]
    warnings: tuple[Notice, ...]
    assumptions: tuple[Notice, ...]
    sources: tuple[str, ...]

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's Estimate as plain JSON values."""
        split = {
            "tensor_parallel": self.split.tensor,
            "pipeline_parallel": self.split.pipeline,
            "expert_parallel": self.split.expert,
            "data_parallel": self.split.data,
        }
        return {
            "model": {
                "name": self.architecture.name,
                "parameters": self.architecture.parameters,
                "active_parameters": self.architecture.active_parameters,
            },
            "precision": self.precision,
            "split": split,
            "memory": plain(asdict(self.memory)),
            "kv": plain(asdict(self.kv)) if self.kv else None,
            "performance": plain(asdict(self.performance)),
            "warnings": [n.to_dict(language) for n in self.warnings],
            "assumptions": [n.to_dict(language) for n in self.assumptions],
            "sources": list(self.sources),
        }


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn NumPy numbers into Python's and what is not finite into None."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        out[key] = value
    return out


# --------------------------------------------------------------------------- what is asked about


@lru_cache(maxsize=512)
def _catalog_architecture(model: str) -> Architecture:
    catalog = load_catalog()
    record = catalog.model(model)
    return read_architecture(catalog.model_config(record.id), record.id)


@lru_cache(maxsize=256)
def _config_architecture(text: str, name: str) -> Architecture:
    return read_architecture(json.loads(text), name)


_sized_architecture = lru_cache(maxsize=256)(typical_architecture)


def architecture_of(scenario: Scenario) -> Architecture:
    """Return the scenario's model.

    Raises:
        InputError: An id that the catalog does not have, or a config.json that cannot be read.
    """
    model = scenario.model
    if isinstance(model, SizeModel):
        return _sized_architecture(model.parameters_b)
    if isinstance(model, ConfigModel):
        return _config_architecture(json.dumps(model.config, sort_keys=True), model.name)
    return _catalog_architecture(model)


@lru_cache(maxsize=512)
def _catalog_device(gpu: str) -> Device:
    return from_catalog(load_catalog().gpu(gpu))


def device_of(gpu: str | CustomGpu) -> Device:
    """Return the card of a scenario's hardware.

    Raises:
        InputError: An id that the catalog does not have.
    """
    return from_custom(gpu) if isinstance(gpu, CustomGpu) else _catalog_device(gpu)


MTP_FAMILIES = ("deepseek_v3", "deepseek_v32")
DRAFTING = ("vllm", "sglang", "tensorrt_llm")


def holds_mtp(arch: Architecture, scenario: Scenario) -> bool:
    """Whether the layers that draft tokens are loaded: asked for, or usual for the family."""
    if not arch.mtp_groups or scenario.engine not in DRAFTING:
        return False
    return arch.model_type in MTP_FAMILIES or bool(scenario.serving.speculative_tokens)


def served_precisions(scenario: Scenario, arch: Architecture) -> tuple[str, str]:
    """Return what weights and cache are stored in when a model is served."""
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    kv = resolve_kv_precision(
        scenario.kv_cache_precision, scenario.engine, precision, arch.native_precision,
        arch.quantization,
    )  # fmt: skip
    return precision, kv


def held_memory(
    scenario: Scenario, arch: Architecture, memory_bytes: Any, tensor: Any, pipeline: Any,
    expert: Any, data: Any, inference: Inference | None = None,
) -> ServingMemory:  # fmt: skip
    """Return what serving a scenario takes on cards of so much memory, split so.

    Args:
        scenario: Serving; its hardware only says whether layers may lie in host memory.
        arch: Its model.
        memory_bytes: Of one card; a number or an array, as the split's parts.
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Replicas.
        inference: Another load than the scenario's.
    """
    precision, kv = served_precisions(scenario, arch)
    hardware = scenario.hardware
    offload = hardware is not None and hardware.allow_cpu_offload
    return serving_memory(
        arch, precision, kv, scenario.engine, inference or scenario.serving, memory_bytes,
        tensor, pipeline, expert, data, with_mtp=holds_mtp(arch, scenario),
        version=scenario.engine_version,
        offload_margin=interval(scenario.engine, scenario.task)[1] if offload else None,
    )  # fmt: skip


# --------------------------------------------------------------------------- the estimate


def estimate(scenario: Scenario, catalog: Catalog | None = None) -> Estimate:
    """Answer a scenario that names its hardware.

    Args:
        scenario: What is asked.
        catalog: Facts; the built-in ones if None.

    Raises:
        InputError: Names the field, its value and the way out.
    """
    if scenario.hardware is None:
        raise InputError("hardware", "is required for an estimate; name a gpu and a gpu_count")
    catalog = catalog or load_catalog()
    arch = architecture_of(scenario)
    device = device_of(scenario.hardware.gpu)
    split = choose_split(scenario, arch, int(device.domain_size))
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    assumptions = [Notice(code, "info", values) for code, values in arch.assumptions]
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
    warnings += _warnings(scenario, arch, device, split, precision, memory, kv)
    sources = [] if isinstance(hardware.gpu, CustomGpu) else [f"gpu:{device.id}"]
    if isinstance(scenario.model, str):
        sources.append(f"model:{arch.name}")
    sources.append(f"engine:{scenario.engine}")
    return Estimate(
        scenario, arch, device, split, precision, memory, kv, performance, tuple(terms),
        tuple(warnings), tuple(assumptions), tuple(sources),
    )  # fmt: skip


def _fits(required: float, low: float, high: float, budget: float) -> Fits:
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
    return Memory(
        **gib,
        total_gib=whole,
        total_low_gib=whole * (1 + low),
        total_high_gib=whole * (1 + high),
        required_gib=need,
        required_low_gib=need_low,
        required_high_gib=need_high,
        capacity_gib=capacity / GIB,
        budget_gib=room,
        headroom_gib=room - need,
        fits=_fits(need, need_low, need_high, room),
        host_gib=float(host) / GIB,
        phase=phase,
    )


def _serving(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    assumptions: list[Notice],
) -> tuple[Memory, Kv, Performance, list[Term]]:  # fmt: skip
    inference = scenario.serving
    _, kv_precision = served_precisions(scenario, arch)
    low, high = interval(scenario.engine, scenario.task)
    held = held_memory(
        scenario, arch, device.memory_bytes, split.tensor, split.pipeline, split.expert, split.data
    )
    if holds_mtp(arch, scenario):
        table = weight_table(arch, precision, scenario.engine, True)
        plain_table = weight_table(arch, precision, scenario.engine, False)
        extra = table.per_gpu(split.tensor, split.pipeline, split.expert) - plain_table.per_gpu(
            split.tensor, split.pipeline, split.expert
        )
        assumptions.append(Notice("mtp_counted", "info", {"gib": float(extra) / GIB}))
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
    terms = _serving_terms(scenario, arch, split, precision, kv, held, memory)
    terms += _speed_terms(scenario, arch, device, precision, speed)
    return memory, kv, performance, terms


def _serving_terms(
    scenario: Scenario, arch: Architecture, split: Split, precision: str, kv: Kv,
    held: ServingMemory, memory: Memory,
) -> list[Term]:  # fmt: skip
    """Say why each part of the memory is what it is, from the numbers that made it."""
    inference, engine = scenario.serving, f"engine:{scenario.engine}"
    ranks = (
        Input("tensor_parallel", split.tensor),
        Input("pipeline_parallel", split.pipeline),
        Input("expert_parallel", split.expert),
    )
    weights = (
        Input("parameters", arch.parameters, "", f"model:{arch.name}"),
        Input("precision", precision),
        *ranks,
    )
    cache = (
        Input("sequences", float(held.sequences)),
        Input("tokens", inference.context_tokens),
        Input("bytes_per_token", kv.bytes_per_token, "B", f"model:{arch.name}"),
        Input("kv_heads", arch.max_kv_heads, "", f"model:{arch.name}"),
        ranks[0],
    )
    step = (
        Input("hidden_size", arch.hidden_size, "", f"model:{arch.name}"),
        Input("vocab_size", arch.vocab_size, "", f"model:{arch.name}"),
        *(Input(k, float(v), "", engine) for k, v in held.detail.items() if k.startswith("step_")),
    )
    rest = tuple(
        Input(k.removeprefix("framework_"), float(v) / GIB, "GiB", engine)
        for k, v in held.detail.items()
        if k.startswith("framework_")
    )
    return [
        Term("memory.weights_gib", "Σ parameters × bits ÷ 8 ÷ ranks", weights,
             memory.weights_gib, "GiB"),
        Term("memory.kv_cache_gib", "sequences × tokens × bytes_per_token ÷ min(ranks, kv_heads)",
             cache, memory.kv_cache_gib, "GiB"),
        Term("memory.activations_gib", "max over the phases of one step", step,
             memory.activations_gib, "GiB"),
        Term("memory.framework_gib", "Σ", rest, memory.framework_gib, "GiB"),
    ]  # fmt: skip


def _training(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    assumptions: list[Notice],
) -> tuple[Memory, None, Performance, list[Term]]:  # fmt: skip
    fitting = scenario.fitting
    held: TrainingMemory = training_memory(
        arch, precision, fitting, scenario.engine, split.tensor, split.pipeline, split.expert,
        split.data, device_bytes=device.memory_bytes,
    )  # fmt: skip
    low, high = interval(scenario.engine, scenario.task)
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
    terms = [
        Term(f"memory.{name}_gib", "", tuple(
            Input(k, float(v) / GIB, "GiB") for k, v in held.detail.items() if k.startswith(name)
        ), getattr(memory, f"{name}_gib"), "GiB")
        for name in ("weights", "gradients", "optimizer", "activations", "framework")
    ]  # fmt: skip
    terms.append(_training_speed_term(scenario, device, split, speed))
    return memory, None, _performance(speed), terms


# --------------------------------------------------------------------------- why it is this fast


def _milliseconds(values: Mapping[str, Any]) -> tuple[Input, ...]:
    """Return the times that are not nothing, seconds in, ms out, the longest first."""
    found = [(name, float(value) * 1e3) for name, value in values.items()]
    found.sort(key=lambda pair: -pair[1])
    return tuple(Input(name, value, "ms") for name, value in found if value > 1e-4)


def _sum_of(inputs: tuple[Input, ...]) -> str:
    return " + ".join(given.symbol for given in inputs)


def _card_inputs(
    device: Device, engine: str, family: str, kind: str, rates: tuple[str, ...]
) -> tuple[Input, ...]:
    """Return what the card can do, and the share of it that fits the measurements."""
    source = "" if device.vendor == "custom" else f"gpu:{device.id}"
    measured = "efficiency"
    reached = coefficients(family, engine, kind, device)
    out = [
        Input("bandwidth", float(device.bandwidth_bytes_per_s) / 1e9, "GB/s", source),
        Input("flop_rate", float(first_rate(device, rates)) / 1e12, "TFLOP/s", source),
    ]
    if "weight_bandwidth" in reached:
        out.append(Input("bandwidth_reached", reached["weight_bandwidth"] * 100, "%", measured))
    out.append(Input("flop_rate_reached", reached["gemm_rate"] * 100, "%", measured))
    return tuple(out)


def _speed_terms(
    scenario: Scenario, arch: Architecture, device: Device, precision: str, speed: ServingSpeed
) -> list[Term]:
    """Say what a token and a first token wait for; the times of each add up to it."""
    engine, detail = scenario.engine, speed.detail
    quantization = arch.quantization
    method = quantization.method if quantization and quantization.precision == precision else None
    card = _card_inputs(
        device, engine, FAMILIES[engine], precision_class(precision, method),
        compute_rates(precision, method, engine),
    )  # fmt: skip

    def named(phase: str) -> dict[str, Any]:
        parts = {k.removeprefix(phase): v for k, v in detail.items() if k.startswith(phase)}
        # A part of the others, kept to say what bounds a step.
        parts.pop("compute", None)
        return parts

    step = named("decode.")
    step["fixed"] = step.pop("step", 0.0)
    token = _milliseconds({**step, "interference": detail["interference"]})
    prompt = named("prefill.")
    prompt |= {k: detail[k] for k in ("waits", "bunching", "queue")}
    prompt["fixed"] = float(speed.ttft_s) - sum(float(v) for v in prompt.values())
    first = _milliseconds(prompt)
    running = Input("running", round(float(speed.running), 1))
    return [
        Term("performance.tpot_s", _sum_of(token), (*token, running, *card),
             float(speed.tpot_s), "s"),
        Term("performance.ttft_s", _sum_of(first), (*first, running, *card),
             float(speed.ttft_s), "s"),
    ]  # fmt: skip


def _training_speed_term(
    scenario: Scenario, device: Device, split: Split, speed: TrainingSpeed
) -> Term:
    """Say what one optimizer step is made of; its parts overlap, so they may exceed it."""
    fitting = scenario.fitting
    tokens = (
        fitting.micro_batch_size * fitting.sequence_length * fitting.gradient_accumulation
    ) * split.data
    rates = ("tf32", "fp32") if fitting.mixed_precision == "fp32" else ("bf16", "fp16", "fp32")
    if fitting.mixed_precision == "amp_fp16":
        rates = ("fp16", "fp32")
    card = _card_inputs(device, scenario.engine, "training", fitting.method, rates)
    inputs = (
        Input("tokens_per_step", tokens), Input("step_time", float(speed.step_s) * 1e3, "ms"),
        *_milliseconds(speed.detail), *card,
    )  # fmt: skip
    return Term(
        "performance.train_tokens_per_s", "tokens_per_step ÷ step_time", inputs,
        float(speed.train_tokens_per_s), "tokens/s",
    )  # fmt: skip


def _performance(speed: ServingSpeed | TrainingSpeed) -> Performance:
    values: dict[str, Any] = {}
    for item in fields(Performance):
        value = getattr(speed, item.name, None)
        if value is not None and not isinstance(value, str):
            value = float(value)
        values[item.name] = value
    return Performance(**values)


def _warnings(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    memory: Memory, kv: Kv | None,
) -> list[Notice]:  # fmt: skip
    out: list[Notice] = []
    if memory.fits is False:
        out.append(Notice("does_not_fit", "error", {"short": -memory.headroom_gib}))
    elif memory.fits == "tight":
        out.append(Notice("tight", "warning", {"headroom": memory.headroom_gib}))
    inference = scenario.serving
    if kv is not None:
        limit = arch.context_length
        if limit and inference.context_tokens > limit:
            out.append(
                Notice(
                    "context_beyond_model",
                    "warning",
                    {"context": inference.context_tokens, "limit": limit},
                )
            )
        if kv.max_concurrency is not None and 0 < kv.max_concurrency < inference.concurrency:
            out.append(
                Notice(
                    "cache_too_small",
                    "warning",
                    {"most": kv.max_concurrency, "wanted": inference.concurrency},
                )
            )
        if memory.required_gib and memory.kv_cache_gib > KV_WARNING_SHARE * memory.required_gib:
            out.append(
                Notice("kv_large", "info", {"share": memory.kv_cache_gib / memory.required_gib})
            )
    rate = {"fp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "bf16": "bf16"}.get(precision)
    if rate and not device.rate(rate) > 0:
        out.append(
            Notice("precision_unsupported", "warning", {"gpu": device.name, "precision": precision})
        )
    count = scenario.hardware.gpu_count if scenario.hardware else split.gpus
    if count > split.gpus:
        out.append(Notice("gpus_idle", "warning", {"idle": count - split.gpus, "count": count}))
    if split.tensor > 1 and int(device.domain_size) < split.tensor:
        if split.tensor > HOST_GPUS:
            out.append(
                Notice("across_hosts", "warning", {"tensor": split.tensor, "host": HOST_GPUS})
            )
        else:
            out.append(Notice("no_fast_link", "info", {"gpu": device.name}))
    return out
