"""hf-mem 0.5.6: its header parser and cache formula; its own entry point needs the Hub."""

from __future__ import annotations

from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size, resolve_kv_cache_dtype
from hf_mem.safetensors.metadata import parse_safetensors_metadata
from peer_protocol import GIB, Question, serve


def answer(question: Question) -> dict[str, float]:
    question.needs(question.serves, "inference only")
    question.needs(question.engine != "llama_cpp", "GGUF files are read from the Hub only")
    config = question.config.get("text_config", question.config)
    header = {
        f"tensor.{i}": {"dtype": dtype, "shape": [count], "data_offsets": [0, 0]}
        for i, (dtype, count) in enumerate(question.hints["header"].items())
    }
    metadata = parse_safetensors_metadata({"Transformer": header})
    cache = question.scenario.get("kv_cache_precision", "auto")
    asked = {"bf16": "bfloat16", "fp8": "fp8"}.get(cache, "auto")
    if asked == "auto" and question.quantized() and question.hints["precision"] != "fp8":
        asked = "bfloat16"  # it asks for this itself
    dtype = resolve_kv_cache_dtype(config, asked, metadata, "case/model")
    size = compute_safetensors_kv_cache_size(
        config, dtype, question.context, int(question.inference["concurrency"])
    )
    out = {"memory.kv_cache_gib": size / GIB}
    # vLLM and SGLang fill a share of the card whatever the model needs.
    if question.engine == "transformers" and question.hardware["gpu_count"] == 1:
        total = (metadata.bytes_count + size) / GIB
        out |= {"memory.total_gib": total, "memory.peak_allocated_gib": total}
    return out


serve(answer)
