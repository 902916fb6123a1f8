"""aiconfigurator 0.12.0: `cli_estimate` (agg) for speed, `estimate_kv_cache` for the cache pool."""

from __future__ import annotations

import logging
from typing import Any

from aiconfigurator.cli.api import cli_estimate
from aiconfigurator_core.sdk.memory import KVCacheEstimator, estimate_kv_cache
from aiconfigurator_core.sdk.perf_database import get_latest_database_version
from peer_protocol import GIB, Question, config_folder, serve

logging.disable(logging.CRITICAL)

SYSTEMS = {
    "h100-sxm": "h100_sxm", "h100-pcie": "h100_pcie", "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm", "a100-sxm4-80": "a100_sxm", "a100-pcie-80": "a100_pcie",
    "l40s": "l40s", "gb300": "gb300",
}  # fmt: skip
BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm"}
KV = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "int8": "int8"}
POOL = "kv.capacity_tokens"
BATCHED_TOKENS = 8192  # what both engines take by default on such cards


def _modes(question: Question) -> dict[str, str | None]:
    """Name the quantization where the config does not already say it."""
    if question.config.get("quantization_config"):
        gemm = None
    else:
        gemm = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "nvfp4": "nvfp4"}.get(
            question.hints["precision"]
        )
        question.needs(gemm, f"no mode for {question.hints['precision']} weights")
    return {
        "gemm_quant_mode": gemm,
        "moe_quant_mode": gemm,
        "kvcache_quant_mode": KV.get(question.scenario.get("kv_cache_precision", "auto")),
    }


def _split(question: Question) -> tuple[dict[str, int], int]:
    """Return the parallel sizes of one replica and the number of replicas."""
    tensor, data = question.tensor, question.data
    expert = int(question.hardware.get("expert_parallel") or 1)
    attention_data = data if expert > tensor else 1
    ranks = tensor * attention_data
    sizes = {"tp_size": tensor, "pp_size": question.pipeline, "attention_dp_size": attention_data}
    expert = min(expert, ranks)
    sizes |= {"moe_ep_size": expert, "moe_tp_size": ranks // expert}
    return sizes, data // attention_data


def _speed(question: Question, system: str) -> dict[str, float]:
    sizes, replicas = _split(question)
    ranks = sizes["attention_dp_size"] * sizes["pp_size"] * replicas
    result = cli_estimate(
        str(config_folder(question)), system, backend_name=BACKENDS[question.engine],
        isl=int(question.inference["input_tokens"]), osl=int(question.inference["output_tokens"]),
        batch_size=max(1, round(int(question.inference["concurrency"]) / ranks)),
        **sizes, **_modes(question),
    )  # fmt: skip
    return {
        "performance.ttft_s": result.ttft / 1e3,
        "performance.tpot_s": result.tpot / 1e3,
        "performance.output_tokens_per_s": result.tokens_per_second * replicas,
    }


def _pool(question: Question, system: str | None) -> dict[str, float]:
    sizes, replicas = _split(question)
    backend = BACKENDS[question.engine]
    total = question.engine != "tensorrt_llm"
    share = question.inference.get("gpu_memory_utilization") or 0.9
    capacity = int(question.gpu["memory_gib"] * GIB)
    request: dict[str, Any] = {
        "max_num_tokens": int(question.inference.get("max_num_batched_tokens") or BATCHED_TOKENS),
        "max_batch_size": int(question.inference.get("max_num_seqs") or 256),
        **sizes,
        **_modes(question),
    }
    folder, out = str(config_folder(question)), {}
    if system:
        version = get_latest_database_version(system=system, backend=backend)
        parts = KVCacheEstimator.from_request(folder, system, backend, version, **request)
        out["memory.weights_gib"] = parts.breakdown["weights_bytes"] / GIB
    else:
        version = None
    if POOL not in question.hints["asked"]:
        return out
    try:
        held = estimate_kv_cache(
            folder, system or "none", backend, version,
            memory_fraction_kind="of_total" if total else "of_free", memory_fraction_value=share,
            gpu_memory_capacity_bytes_override=capacity, allow_naive_fallback=True, **request,
        )  # fmt: skip
    except ValueError:
        if not out:
            raise
        return out  # its weights stand, though by its count no pool is left
    out[POOL] = held["total_kv_size_tokens"] * sizes["attention_dp_size"] * replicas
    return out


def answer(question: Question) -> dict[str, float]:
    question.needs(question.serves, "inference only")
    question.needs(question.engine in BACKENDS, f"no backend {question.engine}")
    system = SYSTEMS.get(question.gpu["id"])
    if any(q.startswith("performance.") for q in question.hints["asked"]):
        question.needs(system, f"no data for {question.gpu['id']}")
        return _speed(question, str(system))
    return _pool(question, system)


serve(answer)
