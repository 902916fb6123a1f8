"""hf-vram-calc 1.0.9: its calculator on a local config.json."""

from __future__ import annotations

from hf_vram_calc.calculator import LlmodelMemoryResult, ParameterCalculator, VRAMCalculator
from hf_vram_calc.config import ConfigManager
from hf_vram_calc.parser import ConfigParser
from peer_protocol import Question, config_folder, serve

CALCULATOR = VRAMCalculator(ConfigManager())
DTYPES = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "fp8": "fp8", "int8": "int8",
          "int4": "int4", "nf4": "int4", "mxfp4": "mxfp4", "nvfp4": "nvfp4"}  # fmt: skip
_MODELS: dict[str, tuple[object, int]] = {}


def _model(question: Question) -> tuple[object, int]:
    folder = config_folder(question)
    key = str(folder)
    if key not in _MODELS:
        config = ConfigParser.parse_config(str(folder / "config.json"), "case/model")
        count = ParameterCalculator.calculate_transformer_params(config)
        _MODELS[key] = (config, count)
    return _MODELS[key]


def answer(question: Question) -> dict[str, float]:
    dtype = DTYPES.get(question.hints["precision"])
    question.needs(dtype, f"no dtype {question.hints['precision']}")
    question.needs(question.hardware["gpu_count"] == 1, "its totals are for one GPU")
    config, count = _model(question)
    batch, length = (
        (int(question.inference["concurrency"]), question.context)
        if question.serves
        else (int(question.training["micro_batch_size"]), int(question.training["sequence_length"]))
    )
    rank = int(question.training.get("lora_rank") or 64)
    held = LlmodelMemoryResult(dtype, batch, length, rank)
    held.calculate_all(config, count, CALCULATOR)
    out = {"memory.weights_gib": held.base_memory}
    if question.serves:
        out["memory.kv_cache_gib"] = held.kv_cache_memory
        total = held.inference_memory
    else:
        full = question.training.get("method") == "full"
        total = held.training_memory if full else held.lora_memory
    for name in ("peak_allocated", "reserved", "total"):
        out[f"memory.{name}_gib"] = total
    return out


serve(answer)
