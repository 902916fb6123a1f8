"""The parameters of a link: what each carries and how its text is read and written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

# Parameters that say nothing of the scenario; Streamlit's own among them.
NOT_SCENARIO = frozenset({
    "v", "lang", "cat", "cur", "by", "ttft", "tps", "embed", "embed_options",
    "yrs", "busy", "own", "cmp", "bud", "watt", "more", "tight",
    "obj", "reg", "cond", "seg", "form",
    "must", "most", "ru", "boxw", "spare", "sparebox", "sure", "exp", "fx", "kwh", "pue", "colo",
    "staff", "sup", "left", "all", "tok", "days", "also",
})  # fmt: skip

TARGET_SETS = ("all_linear", "attention")

Parser = Callable[[str], Any]


def read_whole(text: str) -> int:
    """Return a whole number of at most 12 digits, or raise ValueError."""
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        raise ValueError("whole")
    return int(text)


def read_number(text: str) -> float:
    """Return a number that is not negative, or raise ValueError."""
    if not re.fullmatch(r"\d{1,12}(\.\d{1,20})?(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
        raise ValueError("number")
    return float(text)


def read_flag(text: str) -> bool:
    """Return 1 as true and 0 as false, or raise ValueError."""
    if text not in ("0", "1"):
        raise ValueError("flag")
    return text == "1"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("too deep") from None


def read_targets(text: str) -> Any:
    """Return a set of LoRA targets by its name, or the names given, or raise ValueError."""
    if text.startswith("["):
        names = _json(text)
        if not isinstance(names, list):
            raise ValueError("list")
        return names
    return text if text in TARGET_SETS else text.split(",")


def read_object(text: str) -> dict[str, Any]:
    """Return a JSON object, or raise ValueError."""
    value = _json(text)
    if not isinstance(value, dict):
        raise ValueError("object")
    return value


# Parameter → (path in the scenario, how its text is read). Never reuse a name.
PLAIN: Mapping[str, tuple[str, Parser]] = {
    "t": ("task", str),
    "w": ("precision", str),
    "kv": ("kv_cache_precision", str),
    "e": ("engine", str),
    "ev": ("engine_version", str),
}
INFERENCE: Mapping[str, tuple[str, Parser]] = {
    "n": ("inference.concurrency", read_whole),
    "in": ("inference.input_tokens", read_whole),
    "out": ("inference.output_tokens", read_whole),
    "len": ("inference.max_model_len", read_whole),
    "util": ("inference.gpu_memory_utilization", read_number),
    "step": ("inference.max_num_batched_tokens", read_whole),
    "seqs": ("inference.max_num_seqs", read_whole),
    "pre": ("inference.prefix_cache_share", read_number),
    "spec": ("inference.speculative_tokens", read_whole),
    "acc": ("inference.acceptance_rate", read_number),
}
TRAINING: Mapping[str, tuple[str, Parser]] = {
    "how": ("training.method", str),
    "mix": ("training.mixed_precision", str),
    "mb": ("training.micro_batch_size", read_whole),
    "seq": ("training.sequence_length", read_whole),
    "ga": ("training.gradient_accumulation", read_whole),
    "opt": ("training.optimizer", str),
    "ckpt": ("training.gradient_checkpointing", read_flag),
    "r": ("training.lora_rank", read_whole),
    "lora": ("training.lora_targets", read_targets),
    "sh": ("training.sharding", str),
    "off": ("training.offload", str),
    "sl": ("training.sample_lengths", str),
}
HARDWARE: Mapping[str, tuple[str, Parser]] = {
    "c": ("hardware.gpu_count", read_whole),
    "tp": ("hardware.tensor_parallel", read_whole),
    "pp": ("hardware.pipeline_parallel", read_whole),
    "ep": ("hardware.expert_parallel", read_whole),
    "dp": ("hardware.data_parallel", read_whole),
    "host": ("hardware.allow_cpu_offload", read_flag),
}
FIELDS: Mapping[str, tuple[str, Parser]] = {**PLAIN, **INFERENCE, **TRAINING, **HARDWARE}
_MODEL = ("m", "b", "cfg", "name", "up")
_GPU = ("g", "gj")
PARAMETERS = frozenset({*FIELDS, *_MODEL, *_GPU, *NOT_SCENARIO})


def number_text(value: float) -> str:
    """Return a number as a link writes it: whole ones without a point."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e12 else repr(value)


def field_of(parameter: str) -> str:
    """Return the contract's name of the field that a parameter carries; itself if none."""
    if parameter in FIELDS:
        return FIELDS[parameter][0].rsplit(".", 1)[-1]
    return {"m": "model", "b": "parameters_b", "cfg": "config", "g": "gpu", "gj": "gpu"}.get(
        parameter, parameter
    )
