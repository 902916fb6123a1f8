"""What families of models say in a GGUF header of their own: parts of a config."""

from __future__ import annotations

from typing import Any

from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.importers.gguf_keys import UNEVEN, Header
from configurator.importers.shared import FILE

# Where llama.cpp keeps only a window (hparams.swa_type); Phi-3's it reads and does not use.
_WINDOWED = ("gemma2", "gemma3", "gemma3n", "gemma4", "cohere2", "gpt-oss", "exaone4", "olmo2",
             "afmoe")  # fmt: skip


def latent(header: Header, config: dict[str, Any], heads: int, layers: int) -> list[Assumption]:
    """Multi-head latent attention.

    Converters before April 2025 wrote no ``key_length_mla`` and one ``attn_kv_b``: llama.cpp
    then keeps every head's key and value instead of the latent.
    """
    rope = header.need("rope.dimension_count")
    wide = header.number("attention.key_length_mla") or header.need("attention.key_length")
    value = header.number("attention.value_length_mla") or header.number("attention.value_length")
    if wide < rope:
        raise InputError(f"{FILE}.{header.arch}.attention.key_length", "at_least", wide, least=rope)
    config |= {
        "num_key_value_heads": heads,
        "kv_lora_rank": header.number("attention.kv_lora_rank"),
        "q_lora_rank": header.number("attention.q_lora_rank") or None,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": wide - rope,
        "v_head_dim": value or None,
        "index_n_heads": header.number("attention.indexer.head_count") or None,
        "index_head_dim": header.number("attention.indexer.key_length") or None,
        "use_qk_norm": None,
    }
    if header.number("attention.key_length_mla"):
        return []
    value = value or max(1, config["hidden_size"] // heads)
    elements = layers * heads * (wide + value)
    return [("mla_keys_missing", {"cache_elements_per_token": elements})]


def experts(header: Header, layers: int) -> dict[str, Any]:
    """Mixture of experts: which layers have them and how wide they are."""
    count = header.number("expert_count")
    if not count:
        return {}
    routed = ["ffn_gate_inp.weight" in header.blocks.get(i, ()) for i in range(layers)]
    out: dict[str, Any] = {
        "num_experts": count,
        "num_experts_per_tok": header.need("expert_used_count"),
        "moe_intermediate_size": header.number("expert_feed_forward_length")
        or header.number("feed_forward_length")
        or None,
        "mlp_layer_types": ["sparse" if r else "dense" for r in routed],
        "shared_expert_intermediate_size": header.width("ffn_up_shexp") or 0,
        "moe_latent_size": header.number("moe_latent_size") or None,
    }
    if header.arch == "llama4":
        out["intermediate_size_mlp"] = header.number("feed_forward_length") or None
        out["intermediate_size"] = out["moe_intermediate_size"]
    return out


def windows(header: Header, config: dict[str, Any], layers: int) -> list[Assumption]:
    """Sliding windows, where llama.cpp keeps only them."""
    window = header.number("attention.sliding_window")
    if header.arch == "llama4":
        config["attention_chunk_size"] = window or 8192  # llama.cpp's LLM_ARCH_LLAMA4
        return []
    if not window:
        return []
    if header.arch not in _WINDOWED:
        return [("sliding_window_unused", {"tokens": window})] if header.arch == "phi3" else []
    config["sliding_window"] = window
    pattern = header.meta.get(f"{header.arch}.attention.sliding_window_pattern")
    if isinstance(pattern, list) and len(pattern) >= layers:
        config["layer_types"] = [
            "sliding_attention" if p else "full_attention" for p in pattern[:layers]
        ]
    elif type(pattern) is int and pattern > 0:
        config["sliding_window_pattern"] = pattern
    elif header.arch == "exaone4":
        config["sliding_window_pattern"] = 4
    if header.arch == "gemma4":
        _gemma4(header, config, layers)
    return []


def _gemma4(header: Header, config: dict[str, Any], layers: int) -> None:
    """Gemma 4: full layers have other heads, and some have no value projection."""
    kinds = config.get("layer_types", [])
    kv = header.numbers("attention.head_count_kv")
    config["global_head_dim"] = header.number("attention.key_length") or None
    config["head_dim"] = header.number("attention.key_length_swa") or config["head_dim"]
    config.pop("v_head_dim")
    full = [i for i in range(len(kinds)) if kinds[i] == "full_attention"]
    if len(kv) >= layers and full:
        sliding = [kv[i] for i in range(layers) if i not in set(full)]
        config["num_global_key_value_heads"] = kv[full[0]] or None
        config["num_key_value_heads"] = max(sliding, default=0) or kv[full[0]]
    config["attention_k_eq_v"] = bool(full) and "attn_v.weight" not in header.blocks.get(
        full[0], ()
    )
    widths = [w for w in header.numbers("feed_forward_length") if w]
    if len(set(widths)) == 2 and max(widths) == 2 * min(widths):
        config |= {"use_double_wide_mlp": True, "intermediate_size": min(widths)}


def per_layer_input(header: Header) -> dict[str, Any]:
    """Gemma 3n and 4 E-models: an embedding for each layer, and layers without a cache."""
    out: dict[str, Any] = {}
    width = header.number("embedding_length_per_layer_input")
    if width:
        table = header.tensors.get("per_layer_token_embd.weight")
        out["hidden_size_per_layer_input"] = width
        out["vocab_size_per_layer_input"] = table.shape[0] if table and table.shape else None
    shared = header.number("attention.shared_kv_layers")
    if shared:
        out["num_kv_shared_layers"] = shared
    return out


def hybrid(header: Header, config: dict[str, Any], layers: int) -> dict[str, Any]:
    """State-space, delta-rule and convolution layers; which is which the tensors say."""
    if header.arch not in UNEVEN or header.arch.startswith("gemma"):
        return {}
    names = [header.blocks.get(i, set()) for i in range(layers)]
    if header.arch.startswith("lfm2"):
        conv = ["conv" if _any(n, "shortconv.") else "full_attention" for n in names]
        return {"layer_types": conv, "conv_L_cache": header.need("shortconv.l_cache")}
    ssm = [_any(n, "ssm_") for n in names]
    kernel = header.need("ssm.conv_kernel")
    if header.arch == "kimi-linear":
        linear = {
            "num_heads": config["num_attention_heads"],
            "head_dim": header.need("kda.head_dim"),
            "short_conv_kernel_size": kernel,
            "kda_layers": [i + 1 for i in range(layers) if ssm[i]],
        }
        return {"linear_attn_config": linear}
    inner, ranks = header.need("ssm.inner_size"), header.need("ssm.time_step_rank")
    groups, state = header.need("ssm.group_count"), header.need("ssm.state_size")
    if header.arch.startswith("qwen3"):
        return {
            "layer_types": ["linear_attention" if s else "full_attention" for s in ssm],
            "linear_num_key_heads": groups,
            "linear_num_value_heads": ranks,
            "linear_key_head_dim": state,
            "linear_value_head_dim": max(1, inner // ranks),
            "linear_conv_kernel_dim": kernel,
        }
    mamba: dict[str, Any] = {
        "mamba_num_heads": ranks,
        "mamba_head_dim": max(1, inner // ranks),
        "mamba_n_groups": groups,
        "ssm_state_size": state,
        "conv_kernel": kernel,
        "use_qk_norm": None,
    }
    if header.arch == "granitehybrid":
        shared = header.width("ffn_up_shexp")
        mamba["shared_intermediate_size"] = shared or None
        return {**mamba, "layer_types": ["mamba" if s else "attention" for s in ssm]}
    signs = []
    for block, is_mamba in zip(names, ssm, strict=True):
        rest = "E" if "ffn_gate_inp.weight" in block else "-"
        signs.append("M" if is_mamba else "*" if _any(block, "attn_q.") else rest)
    return {**mamba, "hybrid_override_pattern": "".join(signs)}


def _any(names: set[str], prefix: str) -> bool:
    return any(n.startswith(prefix) for n in names)
