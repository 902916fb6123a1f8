"""What sets the model families apart where their config.json does not say it.

One record a family, after the family's own ``modeling_*.py`` and ``configuration_*.py``
(Hugging Face transformers 5.24, or the file that ships with the checkpoint).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from configurator.architecture.tables import NormKept, Packing

NormKind = Literal["rms", "layer", "none"]
Bias = Literal["no", "qkv", "attention", "all"]


@dataclass(frozen=True)
class Family:
    """How a family differs from Llama.

    Attributes:
        gated: Whether the MLP has a gate projection.
        norm: ``rms`` has a weight, ``layer`` a weight and a bias.
        norms: Norms of hidden width in a layer.
        bias: Linear layers that have a bias whatever the config says.
        bias_flag: Linear layers that ``attention_bias: true`` gives one.
        qk_norm: Norm of query and key: none, one for a head's width, or over all heads.
        tied: Default of ``tie_word_embeddings``.
        learned_positions: Whether positions are a table; the number is what it has beyond
            ``max_position_embeddings``.
        head_bias: Whether the output head has a bias.
        router_bias: Whether the router keeps a correction bias for each expert.
        experts: How transformers holds the experts.
        norm_kept: What transformers' norm keeps for the backward.
        wide_router: Whether transformers' router reads a 32-bit copy of the hidden state.
        every_expert: Whether transformers runs every expert on every token.
        activation: The activation's name, where the config does not have it or means another.
        scores: Bytes of an attention score where transformers has no kernel and writes them out.
        modules: The checkpoint's module for a matrix, where it differs or is fused.
        defaults: What the family's configuration class fills in.
        known: False for a family that the engine only takes for a Llama.
    """

    gated: bool = True
    norm: NormKind = "rms"
    norms: int = 2
    bias: Bias = "no"
    bias_flag: Bias = "qkv"
    qk_norm: Literal["no", "head", "full"] = "no"
    tied: bool = False
    learned_positions: int | None = None
    head_bias: bool = False
    router_bias: bool = False
    experts: Packing = "linear"
    norm_kept: NormKept = "narrow"
    wide_router: bool = False
    every_expert: bool = False
    activation: str = ""
    scores: int = 0
    modules: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    known: bool = True


def _fused(module: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, module)


_QKV = ("q_proj", "k_proj", "v_proj")
_GATE_UP = ("gate_proj", "up_proj")
_NEOX = {
    **_fused("query_key_value", *_QKV),
    "o_proj": "dense",
    "up_proj": "dense_h_to_4h",
    "down_proj": "dense_4h_to_h",
}
_GPT2 = {
    **_fused("attn.c_attn", *_QKV),
    "o_proj": "attn.c_proj",
    "up_proj": "mlp.c_fc",
    "down_proj": "mlp.c_proj",
}
_FC = {"up_proj": "fc1", "down_proj": "fc2"}

_LLAMA = Family(bias_flag="attention")
_GPT = Family(gated=False, norm="layer", bias="all")
_MLA = Family(router_bias=True)
_GEMMA = Family(tied=True, norms=4)
_GEMMA4 = replace(
    _GEMMA, qk_norm="head", experts="packed",
    defaults={"attention_k_eq_v": False}, bias_flag="attention",
)  # fmt: skip
_QWEN2 = Family(bias="qkv")
_QWEN3 = Family(qk_norm="head", bias_flag="attention")
_QWEN3_NEXT = replace(_QWEN3, defaults={"full_attention_interval": 4})
_KDA = replace(_MLA, defaults={"v_head_dim": 128})
_BAILING_HYBRID = replace(
    _MLA,
    defaults={
        "layer_group_size": 6, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "head_dim": 128,
    },
)  # fmt: skip
_STEP = Family(qk_norm="head", router_bias=True, defaults={"head_wise_gate": True})
_MISTRAL = _LLAMA
_NEMOTRON_H = Family(gated=False, router_bias=True, bias_flag="attention", norms=1)
_MINIMAX_LINEAR = Family()
_HUNYUAN = Family(bias_flag="attention")
_V4 = Family(router_bias=True)

FAMILIES: dict[str, Family] = {
    # Llama and what has its shape
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "mistral3": _MISTRAL,
    "ministral": _MISTRAL,
    "ministral3": _MISTRAL,
    "mixtral": _MISTRAL,
    "yi": _LLAMA,
    "aquila": _LLAMA,
    "apertus": Family(
        gated=False, qk_norm="head", bias_flag="attention", defaults={"hidden_act": "xielu"}
    ),
    "arcee": replace(_LLAMA, gated=False),
    "exaone": Family(modules={"o_proj": "out_proj"}),
    "exaone4": Family(qk_norm="head"),
    "smollm3": _LLAMA,
    "granite": _LLAMA,
    "seed_oss": replace(_LLAMA, defaults={"residual_dropout": 0.1}),
    "olmo": Family(norm="none", norm_kept="wide_input"),
    "olmo2": Family(qk_norm="full"),
    "olmo3": Family(qk_norm="full"),
    "olmoe": Family(qk_norm="full"),
    "mimo": _QWEN2,
    "minicpm": Family(bias_flag="attention", tied=True),
    "minicpm3": Family(tied=True),
    "internlm": Family(bias="attention"),
    "internlm2": Family(
        modules={
            **_fused("attention.wqkv", *_QKV), "o_proj": "attention.wo", "gate_proj": "w1",
            "up_proj": "w3", "down_proj": "w2",
        }
    ),
    "internlm3": Family(),
    "interns1": _QWEN3,
    "baichuan": Family(modules=_fused("W_pack", *_QKV)),
    "orion": Family(norm="layer"),
    "stablelm": Family(norm="layer"),
    "cohere": Family(norms=1, tied=True, bias_flag="attention", norm_kept="centred"),
    "cohere2": Family(norms=1, tied=True, bias_flag="attention", norm_kept="centred"),
    "nemotron": Family(gated=False, norm="layer", bias_flag="attention"),
    "nemotron-nas": _LLAMA,
    "llama4": Family(experts="packed", every_expert=True, bias_flag="attention"),
    "mllama": _LLAMA,
    # Qwen
    "qwen": Family(
        bias="qkv",
        modules={
            **_fused("c_attn", *_QKV), "o_proj": "attn.c_proj", "gate_proj": "w2",
            "up_proj": "w1", "down_proj": "mlp.c_proj",
        },
    ),
    "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": replace(_QWEN3, experts="packed"),
    # The checkpoint holds one draft layer that the config does not mention.
    "qwen3_next": replace(
        _QWEN3_NEXT,
        defaults={"full_attention_interval": 4, "attn_output_gate": True, "mtp_layers": 1},
    ),
    "qwen3_5": replace(
        _QWEN3_NEXT, defaults={"full_attention_interval": 4, "attn_output_gate": True}
    ),
    "qwen3_5_moe": replace(
        _QWEN3_NEXT, experts="packed",
        defaults={"full_attention_interval": 4, "attn_output_gate": True},
    ),
    # Gemma
    "gemma": Family(tied=True, bias_flag="attention"),
    "gemma2": _GEMMA,
    "gemma3": replace(_GEMMA, qk_norm="head"),
    "gemma3n": replace(_GEMMA4, defaults={}),
    "gemma4": _GEMMA4,
    # GPT-like: layer norms with bias, plain MLP
    "gpt2": replace(
        _GPT, tied=True, learned_positions=0, modules=_GPT2,
        defaults={"hidden_act": "gelu_new", "residual_dropout": 0.1},
    ),
    "gpt_neo": replace(
        _GPT, tied=True, learned_positions=0, scores=4, modules={"o_proj": "out_proj"}
    ),
    "gpt_bigcode": replace(_GPT, tied=True, learned_positions=0, modules=_GPT2),
    "gpt_neox": replace(_GPT, modules=_NEOX, defaults={"use_parallel_residual": True}),
    "gptj": Family(
        gated=False, norm="layer", norms=1, head_bias=True, scores=4,
        defaults={"hidden_act": "gelu_new"},
        modules={"o_proj": "out_proj", "up_proj": "fc_in", "down_proj": "fc_out"},
    ),
    "opt": replace(
        _GPT, tied=True, learned_positions=2, modules={"o_proj": "out_proj", **_FC},
        defaults={"hidden_act": "relu", "residual_dropout": 0.1},
    ),
    "bloom": replace(_GPT, tied=True, scores=4, modules=_NEOX),
    "phi": replace(
        _GPT, norms=1, head_bias=True, modules={"o_proj": "dense", **_FC},
        defaults={"hidden_act": "gelu_new"},
    ),
    "starcoder2": replace(
        _GPT, tied=True, modules={"up_proj": "mlp.c_fc", "down_proj": "mlp.c_proj"}
    ),
    "falcon": Family(gated=False, norm="layer", tied=True, modules=_NEOX),
    "mpt": Family(
        gated=False, tied=True, norm_kept="input", scores=4,
        modules={**_fused("Wqkv", *_QKV), "o_proj": "out_proj"},
    ),
    "dbrx": Family(
        norm="rms", norm_kept="input", experts="packed", modules=_fused("Wqkv", *_QKV)
    ),
    # Phi-3 and later
    "phi3": Family(
        modules={**_fused("qkv_proj", *_QKV), **_fused("gate_up_proj", *_GATE_UP)}
    ),
    "phi3small": Family(
        norm="layer", bias="all", tied=True,
        modules={
            **_fused("query_key_value", *_QKV), "o_proj": "dense",
            **_fused("up_proj", *_GATE_UP),
        },
    ),
    "phi4mm": Family(
        tied=True, modules={**_fused("qkv_proj", *_QKV), **_fused("gate_up_proj", *_GATE_UP)}
    ),
    "phimoe": Family(norm="layer", bias_flag="attention", defaults={"attention_bias": True}),
    # GLM
    "chatglm": Family(
        modules={
            **_fused("query_key_value", *_QKV), "o_proj": "dense",
            **_fused("dense_h_to_4h", *_GATE_UP), "down_proj": "dense_4h_to_h",
        }
    ),
    "glm": Family(modules=_fused("gate_up_proj", *_GATE_UP)),
    "glm4": Family(norms=4, modules=_fused("gate_up_proj", *_GATE_UP)),
    "glm4_moe": Family(router_bias=True),
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": _MLA,
    "glm5_next": replace(
        _MLA,
        defaults={"hc_mult": 4, "layer_group_size": 4, "linear_num_heads": 64,
                  "linear_head_dim": 128},
    ),
    # Multi-head latent attention
    "deepseek": Family(),
    "deepseek_v2": Family(),
    "deepseek_v3": _MLA,
    "deepseek_v32": _MLA,
    "kimi_k2": _MLA,
    "kimi_linear": _KDA,
    "deepseek_v4": _V4,
    "longcat_flash": replace(
        _MLA, norms=4,
        modules={},
        defaults={"zero_expert_num": 256, "double_layers": True},
    ),
    "hy_v4": replace(
        _MLA,
        defaults={"hc_mult": 4, "attention_sinks": True, "mla_gate_dim": 256,
                  "index_topk_freq": 4},
    ),
    "mistral4": _MLA,
    # Mixtures of experts
    "gpt_oss": Family(
        bias_flag="attention", experts="packed", activation="clamped_swiglu", scores=2
    ),
    "ernie4_5": Family(defaults={}, bias_flag="no"),
    "ernie4_5_moe": Family(router_bias=True, bias_flag="no"),
    "dots1": Family(qk_norm="head", router_bias=True),
    "hunyuan": _HUNYUAN,
    "hunyuan_v1_moe": replace(_HUNYUAN, qk_norm="head", defaults={"shared_experts": 1}),
    "hunyuan_v1_dense": replace(_HUNYUAN, qk_norm="head"),
    "hy_v3": Family(qk_norm="head", router_bias=True),
    "minimax_m2": Family(qk_norm="full", router_bias=True),
    "minimax_m3": Family(qk_norm="head", router_bias=True),
    "minimax_text_01": _MINIMAX_LINEAR,
    "bailing_moe": Family(
        router_bias=True, modules={**_fused("query_key_value", *_QKV), "o_proj": "dense"}
    ),
    "bailing_hybrid": _BAILING_HYBRID,
    "afmoe": Family(qk_norm="head", norms=4, router_bias=True, defaults={"full_gate": True}),
    "step3p5": _STEP,
    "step3_vl": Family(),
    "mimo_v2": Family(router_bias=True, defaults={"sliding_sinks": True}),
    "granitemoe": replace(_LLAMA, experts="packed"),
    # Hybrids
    "granitemoehybrid": Family(
        tied=True, experts="packed", bias_flag="attention",
        modules={
            "shared_experts.gate_proj": "shared_mlp.input_linear",
            "shared_experts.up_proj": "shared_mlp.input_linear",
            "shared_experts.down_proj": "shared_mlp.output_linear",
        },
    ),
    "nemotron_h": _NEMOTRON_H,
    "bamba": _LLAMA,
    "falcon_h1": _LLAMA,
    "jamba": Family(),
    "lfm2": Family(
        tied=True, qk_norm="head",
        modules={"o_proj": "out_proj", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
    ),
    "lfm2_moe": Family(
        tied=True, qk_norm="head", router_bias=True,
        modules={"o_proj": "out_proj", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
    ),
}  # fmt: skip

# Mixtures whose experts transformers 5 holds as one tensor and transformers 4 as linear modules.
# PEFT moves LoRA targets of the second list to that tensor (``transformers_weight_conversion.py``
# since 0.20, with transformers' ``_MODEL_TO_CONVERSION_PATTERN``) and passes the first list by.
_PACKED_IN_5 = (
    "bailing_hybrid", "deepseek_v4", "glm5_next", "hy_v3", "hy_v4", "jamba", "kimi_linear",
    "lfm2_moe", "mimo_v2", "minimax_m3", "mistral4", "nemotron_h", "phimoe", "qwen2_moe", "step3p5",
)  # fmt: skip
_ADAPTED_IN_5 = (
    "afmoe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "glm4_moe",
    "glm4_moe_lite", "glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash", "minimax_m2",
    "minimax_text_01", "mixtral", "olmoe", "qwen3_moe", "qwen3_next",
)  # fmt: skip
FAMILIES |= {name: replace(FAMILIES[name], experts="packed_in_5") for name in _PACKED_IN_5}
FAMILIES |= {name: replace(FAMILIES[name], experts="adapted_in_5") for name in _ADAPTED_IN_5}

# Norms that multiply their weight in 32 bit.
_WIDE_NORMS = (
    "afmoe", "deepseek_v4", "gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "gpt_oss",
    "minimax_m3", "nemotron_h", "olmo2", "olmo3", "qwen3_5", "qwen3_5_moe", "qwen3_next",
    "step3p5",
)  # fmt: skip
_WIDE_ROUTERS = (
    "bailing_hybrid", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe",
    "glm4_moe", "glm4_moe_lite", "glm5_next", "glm_moe_dsa", "hy_v3", "hy_v4", "kimi_k2",
    "kimi_linear", "longcat_flash", "mimo_v2", "nemotron_h",
)  # fmt: skip
FAMILIES |= {name: replace(FAMILIES[name], norm_kept="wide") for name in _WIDE_NORMS}
FAMILIES |= {name: replace(FAMILIES[name], wide_router=True) for name in _WIDE_ROUTERS}

# Other names of a family: later versions and wrappers with the same layers.
_SAME: dict[str, str] = {
    "phi-msft": "phi", "deepseek_ref": "deepseek_v4", "deepseek_v41": "deepseek_v4",
    "kimi_k25": "kimi_k2", "kimi_k3": "kimi_linear", "mimo_v2_flash": "mimo_v2",
    "minimax_m1": "minimax_text_01", "minimax": "minimax_text_01", "minimax_m3_vl": "minimax_m3",
    "step3p7": "step3p5", "gemma4_unified": "gemma4", "longcat": "longcat_flash",
    "qwen3_omni_moe": "qwen3_moe", "gemma3_text": "gemma3", "kimi_vl": "deepseek_v3",
    "bailing_moe_v2": "bailing_moe", "internvl": "qwen3", "llava": "llama",
    "llava_next": "llama", "smolvlm": "llama", "idefics3": "llama", "glm4v": "glm4",
    "glm4v_moe": "glm4_moe", "refinedweb": "falcon", "refinedwebmodel": "falcon",
    "lfm2_vl": "lfm2", "apertus1p5": "apertus", "qwen2_5_omni": "qwen2",
    "ernie4_5_vl_moe": "ernie4_5_moe", "hunyuan_v1": "hunyuan_v1_dense", "codegen": "gptj",
}  # fmt: skip

# The class in ``architectures`` where ``model_type`` is missing.
_CLASSES: dict[str, str] = {
    "baichuan": "baichuan", "baichuanm1": "baichuan", "qwenlmheadmodel": "qwen", "qwen": "qwen",
    "mistral": "mistral", "llama": "llama", "gptneox": "gpt_neox", "gptbigcode": "gpt_bigcode",
    "rwforcausallm": "falcon", "chatglmmodel": "chatglm", "chatglm": "chatglm",
    "glm4moe": "glm4_moe", "gptoss": "gpt_oss", "minicpm3": "minicpm3", "phi3small": "phi3small",
}  # fmt: skip
_FLAT = {key.replace("_", "").replace("-", ""): key for key in (*FAMILIES, *_SAME)}


def family_name(model_type: str, architectures: list[Any]) -> str:
    """Return the family of a ``model_type``, or of the class named in ``architectures``.

    Returns:
        A key of `FAMILIES`, or an empty string for a family that the engine does not know.
    """
    names = [model_type]
    for entry in architectures[:4]:
        if isinstance(entry, str) and len(entry) < 100:
            lower = entry.lower()
            for tail in ("forcausallm", "forconditionalgeneration", "lmheadmodel", "model"):
                if lower in _CLASSES:
                    break
                lower = lower.removesuffix(tail)
            names.append(_CLASSES.get(lower, lower))
    for name in names:
        for candidate in (name, name.removesuffix("_text"), name.removesuffix("_text_model")):
            key = _SAME.get(candidate, candidate)
            if key in FAMILIES:
                return key
            key = _FLAT.get(candidate.replace("_", "").replace("-", ""), "")
            key = _SAME.get(key, key)
            if key in FAMILIES:
                return key
    return ""


def family_of(name: str) -> Family:
    """Return a family's record; Llama's, marked as not known, for an empty name."""
    return FAMILIES[name] if name else replace(_LLAMA, known=False)
