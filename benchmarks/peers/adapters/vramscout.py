"""vramscout 0.7.0: `plan_modern`, the function behind its command line."""

from __future__ import annotations

from peer_protocol import Question, config_folder, serve
from vramscout import modern_v06
from vramscout.modern_v07 import plan_modern

ENDLESS = 16_777_216  # lifts the config's own limit, so that its search finds the whole pool
DTYPES = {"mxfp4": "nvfp4"}
NOT_CACHE = ("Model weights / rank", "CUDA / runtime", "Prefill scratch", "Safety reserve")


def answer(question: Question) -> dict[str, float]:
    question.needs(question.serves, "inference only")
    question.needs(question.engine in ("vllm", "sglang", "transformers"), "no GGUF")
    hints = question.hints
    modern_v06._selected_hub_metadata = lambda *_: (
        hints["parameters"], hints["checkpoint_bytes"] if question.quantized() else None,
    )  # fmt: skip
    cache = question.scenario.get("kv_cache_precision", "auto")
    vllm = question.engine != "transformers"
    plan = plan_modern(
        str(config_folder(question, max_position_embeddings=ENDLESS)),
        context=question.context, batch_size=int(question.inference["concurrency"]),
        weight_dtype="auto" if question.quantized() else hints["precision"],
        kv_dtype=cache if cache in ("fp32", "fp16", "bf16", "fp8") else "auto",
        tp=question.tensor, vram_gib=question.gpu["memory_gib"], reserve_gib=0.0,
        prefill_chunk=int(question.inference.get("max_num_batched_tokens") or 8192),
        engine="vllm" if vllm else "generic",
        gpu_memory_utilization=(question.inference.get("gpu_memory_utilization") or 0.9)
        if vllm else None,
    )  # fmt: skip
    out = {
        "memory.weights_gib": plan.parts_gib["Model weights / rank"],
        "memory.kv_cache_gib": sum(v for k, v in plan.parts_gib.items() if k not in NOT_CACHE),
    }
    if not vllm:
        out["memory.total_gib"] = plan.total_gib
    elif question.inference["concurrency"] == 1 and 0 < plan.max_context_vram < ENDLESS:
        out["kv.capacity_tokens"] = plan.max_context_vram
    return out


serve(answer)
