"""What a scenario asks about: its model, its card, what is stored how."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from configurator.architecture import Architecture, read_architecture, typical_architecture
from configurator.catalog import load_catalog
from configurator.device import Device, from_catalog, from_custom
from configurator.intervals import interval
from configurator.memory.kv_cache import resolve_kv_precision
from configurator.memory.serving import ServingMemory, serving_memory
from configurator.memory.training_state import as_run
from configurator.memory.weights import TRANSFORMERS_ENGINES, resolve_precision
from configurator.scenario import ConfigModel, CustomGpu, Inference, Scenario, SizeModel


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
        arch = _config_architecture(json.dumps(model.config, sort_keys=True), model.name)
    else:
        arch = _catalog_architecture(model)
    return _as_built(arch, scenario.engine, (scenario.engine_version or "").strip())


# Trainers that build the models by code of their own.
_OWN_CODE = ("litgpt", "torchtune", "torchtitan", "llm-foundry")
# Trainers whose cases were measured on transformers 4, which their version does not say.
_ON_4 = ("ms-swift", "fsdp_qlora")


@lru_cache(maxsize=256)
def _as_built(arch: Architecture, engine: str, hint: str) -> Architecture:
    """Return the model as an engine builds it.

    Trained, or run by transformers, that is transformers 5 unless the hint of a version names
    transformers 4 ("4.57", "transformers 4.51") or other code.
    """
    hint = hint.lower()
    if engine == "megatron":
        return arch.with_kernels()
    if engine not in TRANSFORMERS_ENGINES:
        return arch
    if any(name in hint for name in _OWN_CODE):
        return arch.with_kernels(head_quantised="litgpt" in hint)
    found = re.search(r"transformers\D{0,3}(\d+)", hint)
    if found is None and engine == "transformers":
        found = re.match(r"v?(\d+)", hint)
    old = int(found[1]) < 5 if found else any(name in hint for name in _ON_4)
    if not old:
        return arch
    stored = arch.quantization.precision if arch.quantization else ""
    return (arch.with_own_head() if stored == "fp8" else arch).with_linear_experts()


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
    precision = resolve_precision(scenario, arch)
    kv = resolve_kv_precision(
        scenario.kv_cache_precision, scenario.engine, precision, arch.native_precision,
        arch.quantization,
    )  # fmt: skip
    return precision, kv


def running_engine(scenario: Scenario) -> str:
    """Return the engine that does the work, which training may leave to another."""
    if not scenario.is_training:
        return scenario.engine
    return as_run(scenario.fitting, scenario.engine)[1]


def memory_interval(scenario: Scenario, vendor: str) -> tuple[float, float]:
    """Return the ends of a scenario's memory interval on a maker's cards, relative to the need."""
    return interval(running_engine(scenario), scenario.task, vendor)


def held_memory(
    scenario: Scenario, arch: Architecture, device: Device, tensor: Any, pipeline: Any,
    expert: Any, data: Any, inference: Inference | None = None,
) -> ServingMemory:  # fmt: skip
    """Return what serving a scenario takes on such cards, split so.

    Args:
        scenario: Serving; its hardware only says whether layers may lie in host memory.
        arch: Its model.
        device: The card, or many as arrays, as the split's parts.
        tensor: Tensor-parallel ranks.
        pipeline: Pipeline stages.
        expert: Expert-parallel ranks.
        data: Replicas.
        inference: Another load than the scenario's.
    """
    precision, kv = served_precisions(scenario, arch)
    hardware = scenario.hardware
    margin = None
    if hardware is not None and hardware.allow_cpu_offload:
        vendor = device_of(hardware.gpu).vendor
        margin = memory_interval(scenario, vendor)[1]
    return serving_memory(
        arch, precision, kv, scenario.engine, inference or scenario.serving,
        device.memory_bytes, tensor, pipeline, expert, data, with_mtp=holds_mtp(arch, scenario),
        version=scenario.engine_version, a100=device.a100, offload_margin=margin,
    )  # fmt: skip
