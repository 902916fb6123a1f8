"""The model that a config.json describes, or that tensors alone show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from configurator.architecture import read_architecture
from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.importers.shared import FILE, Imported, Tensor, differences, imported_model

_PLAIN = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp32"}
_LAYER = re.compile(r"model\.layers\.(\d{1,4})\.(.+)")
_QWEN3_LAYER = {
    "input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
    "mlp.up_proj.weight", "mlp.down_proj.weight", "self_attn.q_proj.weight",
    "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
    "self_attn.q_norm.weight", "self_attn.k_norm.weight",
}  # fmt: skip


def from_config(
    config: dict[str, Any],
    name: str,
    tensors: Mapping[str, Tensor],
    notes: Iterable[Assumption],
) -> Imported:
    """Return the model of a config, with the precision that its tensors show."""
    arch = read_architecture(config, name)
    quantization = arch.quantization
    precision = quantization.precision if quantization else arch.native_precision
    found = list(notes)
    if tensors:
        if quantization is None:
            precision = _dtype_precision(tensors)
        found += differences(arch, precision, "transformers", tensors)
    elif not found:
        found.append(("no_tensors_read", {}))
    return imported_model(config, name, precision, tensors, found)


def _dtype_precision(tensors: Mapping[str, Tensor]) -> str:
    """Return the precision of unexplained tensors, from the type that holds most bytes."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.stored_bytes
    dtype = max(sizes, key=lambda d: sizes[d])
    if dtype in _PLAIN:
        return _PLAIN[dtype]
    if dtype.startswith(("F8_E4M3", "F8_E5M2")):
        return "fp8"
    if dtype == "I8":
        return "int8"
    if any(name.endswith("quant_state.bitsandbytes__nf4") for name in tensors):
        return "nf4"
    if dtype in ("I32", "U32") and any(name.endswith(".qweight") for name in tensors):
        return "int4"
    if any(name.endswith(".weight_scale_2") for name in tensors):
        return "nvfp4"
    if any(name.endswith("_blocks") for name in tensors):
        return "mxfp4"
    raise InputError(FILE, "packed", dtype, dtype=dtype)


def from_tensors(tensors: Mapping[str, Tensor], name: str) -> Imported:
    """Infer the config where the names and shapes of the tensors determine it: dense Qwen3."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for key, tensor in tensors.items():
        match = _LAYER.fullmatch(key)
        if match:
            layers.setdefault(int(match[1]), {})[match[2]] = tensor.shape
    embedding = tensors.get("model.embed_tokens.weight")
    first = layers.get(0, {})
    if not layers or embedding is None or len(embedding.shape) != 2:
        raise InputError(FILE, "no_layers", name)
    weights = {k: s for k, s in first.items() if k.endswith(".weight")}
    if (
        set(weights) != _QWEN3_LAYER
        or any({k: s for k, s in v.items() if k in weights} != weights for v in layers.values())
        or sorted(layers) != list(range(len(layers)))
    ):
        raise _needs_config(name)
    q, k = weights["self_attn.q_proj.weight"], weights["self_attn.k_proj.weight"]
    norm, gate = weights["self_attn.q_norm.weight"], weights["mlp.gate_proj.weight"]
    vocab, hidden = embedding.shape
    if not all(len(s) == 2 for s in (q, k, gate)) or len(norm) != 1 or not norm[0]:
        raise _needs_config(name)
    dim = norm[0]
    if q[0] % dim or k[0] % dim or q[0] == dim or q[1] != hidden:
        raise _needs_config(name)
    config: dict[str, Any] = {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": q[0] // dim,
        "num_key_value_heads": k[0] // dim,
        "head_dim": dim,
        "intermediate_size": gate[0],
        "vocab_size": vocab,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    return from_config(config, name, tensors, [("config_inferred", {"model_type": "qwen3"})])


def _needs_config(name: str) -> InputError:
    return InputError(FILE, "heads_unknown", name)
