"""vramcalc 0.1.2: `estimate` for transformers inference and single-GPU training."""

from __future__ import annotations

from peer_protocol import GIB, Question, serve
from vramcalc import estimate

DTYPES = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}


def _out(held: object) -> dict[str, float]:
    total = held.total / GIB
    return {
        "memory.weights_gib": held.weights / GIB,
        "memory.kv_cache_gib": held.kv_cache / GIB,
        "memory.peak_allocated_gib": total,
        "memory.total_gib": total + held.overhead / GIB,
    }


def answer(question: Question) -> dict[str, float]:
    dtype = DTYPES.get(question.hints["precision"])
    question.needs(dtype, f"no {question.hints['precision']} weights")
    question.needs(question.engine == "transformers", "sizes transformers only")
    question.needs(question.hardware["gpu_count"] == 1, "one GPU only")
    if question.serves:
        return _out(
            estimate(
                question.config,
                mode="inference",
                dtype=dtype,
                seq_len=question.context,
                batch=int(question.inference["concurrency"]),
            )
        )
    train = question.training
    precision = train.get("mixed_precision", "pure_bf16")
    modes = {
        "pure_bf16": ("pure", "bf16"), "amp_bf16": ("amp", "bf16"), "amp_fp16": ("amp", "fp16"),
        "fp32": ("pure", "fp32"),
    }  # fmt: skip
    question.needs(precision in modes, f"no mode {precision}")
    question.needs(train.get("method") in ("full", "lora"), f"no method {train.get('method')}")
    question.needs(train.get("optimizer", "adamw") in ("adamw", "sgd"), "no such optimizer")
    mode, dtype = modes[precision]
    held = estimate(
        question.config, mode="train", dtype=dtype, precision=mode,
        batch=int(train["micro_batch_size"]), seq_len=int(train["sequence_length"]),
        lora_rank=int(train.get("lora_rank") or 16) if train["method"] == "lora" else None,
        grad_checkpoint=bool(train.get("gradient_checkpointing")),
        optimizer=train.get("optimizer", "adamw"),
    )  # fmt: skip
    return _out(held)


serve(answer)
