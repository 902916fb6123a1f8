"""ridgepoint 0.1.2: `fit` on a config.json, as its Hugging Face adapter reads one."""

from __future__ import annotations

import json

import ridgepoint
from peer_protocol import GIB, Question, serve
from ridgepoint import hf

GPUS = {
    "h100-sxm": "h100-80gb", "h100-pcie": "h100-80gb", "h200-sxm": "h200-141gb",
    "b200-sxm": "b200-192gb", "a100-sxm4-80": "a100-80gb", "a100-pcie-80": "a100-80gb",
    "a100-sxm4-40": "a100-40gb", "l40s": "l40s-48gb", "rtx-3090": "rtx3090-24gb",
    "rtx-4090": "rtx4090-24gb", "mi300x": "mi300x-192gb",
}  # fmt: skip
ENGINES = {"vllm": "vllm", "sglang": "sglang", "llama_cpp": "llamacpp"}
DTYPES = {
    "bf16": "fp16", "fp16": "fp16", "fp8": "fp8", "int8": "int8", "q8_0": "q8_0", "q6_k": "q6_k",
    "q5_k_m": "q5_k_m", "q4_k_m": "q4_k_m", "q4_0": "q4_0", "q3_k_m": "q3_k_m", "q2_k": "q2_k",
}  # fmt: skip


def answer(question: Question) -> dict[str, float]:
    question.needs(question.serves, "inference only")
    question.needs(question.engine in ENGINES, f"no engine {question.engine}")
    gpu = GPUS.get(question.gpu["id"])
    question.needs(gpu, f"no GPU {question.gpu['id']}")
    dtype = DTYPES.get(question.hints["precision"])
    if question.hints["precision"] == "int4":
        method = (question.config.get("quantization_config") or {}).get("quant_method")
        dtype = "gptq-int4" if method == "gptq" else "awq"
    question.needs(dtype, f"no dtype {question.hints['precision']}")
    hf._download_json = lambda *_: question.config
    hf._params_from_index = lambda *_: question.hints["parameters"]
    count = int(question.hardware["gpu_count"])
    fp8_cache = question.scenario.get("kv_cache_precision") == "fp8"
    text = ridgepoint.fit(
        "case/model", gpu, count=count, engine=ENGINES[question.engine], dtype=dtype,
        kv_cache_dtype="fp8" if fp8_cache else "fp16", ctx=question.context,
        prompt=int(question.inference["input_tokens"]), as_json=True,
    )  # fmt: skip
    found = json.loads(text)
    pool, capacity = found["memory"]["kv_pool_bytes"]["best"], found["capacity"]
    sequences = int(question.inference["concurrency"])
    out = {
        "memory.weights_gib": found["memory"]["weights_bytes"]["best"] / count / GIB,
        "memory.kv_cache_gib": capacity["bytes_per_seq"] * sequences / count / GIB,
        "kv.capacity_tokens": pool / capacity["bytes_per_seq"] * capacity["ctx"],
    }
    # It gives the speed of one stream. llama.cpp's GPUs take turns, which it does not know.
    if sequences == 1 and (count == 1 or question.engine != "llama_cpp"):
        speed = found["speed"]
        out["performance.ttft_s"] = speed["ttft_s"]["best"]
        out["performance.tpot_s"] = 1 / speed["decode_tok_s"]["best"]
        out["performance.decode_tokens_per_s"] = speed["decode_tok_s"]["best"]
    return out


serve(answer)
