"""Megatron-LM's command for models built like Llama; for others, what makes theirs.

Arguments of Megatron Core's ``megatron/training/arguments.py`` as of 2026.
"""

from __future__ import annotations

from typing import Any

from configurator.estimate import Estimate
from configurator.export.shell import model_reference, note, with_options
from configurator.parallelism import last_stage_layers

# Built like Llama, so that the arguments below say all of the model.
PLAIN = ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
# With a norm on queries and keys.
QK_NORM = ("qwen3", "qwen3_moe")
# ZeRO's stages as Megatron-FSDP names them.
STRATEGIES = {
    "zero2": "optim_grads", "zero3": "optim_grads_params", "fsdp": "optim_grads_params",
}  # fmt: skip
SMALL_ADAM = ("adamw_8bit", "paged_adamw_8bit")
OPTIMIZERS = {"adamw": "adam", "sgd": "sgd", **dict.fromkeys(SMALL_ADAM, "adam")}


def _optimizer(answer: Estimate) -> list[tuple[str, Any]]:
    """Options of the optimizer, its states, and sharding beyond them (Megatron-FSDP)."""
    fitting = answer.scenario.fitting
    strategy = STRATEGIES.get(fitting.sharding)
    small, offload = fitting.optimizer in SMALL_ADAM, fitting.offload != "none"
    sharded = fitting.sharding not in ("none", "ddp")
    return [
        ("--optimizer", OPTIMIZERS.get(fitting.optimizer, "adam")),
        # States of fewer bits, or in host memory, belong to the distributed optimizer.
        ("--use-distributed-optimizer", sharded or offload or small),
        ("--use-megatron-fsdp", strategy is not None),
        ("--data-parallel-sharding-strategy", strategy),
        ("--no-gradient-accumulation-fusion", strategy is not None),
        ("--ckpt-format", "fsdp_dtensor" if strategy else None),
        ("--use-precision-aware-optimizer", small or offload),
        ("--exp-avg-dtype", "fp8" if small else None),
        ("--exp-avg-sq-dtype", "fp8" if small else None),
        ("--optimizer-cpu-offload", offload),
    ]


def _model(answer: Estimate) -> list[tuple[str, Any]]:
    """Options that describe the model."""
    arch, seen = answer.architecture, answer.scenario.fitting.sequence_length
    layers = [group.layer for group in arch.groups]
    layer = layers[0]
    dense = next((each for each in layers if not each.experts), None)
    routed = next((each for each in layers if each.experts), None)
    grouped = layer.kv_heads != layer.heads
    names = {matrix.name for matrix in layer.matrices}
    return [
        ("--use-mcore-models", True),
        ("--num-layers", arch.num_layers),
        ("--hidden-size", arch.hidden_size),
        ("--ffn-hidden-size", (dense or layer).ffn),
        ("--num-attention-heads", layer.heads),
        ("--kv-channels", layer.qk_dim),
        ("--group-query-attention", grouped),
        ("--num-query-groups", layer.kv_heads if grouped else None),
        ("--qk-layernorm", arch.model_type in QK_NORM),
        ("--add-qkv-bias", "q_proj.bias" in names),
        ("--num-experts", routed.experts if routed else None),
        ("--moe-ffn-hidden-size", routed.ffn if routed else None),
        ("--moe-router-topk", routed.experts_per_token if routed else None),
        ("--seq-length", seen),
        ("--max-position-embeddings", seen),
        ("--position-embedding-type", "rope"),
        ("--normalization", "RMSNorm"),
        ("--swiglu", layer.gated),
        ("--disable-bias-linear", True),
        ("--untie-embeddings-and-output-weights", not arch.tied_embeddings),
    ]


def megatron_command(answer: Estimate, start: str, language: str = "en") -> str:
    """Return the Megatron-LM command; a note in its place where it cannot say what is asked.

    Args:
        answer: Of a training scenario.
        start: What starts ``pretrain_gpt.py`` on every card.
        language: Of the notes.
    """
    scenario, split = answer.scenario, answer.split
    fitting, kind = scenario.fitting, answer.architecture.model_type
    if fitting.method != "full":
        return note("code.megatron_adapters", language)
    if kind not in PLAIN or answer.architecture.vision_parameters:
        return note("code.megatron_provider", language, kind=kind)
    out = ""
    if fitting.optimizer not in OPTIMIZERS:
        out += note("code.megatron_optimizer", language, optimizer=fitting.optimizer)
    tuning = scenario.task == "fine_tuning"
    if tuning:
        out += note("code.megatron_convert", language)
    if split.tensor > 1 and fitting.sharding not in STRATEGIES:
        # Sequence parallelism overlaps right only with one hardware queue.
        out += "export CUDA_DEVICE_MAX_CONNECTIONS=1\n"
    layers = answer.architecture.num_layers
    last = last_stage_layers(layers, split.pipeline)
    replayed = fitting.gradient_checkpointing
    batch = fitting.micro_batch_size * fitting.gradient_accumulation * split.data
    return out + with_options(start, [
        *_model(answer),
        ("--tensor-model-parallel-size", split.tensor),
        ("--pipeline-model-parallel-size", split.pipeline),
        ("--decoder-last-pipeline-num-layers", last if layers % split.pipeline else None),
        ("--expert-model-parallel-size", split.expert if split.expert > 1 else None),
        ("--sequence-parallel", split.tensor > 1),
        *_optimizer(answer),
        ("--micro-batch-size", fitting.micro_batch_size),
        ("--global-batch-size", batch),
        ("--bf16", fitting.mixed_precision not in ("fp32", "amp_fp16")),
        ("--fp16", fitting.mixed_precision == "amp_fp16"),
        ("--recompute-granularity", "full" if replayed else None),
        ("--recompute-method", "uniform" if replayed else None),
        ("--recompute-num-layers", 1 if replayed else None),
        ("--load", "checkpoint" if tuning else None),
        ("--finetune", tuning),
        ("--lr", "1e-5" if tuning else "3e-4"),
        ("--train-iters", 1000),
        ("--tokenizer-type", "HuggingFaceTokenizer"),
        ("--tokenizer-model", model_reference(answer)),
        ("--data-path", "data_text_document"),
    ])  # fmt: skip
