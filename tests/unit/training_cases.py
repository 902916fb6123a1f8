"""Models and one call that the tests of training memory share."""

from __future__ import annotations

from typing import Any

from configurator.architecture import Architecture, read_architecture
from configurator.memory.training import TrainingMemory, training_memory
from configurator.scenario import Training

LLAMA2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32000, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3_MOE = {
    "model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 1280,
    "moe_intermediate_size": 384, "num_experts": 8, "num_experts_per_tok": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "num_hidden_layers": 4,
    "vocab_size": 1024, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "hidden_size": 1024, "intermediate_size": 2048,
    "moe_intermediate_size": 256, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "num_attention_heads": 8, "num_key_value_heads": 8,
    "kv_lora_rank": 128, "q_lora_rank": 256, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64,
    "v_head_dim": 64, "first_k_dense_replace": 1, "num_hidden_layers": 4, "vocab_size": 2048,
    "torch_dtype": "bfloat16",
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "vocab_size": 2048, "multi_query": True, "parallel_attn": True, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA = read_architecture(LLAMA2_7B, "llama")
MODELS = [
    LLAMA, read_architecture(QWEN3_MOE, "moe"), read_architecture(DEEPSEEK, "mla"),
    read_architecture(FALCON, "falcon"),
    read_architecture({**LLAMA2_7B, "num_key_value_heads": 4, "tie_word_embeddings": True,
                       "vocab_size": 128256}, "gqa"),
]  # fmt: skip
ENGINES = ("transformers", "deepspeed", "fsdp", "megatron")


def run(
    arch: Architecture = LLAMA,
    engine: str = "transformers",
    precision: str = "bf16",
    splits: tuple[Any, ...] = (),
    device_bytes: Any = None,
    **training: Any,
) -> TrainingMemory:
    tensor, pipeline, expert, data = (*splits, 1, 1, 1, 1)[:4]
    return training_memory(
        arch, precision, Training(**training), engine, tensor, pipeline, expert, data, device_bytes
    )


def qwen(hidden: int, ffn: int, layers: int, heads: int) -> Architecture:
    return read_architecture(
        {
            "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2,
            "vocab_size": 151936, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        },
        "qwen",
    )  # fmt: skip


QWEN_05B, QWEN_15B, QWEN_3B = (
    qwen(896, 4864, 24, 14), qwen(1536, 8960, 28, 12), qwen(2048, 11008, 36, 16),
)  # fmt: skip
