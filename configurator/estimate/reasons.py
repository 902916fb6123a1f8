"""Why an estimate is what it is: the figures of each formula, and what there is to warn of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from configurator.architecture import Architecture
from configurator.catalog import load_catalog
from configurator.cost.hosts import Refusal, load_hosts
from configurator.device import Device
from configurator.estimate.asked import running_engine
from configurator.estimate.records import Input, Kv, Memory, Notice, Term
from configurator.memory.serving import ServingMemory
from configurator.memory.training import TrainingMemory
from configurator.memory.training_state import upcasts_base
from configurator.memory.weights import TRANSFORMERS_ENGINES, keeps_packed
from configurator.parallelism import HOST_GPUS, Split, splits_of_engine
from configurator.performance import ServingSpeed, TrainingSpeed
from configurator.performance.coefficients import FAMILIES, coefficients, precision_class
from configurator.performance.serving import compute_rates, first_rate
from configurator.scenario import Scenario
from configurator.units import GIB

KV_WARNING_SHARE = 0.5


def serving_terms(
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
        Term("memory.activations_gib", "max(phases)", step,
             memory.activations_gib, "GiB"),
        Term("memory.framework_gib", "Σ", rest, memory.framework_gib, "GiB"),
    ]  # fmt: skip


def training_terms(held: TrainingMemory, memory: Memory) -> list[Term]:
    """Say what each part of the memory consists of."""
    return [
        Term(f"memory.{name}_gib", "", tuple(
            Input(k, float(v) / GIB, "GiB") for k, v in held.detail.items() if k.startswith(name)
        ), getattr(memory, f"{name}_gib"), "GiB")
        for name in ("weights", "gradients", "optimizer", "activations", "framework")
    ]  # fmt: skip


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


def speed_terms(
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


def training_speed_term(
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


_REFUSED: Mapping[Refusal, str] = {
    "engine": "engine_unsupported",
    "attention": "attention_not_run",
    "precision": "precision_not_run",
}


def _cannot_run(
    scenario: Scenario, arch: Architecture, split: Split, precision: str
) -> Iterator[Notice]:
    """Say what the engine has no kernels for, or no way to split."""
    engine, hardware = scenario.engine, scenario.hardware
    if hardware is not None and isinstance(hardware.gpu, str):
        catalog = load_catalog()
        gpu, facts = catalog.gpu(hardware.gpu), load_hosts(catalog)
        refused = facts.refused(gpu, scenario, arch, precision)
        if refused is not None:
            code, needed = refused
            said = {"engine": engine, "gpu": gpu.name, "precision": needed}
            yield Notice(_REFUSED[code], "error", said)
    able = splits_of_engine(engine, scenario.is_training)
    kinds = {"tensor": split.tensor, "pipeline": split.pipeline, "expert": split.expert}
    for kind, size in kinds.items():
        if size > 1 and kind not in able:
            yield Notice(f"no_{kind}_parallel", "error", {"engine": engine, "size": size})


def _wide_experts(scenario: Scenario, arch: Architecture, precision: str) -> Iterator[Notice]:
    """Say that experts of one tensor stay wide where bitsandbytes quantises the rest."""
    own = arch.quantization is not None and arch.quantization.precision == precision
    experts = arch.packed_expert_parameters
    if own or not experts or not keeps_packed(precision, scenario.engine):
        return
    bits = 16
    if scenario.is_training:
        engine = running_engine(scenario)
        bits = 32 if upcasts_base(scenario.fitting, precision, engine) else bits
    yield Notice("wide_experts", "warning", {"bits": bits, "gib": experts * bits / 8 / GIB})


def warnings_of(
    scenario: Scenario, arch: Architecture, device: Device, split: Split, precision: str,
    memory: Memory, kv: Kv | None,
) -> list[Notice]:  # fmt: skip
    """Return what of an estimate there is to warn of: memory, cache, precision, links."""
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
    out += _cannot_run(scenario, arch, split, precision)
    out += _wide_experts(scenario, arch, precision)
    written = any(group.layer.eager.scores for group in arch.groups)
    if written and scenario.engine in TRANSFORMERS_ENGINES:
        out.append(Notice("scores_written", "warning", {}))
    rate = {"fp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "bf16": "bf16"}.get(precision)
    if scenario.computes_in_bf16:
        rate = "bf16"
    known = any(device.rate(name) > 0 for name in ("bf16", "fp16", "fp32"))
    if not known or not float(device.bandwidth_bytes_per_s) > 0:
        out.append(Notice("speed_unknown", "warning", {"gpu": device.name}))
    elif rate and not device.rate(rate) > 0:
        code = "no_bf16" if rate == "bf16" else "precision_unsupported"
        if not device.native.get(rate):
            out.append(Notice(code, "warning", {"gpu": device.name, "precision": precision}))
        else:
            out.append(Notice("rate_unknown", "warning", {"gpu": device.name, "precision": rate}))
    room = inference.max_model_len
    if kv is not None and room is not None and inference.context_tokens > room:
        values = {"context": inference.context_tokens, "limit": room}
        out.append(Notice("beyond_max_model_len", "error", values))
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
