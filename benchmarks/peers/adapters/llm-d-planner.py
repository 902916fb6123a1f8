"""llm-d-planner 0.3.3: `planner.capacity_planner`, the functions behind its capacity page."""

from __future__ import annotations

from types import SimpleNamespace

from peer_protocol import GIB, Question, config_folder, serve
from planner import capacity_planner as planner

HEADER: dict[str, int] = {}  # parameters by dtype, as the Hub's safetensors index gives them
planner.get_safetensors_metadata_from_hf = lambda *_, **__: SimpleNamespace(parameter_count=HEADER)


def answer(question: Question) -> dict[str, float]:
    question.needs(question.serves, "inference only")
    question.needs(question.engine == "vllm", "sizes vLLM only")
    folder = str(config_folder(question))
    config = planner.get_model_config_from_hf(folder)
    HEADER.clear()
    HEADER.update(question.hints["header"])
    tensor, pipeline, data = question.tensor, question.pipeline, question.data
    context = int(question.inference.get("max_model_len") or question.context)
    share = question.inference.get("gpu_memory_utilization") or 0.9
    # The pool over all GPUs by one token over all layers, as its own max_concurrent_requests
    # divides them. (total_kv_cache_blocks divides the same pool by one GPU's part of a token: at
    # TP 2 it says twice as many.)
    pool = planner.allocatable_kv_cache_memory(
        folder, config, question.gpu["memory_gib"], share, tensor, pipeline, data, context
    )
    token = planner.KVCacheDetail(folder, config, context).per_token_memory_bytes
    return {
        "memory.weights_gib": planner.per_gpu_model_memory_required(
            folder, config, tensor, pipeline
        ),
        "kv.capacity_tokens": pool * GIB / token,
    }


serve(answer)
