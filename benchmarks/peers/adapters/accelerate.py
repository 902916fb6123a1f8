"""accelerate 1.15.0: `accelerate estimate-memory`, its size and "Training using Adam" columns."""

from __future__ import annotations

from types import SimpleNamespace

from accelerate.commands import estimate
from peer_protocol import GIB, Question, config_folder, serve

estimate.verify_on_hub = lambda *_: SimpleNamespace(config={}, library_name="transformers")
DTYPES = {"fp32": "float32", "bf16": "float16", "fp16": "float16", "int8": "int8", "int4": "int4",
          "nf4": "int4"}  # fmt: skip
_SIZES: dict[str, list[list[object]]] = {}


def _rows(folder: str) -> list[list[object]]:
    if folder not in _SIZES:
        arguments = SimpleNamespace(
            model_name=folder, library_name="transformers", trust_remote_code=False,
            dtypes=["float32", "float16", "int8", "int4"],
        )  # fmt: skip
        _SIZES[folder] = estimate.gather_data(arguments)
    return _SIZES[folder]


def answer(question: Question) -> dict[str, float]:
    dtype = DTYPES.get(question.hints["precision"])
    question.needs(dtype, f"no dtype for {question.hints['precision']}")
    question.needs(question.hardware["gpu_count"] == 1, "one device only")
    config = dict(question.config)
    config.pop("quantization_config", None)
    question.config = config
    rows = {row[0]: row for row in _rows(str(config_folder(question)))}
    if question.serves:
        return {"memory.weights_gib": rows[dtype][2] / GIB}
    out = {"memory.weights_gib": rows[dtype][2] / GIB}
    if question.training.get("method") == "full":
        column = "float32" if question.training.get("mixed_precision") == "fp32" else "float16"
        held = max(rows[column][3].values()) / GIB
        out |= {
            "memory.peak_allocated_gib": held, "memory.reserved_gib": held,
            "memory.total_gib": held,
        }  # fmt: skip
    return out


serve(answer)
