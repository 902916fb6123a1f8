"""What the widgets hold, as one flat mapping, and its way to a scenario and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configurator.memory.weights import PLAIN_BITS
from configurator.scenario import (
    ConfigModel,
    CustomGpu,
    Inference,
    Scenario,
    SizeModel,
    Training,
    parse_scenario,
)

Form = dict[str, Any]
AUTO = "auto"
CUSTOM = "custom"
INFERENCE_FIELDS = tuple(Inference.model_fields)
TRAINING_FIELDS = tuple(Training.model_fields)
SPLITS = ("tensor_parallel", "pipeline_parallel", "expert_parallel", "data_parallel")
# Fields of a task that are not the task's own; a preset's mark counts only those in use.
_DEFAULT_MODEL = "Qwen/Qwen3-8B"


def default_form() -> Form:
    """Return the form before anything is chosen."""
    form: Form = {
        "model_by": "catalog",
        "model": _DEFAULT_MODEL,
        "parameters_b": 7.0,
        "config": None,
        "config_name": "",
        "task": "inference",
        "precision": AUTO,
        "kv_cache_precision": AUTO,
        "inference_engine": "vllm",
        "training_engine": "transformers",
        "engine_version": None,
        "gpu": AUTO,
        "custom_gpu": None,
        "gpu_count": 1,
        "allow_cpu_offload": False,
    }
    form.update(Inference().model_dump())
    form.update(Training().model_dump())
    form.update(dict.fromkeys(SPLITS))
    return form


def form_of(scenario: Scenario, before: Mapping[str, Any] | None = None) -> Form:
    """Return the form that shows a scenario.

    Args:
        scenario: What is asked.
        before: The form so far; what the scenario does not speak of is kept from it.
    """
    form = {**default_form(), **(before or {})}
    model = scenario.model
    if isinstance(model, SizeModel):
        form |= {"model_by": "size", "parameters_b": model.parameters_b}
    elif isinstance(model, ConfigModel):
        form |= {"model_by": "config", "config": dict(model.config), "config_name": model.name}
    else:
        form |= {"model_by": "catalog", "model": model}
    engine = "training_engine" if scenario.is_training else "inference_engine"
    form |= {
        "task": scenario.task,
        "precision": scenario.precision,
        "kv_cache_precision": scenario.kv_cache_precision,
        engine: scenario.engine,
        "engine_version": scenario.engine_version,
    }
    if scenario.inference is not None:
        form |= scenario.inference.model_dump()
    if scenario.training is not None:
        form |= scenario.training.model_dump()
        if form["method"] == "qlora" and form["precision"] in PLAIN_BITS:
            form["precision"] = "nf4"
    hardware = scenario.hardware
    if hardware is None:
        form |= {"gpu": AUTO, "gpu_count": 1, "allow_cpu_offload": False}
        form |= dict.fromkeys(SPLITS)
        return form
    if isinstance(hardware.gpu, CustomGpu):
        form |= {"gpu": CUSTOM, "custom_gpu": hardware.gpu.model_dump(exclude_none=True)}
    else:
        form |= {"gpu": hardware.gpu}
    form |= {"gpu_count": hardware.gpu_count, "allow_cpu_offload": hardware.allow_cpu_offload}
    form |= {name: getattr(hardware, name) for name in SPLITS}
    return form


def _present(form: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: form[name] for name in names if form.get(name) is not None}


def scenario_of(form: Mapping[str, Any]) -> Scenario:
    """Return the scenario that a form asks.

    Raises:
        InputError: Names the field that cannot be used, its value and the way out.
    """
    training = form["task"] != "inference"
    data: dict[str, Any] = {
        "version": 1,
        "task": form["task"],
        "precision": form["precision"],
        "kv_cache_precision": form["kv_cache_precision"],
        "engine": form["training_engine" if training else "inference_engine"],
    }
    if form.get("engine_version"):
        data["engine_version"] = form["engine_version"]
    if form["model_by"] == "size":
        data["model"] = {"parameters_b": form["parameters_b"]}
    elif form["model_by"] == "config" and form.get("config") is not None:
        data["model"] = {"config": form["config"], "name": form["config_name"] or "uploaded model"}
    else:
        data["model"] = form["model"]
    if training:
        block = _present(form, TRAINING_FIELDS)
        targets = block.get("lora_targets")
        if not isinstance(targets, str):
            block["lora_targets"] = list(targets or ())
        data["training"] = block
    else:
        data["inference"] = _present(form, INFERENCE_FIELDS)
    if form["gpu"] != AUTO:
        gpu = form["custom_gpu"] if form["gpu"] == CUSTOM else form["gpu"]
        data["hardware"] = {
            "gpu": gpu,
            "gpu_count": form["gpu_count"],
            "allow_cpu_offload": form["allow_cpu_offload"],
            **_present(form, SPLITS),
        }
    return parse_scenario(data)


def fields_in_use(form: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that the form's task and model source read."""
    training = form["task"] != "inference"
    model = {"catalog": "model", "size": "parameters_b", "config": "config"}[form["model_by"]]
    names = ["model_by", model, "task", "precision", "kv_cache_precision"]
    names.append("training_engine" if training else "inference_engine")
    names += TRAINING_FIELDS if training else INFERENCE_FIELDS
    names += ["gpu"]
    if form["gpu"] != AUTO:
        names += ["gpu_count", "allow_cpu_offload", *SPLITS]
    return tuple(names)


def changed_fields(form: Mapping[str, Any], preset: Scenario) -> tuple[str, ...]:
    """Return the fields in which a form differs from a preset."""
    start = form_of(preset)
    names = dict.fromkeys([*fields_in_use(start), *fields_in_use(form)])
    return tuple(name for name in names if form.get(name) != start.get(name))
