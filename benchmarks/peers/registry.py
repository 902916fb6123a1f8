"""The peers that the comparison runs: version, how to install, what each was handed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A tool on PyPI.

    Attributes:
        name: Of its adapter in ``adapters/`` and of its environment.
        version: Pinned; the first requirement.
        requirements: What pip installs.
        licence: As its package states it.
        quantities: What it claims to give, as paths into our Estimate.
        asked: What the adapter calls and hands over.
        given: Quantities that repeat a figure handed in, not found by the peer.
        slow: Takes a good part of a second a question: gets a sample of the cases of speed.
        speed_gpus, speed_engines: What its cases of speed are drawn from; empty: all.
        one_user: Its speed is that of one request alone.
    """

    name: str
    version: str
    requirements: tuple[str, ...]
    licence: str
    quantities: tuple[str, ...]
    asked: str
    given: tuple[str, ...] = ()
    slow: bool = False
    speed_gpus: tuple[str, ...] = ()
    speed_engines: tuple[str, ...] = ()
    one_user: bool = False


WEIGHTS, CACHE, POOL = "memory.weights_gib", "memory.kv_cache_gib", "kv.capacity_tokens"
PEAK, RESERVED, TOTAL = "memory.peak_allocated_gib", "memory.reserved_gib", "memory.total_gib"
TTFT, TPOT = "performance.ttft_s", "performance.tpot_s"
OUTPUT, DECODE = "performance.output_tokens_per_s", "performance.decode_tokens_per_s"

PEERS = (
    Peer(
        "aiconfigurator", "0.12.0", ("aiconfigurator==0.12.0",), "Apache-2.0",
        (WEIGHTS, POOL, TTFT, TPOT, OUTPUT),
        "`cli_estimate` (mode agg, default database: SILICON, latest version) and "
        "`estimate_kv_cache` with the naive fallback on; config.json as a local folder, engine, "
        "split, lengths, users, quantization where the config does not say it, and for the pool "
        "the card's memory, the share of it and the batched tokens",
        slow=True, speed_gpus=("h100-sxm", "h200-sxm", "b200-sxm"),
        speed_engines=("vllm", "sglang", "tensorrt_llm"),
    ),
    Peer(
        "llm-d-planner", "0.3.3", ("llm-d-planner[estimation]==0.3.3", "transformers==5.24.0"),
        "Apache-2.0", (WEIGHTS, POOL),
        "`capacity_planner` functions; config.json as a local folder, the checkpoint's parameters "
        "by dtype in place of the Hub's header, split, share, the card's memory in GiB, "
        "max_model_len",
        given=(WEIGHTS,),
    ),
    Peer(
        "ridgepoint", "0.1.2", ("ridgepoint==0.1.2",), "MIT",
        (WEIGHTS, CACHE, POOL, TTFT, TPOT, DECODE),
        "`fit`; config.json and the parameter count in place of the Hub's, its own GPU id, engine, "
        "dtype, cache dtype, context; speed for one "
        "user only, which is all it gives, and of llama.cpp on one GPU only (on several it answers "
        "with as many times the speed)",
        speed_engines=("vllm", "sglang", "llama_cpp"),
        given=(WEIGHTS,),
        one_user=True,
    ),
    Peer(
        "vramcalc", "0.1.2", ("vramcalc==0.1.2",), "MIT", (WEIGHTS, CACHE, PEAK, TOTAL),
        "`estimate`; config.json, dtype, batch, length, mode, precision mode, LoRA rank, "
        "checkpointing, optimizer (its LoRA knows the four attention projections only)",
    ),
    Peer(
        "vramscout", "0.7.0", ("vramscout==0.7.0",), "MIT", (WEIGHTS, CACHE, POOL, TOTAL),
        "`plan_modern`; config.json as a local folder, parameters and (quantized models) "
        "checkpoint bytes in place of the Hub's, engine, TP, the card's memory, share, chunk; no "
        "inner reserve; its longest context for one user is the pool",
        given=(WEIGHTS,),
    ),
    Peer(
        "hf-mem", "0.5.6", ("hf-mem==0.5.6",), "MIT", (CACHE, PEAK, TOTAL),
        "its header parser and cache formula; the checkpoint's parameters by dtype in place of "
        "the Hub's header; length, batch, cache dtype. Its total is weights + cache",
    ),
    Peer(
        "accelerate", "1.15.0", ("accelerate==1.15.0", "transformers==5.24.0", "torch"),
        "Apache-2.0", (WEIGHTS, PEAK, RESERVED, TOTAL),
        "`accelerate estimate-memory`, columns Total Size and Training using Adam; config.json as "
        "a local folder, dtype. It takes no batch and no length. A model is read once and kept",
    ),
    Peer(
        "hf-vram-calc", "1.0.9", ("hf-vram-calc==1.0.9", "accelerate==1.15.0",
                                  "transformers==5.24.0"),
        "MIT", (WEIGHTS, CACHE, PEAK, RESERVED, TOTAL),
        "its calculator; config.json, dtype, batch, length, LoRA rank; inference, training and "
        "LoRA totals as printed. A model is read once and kept",
    ),
)  # fmt: skip

# Looked at and not run, with the reason.
NOT_RUN = {
    "llmfit 1.1.17, whichllm 0.5.21, llmcalculator 0.2.3": "answer for models of their own "
    "database or the Hub; take no config.json offline",
    "llm-mem-planner 0.2.2": "DeepSeek-like MLA models only",
    "genz-llm 0.0.16": "named models only; ideal roofline, no engine",
    "llm-analysis 0.2.2": "its PyPI release refuses Llama and Qwen",
    "vidur 0.0.26": "simulates a handful of models that it has profiles of",
    "fitllm, gguf-parser-go, gpustack, LLM-Viewer, gpu_poor, fjacquet/llmvram, AMD llm-sizer, "
    "canirun.ai, DeepSpeed and Megatron estimators, EleutherAI cookbook, ConfigIQ": "not on PyPI "
    "as an estimator",
    "unsloth studio's estimator": "AGPL",
}
