"""The model that a GGUF header describes: its config, its precision, what disagrees."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from configurator.architecture import MAX_LAYERS, Architecture, read_architecture
from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.importers import gguf_families
from configurator.importers.gguf_header import Gguf, Length
from configurator.importers.gguf_keys import MODEL_TYPES, Header
from configurator.importers.shared import (
    FILE,
    Imported,
    differences,
    extra,
    imported_model,
    table_bytes,
)
from configurator.memory.weights import GGUF_MIXES

# From here on the parameters of the header and those of the config are said to differ.
PARAMETERS_TOLERANCE = 0.01


def from_gguf(gguf: Gguf, name: str) -> Imported:
    """Return the model of a header, with what its tensors and its keys disagree on."""
    config, notes = _config(Header(gguf))
    title = gguf.meta.get("general.name")
    title = title if isinstance(title, str) and title.strip() else Path(name).stem
    arch = read_architecture(config, title[:200])
    precision, stored = _gguf_precision(gguf, arch)
    if stored != precision:
        notes.append(("nearest_precision", {"stored": stored, "precision": precision}))
    held = sum(t.elements for k, t in gguf.tensors.items() if not k.startswith("rope_"))
    described = arch.parameters + arch.mtp_parameters
    if abs(held - described) > PARAMETERS_TOLERANCE * held:
        notes.append(("parameters_differ", {"file": held, "config": described}))
    notes += differences(arch, precision, "llama_cpp", gguf.tensors)
    plain = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(precision)
    if plain:
        config["torch_dtype"] = plain
    return imported_model(config, title, precision, gguf.tensors, notes)


def _gguf_precision(gguf: Gguf, arch: Architecture) -> tuple[str, str]:
    """Return the contract's name for what a GGUF holds, and llama.cpp's own.

    A mix that the contract has no name for gets the one whose size is nearest.
    """
    file_type = gguf.meta.get("general.file_type")
    stored = ""
    if isinstance(file_type, int):
        with contextlib.suppress(ValueError):
            stored = str(extra("gguf").LlamaFileType(file_type).name).lower()
    stored = stored.removeprefix("mostly_").removeprefix("all_").removesuffix("_moe")
    if not stored or stored == "guessed":
        sizes: dict[str, int] = {}
        for tensor in gguf.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.elements
        stored = max(sizes, key=lambda d: sizes[d]).lower()
    names = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "mxfp4": "mxfp4"}
    names |= {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
    names |= {mix: mix for mix in GGUF_MIXES}
    if stored in names:
        return names[stored], names[stored]
    size = sum(t.stored_bytes for t in gguf.tensors.values())
    tables = {mix: table_bytes(arch, mix, "llama_cpp") for mix in GGUF_MIXES}
    return min(GGUF_MIXES, key=lambda mix: abs(tables[mix] - size)), stored


def _config(header: Header) -> tuple[dict[str, Any], list[Assumption]]:
    """Return the config and what to tell about it."""
    notes: list[Assumption] = []
    heads = header.need("attention.head_count")
    kv_heads = header.number("attention.head_count_kv") or heads
    layers, drafts = _layers(header)
    config: dict[str, Any] = {
        "model_type": _model_type(header),
        "hidden_size": header.need("embedding_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": header.number("feed_forward_length") or None,
        "vocab_size": _vocabulary(header),
        "max_position_embeddings": header.number("context_length") or None,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "num_nextn_predict_layers": drafts,
        "use_qk_norm": header.has("attn_q_norm.weight"),
        "attention_bias": header.has("attn_q.bias") or header.has("attn_qkv.bias"),
    }
    if header.arch == "chatglm":
        config["multi_query_attention"] = True
    if header.arch == "falcon":  # key-value heads as stated, not as the oldest Falcon has them
        config["new_decoder_architecture"] = True
        config["num_ln_in_parallel_attn"] = 2 if header.has("attn_norm_2") else 1
    if header.number("attention.kv_lora_rank"):
        notes += gguf_families.latent(header, config, heads, layers)
    else:
        key = header.number("attention.key_length")
        value = header.number("attention.value_length")
        config["head_dim"] = key or None
        config["v_head_dim"] = value if value and value != key else None
    config |= gguf_families.experts(header, layers)
    notes += gguf_families.windows(header, config, layers)
    config |= gguf_families.per_layer_input(header)
    config |= gguf_families.hybrid(header, config, layers)
    return {k: v for k, v in config.items() if v is not None}, notes


def _layers(header: Header) -> tuple[int, int]:
    """Return the decoder layers and the draft layers that ``block_count`` takes in."""
    count, drafts = header.need("block_count"), header.number("nextn_predict_layers")
    if count > MAX_LAYERS:
        raise InputError(f"{FILE}.{header.arch}.block_count", "at_most", most=MAX_LAYERS)
    last = header.blocks.get(count - 1, set())
    if not drafts or drafts >= count:
        return count, 0
    if any(name.startswith("nextn.") for name in last):
        return count - drafts, drafts
    return count - drafts if not last else count, 0


def _model_type(header: Header) -> str:
    if header.arch == "llama" and header.number("expert_count"):
        return "mixtral"
    if header.arch == "deepseek2" and header.has("exp_probs_b"):
        return "deepseek_v3"
    if header.arch == "olmo2" and header.number("attention.sliding_window"):
        return "olmo3"
    return MODEL_TYPES[header.arch]


def _vocabulary(header: Header) -> int:
    embedding = header.tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        return embedding.shape[0]
    tokens = header.meta.get("tokenizer.ggml.tokens")
    return tokens.count if isinstance(tokens, Length) else header.need("vocab_size")
