"""Compare our training memory with emulated runs: live peak and what the allocator reserves.

A grid of real transformers/PEFT training runs is recorded on fake CPU tensors and its storages go
through an emulation of PyTorch's caching allocator, so that no GPU is needed. The ``slack_*``
constants in ``catalog/engines.yaml`` were fitted to such a grid; this shows how far
``configurator.memory.training`` is from it.

Needs, beside the configurator's own requirements, PyTorch (a CPU build will do), transformers 5
and PEFT: pip install torch transformers peft. A run takes a few seconds to a minute of one core.

Run: python benchmarks/allocator/run.py [--quick] [--mode MODE ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

from configurator.architecture import read_architecture  # noqa: E402
from configurator.catalog import load_catalog  # noqa: E402
from configurator.memory.training import training_memory  # noqa: E402
from configurator.scenario import Training  # noqa: E402
from configurator.units import GIB  # noqa: E402

MODELS = {
    "amp": (
        "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-3B", "meta-llama/Llama-3.2-1B",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "Qwen/Qwen3-1.7B",
    ),
    "bf16": (
        "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B",
        "meta-llama/Llama-2-7b-hf", "Qwen/Qwen3-1.7B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "meta-llama/Llama-3.2-1B",
    ),
    "fp32": ("Qwen/Qwen2.5-1.5B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    "lora": (
        "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.3",
        "Qwen/Qwen2.5-7B", "Qwen/Qwen3-8B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "meta-llama/Llama-2-13b-hf", "Qwen/Qwen2.5-1.5B",
    ),
}  # fmt: skip
SHAPES = (
    (1, 2048, False), (1, 2048, True), (4, 2048, False), (4, 2048, True), (1, 8192, True),
    (1, 8192, False), (8, 2048, True), (16, 1024, True), (1, 512, True), (1, 512, False),
)  # fmt: skip
QUICK_MODELS, QUICK_SHAPES = 2, 4
PRECISION = {"amp": "amp_bf16", "bf16": "pure_bf16", "fp32": "fp32", "lora": "pure_bf16"}
LARGEST = 95 * GIB  # beyond any card the figures are for


def ours(job: Any, config: dict[str, Any]) -> tuple[float, float]:
    """Return our live peak and reserved bytes of a job."""
    arch = read_architecture({**config, "sliding_window": None}, job.model)
    training = Training(
        method="lora" if job.mode == "lora" else "full",
        mixed_precision=PRECISION[job.mode],
        micro_batch_size=job.batch,
        sequence_length=job.length,
        gradient_checkpointing=job.checkpointing,
    )
    stored = "fp32" if job.mode in ("amp", "fp32") else "bf16"
    held = training_memory(arch, stored, training, "transformers")
    return held.peak_allocated, held.reserved


def _line(name: str, errors: Sequence[float]) -> str:
    size = np.abs(errors)
    figures = (np.median(size), np.quantile(size, 0.9), size.max(), np.mean(errors))
    return f"  {name:9}" + "".join(f"{100 * x:9.2f} %" for x in figures)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the errors of both figures by mode: median, 90th percentile, worst, mean."""
    out = []
    for mode in (*MODELS, "all"):
        chosen = [r for r in rows if mode in ("all", r["mode"])]
        if not chosen:
            continue
        out.append(f"{mode}, {len(chosen)} runs{'median':>10}{'p90':>11}{'worst':>11}{'bias':>11}")
        for name in ("peak", "reserved"):
            out.append(_line(name, [r[f"our_{name}"] / r[name] - 1 for r in chosen]))
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two models and four shapes a mode")
    parser.add_argument("--mode", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        from training_run import Job, record
    except ImportError as error:
        sys.exit(f"{error}. This benchmark needs: pip install torch transformers peft")
    warnings.filterwarnings("ignore")
    models = QUICK_MODELS if options.quick else None
    shapes = SHAPES[: QUICK_SHAPES if options.quick else None]
    catalog = load_catalog()
    rows = []
    for mode in options.mode:
        for model in MODELS[mode][:models]:
            config = catalog.model_config(model)
            for batch, length, checkpointing in shapes:
                job, start = Job(model, mode, batch, length, checkpointing), time.perf_counter()
                peak, reserved = ours(job, config)
                if peak > LARGEST:
                    continue
                seen = record(job, config)
                rows.append({
                    "model": model, "mode": mode, "batch": batch, "length": length,
                    "checkpointing": checkpointing, "peak": seen.peak, "reserved": seen.reserved,
                    "weights": seen.weights, "phases": seen.phases, "our_peak": peak,
                    "our_reserved": reserved,
                })  # fmt: skip
                print(
                    f"{job!s:58} peak {seen.peak / GIB:6.2f} ours {peak / seen.peak - 1:+7.2%}   "
                    f"reserved {seen.reserved / GIB:6.2f} ours {reserved / seen.reserved - 1:+7.2%}"
                    f"   {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
