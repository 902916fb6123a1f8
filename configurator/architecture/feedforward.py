"""The feed-forward part of a layer: dense MLPs and mixtures of experts."""

from __future__ import annotations

from dataclasses import dataclass

from configurator.architecture.parts import Parts
from configurator.architecture.tables import Matrix, Role
from configurator.errors import InputError

# Tensors of MLP width that an activation keeps beside its result: a kernel its input, ReLU
# nothing, a formula in Python an operand of each step (transformers 5.24, ``activations.py`` and
# gpt-oss's ``_apply_gate``; recorded).
_ACTIVATION_TENSORS = {
    "relu": 0.0, "quick_gelu": 2.0, "gelu_10": 2.0, "gelu_python": 3.0, "gelu_new": 4.0,
    "gelu_python_tanh": 4.0, "gelu_accurate": 4.0, "clamped_swiglu": 4.0, "xielu": 4.5,
    "gelu_fast": 7.0,
}  # fmt: skip

# Of them, what follows ``torch.pow``, which autocast computes in 32 bit (measured).
_WIDENED = dict.fromkeys(("gelu_new", "gelu_python_tanh", "gelu_accurate"), 3.0)


def activation_tensors(p: Parts) -> tuple[float, float]:
    """Return how many tensors of MLP width the model's activation keeps beside its result.

    And how many of them are 32 bit under autocast.
    """
    named = p.family.activation or p.r.raw("hidden_act")
    if not isinstance(named, str):
        return 1.0, 0.0
    return _ACTIVATION_TENSORS.get(named, 1.0), _WIDENED.get(named, 0.0)


@dataclass(frozen=True)
class FeedForwardSpec:
    """What one layer's feed-forward part depends on beyond the config as a whole.

    Attributes:
        moe: Whether it routes tokens to experts.
        width: Width of its dense MLP; 0 where there is none.
        shared: Width of its shared expert; 0 where there is none.
        experts, top_k: Routed experts and how many a token uses.
    """

    moe: bool
    width: int
    shared: int = 0
    experts: int = 0
    top_k: int = 0


@dataclass(frozen=True)
class FeedForward:
    """Matrices of one layer's feed-forward part and what `Layer` says of them."""

    matrices: tuple[Matrix, ...]
    experts: int
    experts_per_token: int
    ffn: int
    gated: bool


def feed_forward_spec(p: Parts, index: int, *, moe: bool | None = None) -> FeedForwardSpec:
    """Return what the layer at ``index`` has."""
    r = p.r
    is_moe = _is_moe(p, index) if moe is None else moe
    if not is_moe:
        return FeedForwardSpec(False, _dense_width(p, index))
    experts = r.integer("num_experts")
    top_k = _at(p, "num_experts_per_tok", index)
    if top_k > experts:
        raise InputError(f"{r.path}.num_experts_per_tok", "experts_per_token", top_k, most=experts)
    beside = p.name == "gemma4" or r.flag("double_layers")
    return FeedForwardSpec(
        True,
        _dense_width(p, index) if beside else 0,
        _shared_width(p, _expert_width(p, index), index),
        experts,
        top_k,
    )


def build_feed_forward(p: Parts, spec: FeedForwardSpec, index: int) -> FeedForward:
    """Return the matrices of a layer's feed-forward part."""
    gated = p.family.gated
    if not spec.moe:
        return FeedForward(tuple(dense(p, spec.width, "mlp")), 0, 0, spec.width, gated)
    r = p.r
    width = _expert_width(p, index)
    latent = r.optional("moe_latent_size")
    rows = spec.experts + (r.integer("zero_expert_num", 0, minimum=0))
    matrices = [Matrix("gate", rows, p.hidden, "router", "replicated", linear=False)]
    if p.name == "gpt_oss" or p.family.router_bias:
        matrices.append(p.vector("gate.bias", rows, "router"))
    if latent:  # the experts work on a narrower copy of the hidden state
        matrices += p.linear("fc1_latent_proj", latent, p.hidden, "mlp", "replicated")
        matrices += p.linear("fc2_latent_proj", p.hidden, latent, "mlp", "replicated")
        if r.flag("latent_moe_use_norm"):
            matrices += p.norms(1, latent)
    into = latent or p.hidden
    bias = p.name == "gpt_oss"
    place = "moe." if p.name == "gemma4" else ""
    for name in ("gate_proj", "up_proj") if gated else ("up_proj",):
        matrices += p.linear(
            f"experts.{name}", width, into, "expert", "expert", bias=bias, count=spec.experts,
            module=place and f"{place}experts.{name}",
        )  # fmt: skip
    matrices += p.linear(
        "experts.down_proj", into, width, "expert", "expert", bias=bias, count=spec.experts,
        module=place and f"{place}experts.down_proj",
    )  # fmt: skip
    if spec.shared:
        matrices += dense(p, spec.shared, "shared_expert", "shared_experts.")
        if p.name in ("qwen2_moe", "qwen3_next", "qwen3_5_moe"):
            gate = Matrix("shared_expert_gate", 1, p.hidden, "router", "replicated", linear=False)
            matrices.append(gate)
    if spec.width:
        for _ in range(2 if r.flag("double_layers") else 1):
            matrices += dense(p, spec.width, "shared_expert")
    if p.name == "gemma4":
        matrices += [p.vector("router.scales", p.hidden + spec.experts), *p.norms(3)]
    return FeedForward(tuple(matrices), spec.experts, spec.top_k, width, gated)


def dense(p: Parts, width: int, role: Role, prefix: str = "") -> list[Matrix]:
    """Return the two or three matrices of a dense MLP."""
    out: list[Matrix] = []
    for name in ("gate_proj", "up_proj") if p.family.gated else ("up_proj",):
        out += p.linear(f"{prefix}{name}", width, p.hidden, role, "column")
    return out + p.linear(f"{prefix}down_proj", p.hidden, width, role, "row")


# --------------------------------------------------------------------------- layer by layer


def _is_moe(p: Parts, index: int) -> bool:
    r = p.r
    experts = r.integer("num_experts", 0, minimum=0)
    if not experts or (experts == 1 and p.name == "hunyuan"):
        return False
    if p.name == "jamba":
        offset = r.integer("expert_layer_offset", 1, minimum=0)
        return index % r.integer("expert_layer_period", 2) == offset
    kinds = r.sequence("mlp_layer_types")
    if index < len(kinds):
        return bool(kinds[index] == "sparse")
    if index < r.integer("dense_layers", 0, minimum=0):
        return False
    start = _least(p, "moe_layer_start_index")
    end = _least(p, "moe_layer_end_index")
    if index < start or (end > 0 and index > end):
        return False
    freq = r.sequence("moe_layer_freq")
    if freq:
        return bool(freq[index]) if index < len(freq) else True
    every = 1
    for name in ("moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step",
                 "moe_layer_interval"):  # fmt: skip
        every = r.integer(name, 0, minimum=0) or every
        if every > 1:
            break
    offset = 0 if p.name.startswith("deepseek") else 1
    if every > 1 and (index + offset) % every:
        return False
    listed = r.raw("moe_layers_enum")
    if isinstance(listed, str) and listed:
        return str(index) in listed.replace(" ", "").split(",")
    if r.sequence("moe_layers"):
        return index in r.sequence("moe_layers")
    return index not in r.sequence("mlp_only_layers")


def _least(p: Parts, name: str) -> int:
    """Return a number; of a list (text and vision experts) the first."""
    value = p.r.raw(name)
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    return 0 if value is None else p.r.whole(name, value, minimum=-1)


def _at(p: Parts, name: str, index: int) -> int:
    """Return a number that a config may list layer by layer."""
    value = p.r.raw(name)
    if isinstance(value, (list, tuple)) and value:
        return p.r.whole(name, value[min(index, len(value) - 1)])
    return p.r.integer(name)


def _expert_width(p: Parts, index: int) -> int:
    has_own = p.r.raw("moe_intermediate_size") is not None
    return _at(p, "moe_intermediate_size" if has_own else "intermediate_size", index)


def _dense_width(p: Parts, index: int) -> int:
    r = p.r
    if p.name == "llama4" and r.optional("intermediate_size_mlp"):
        return r.integer("intermediate_size_mlp")
    if p.name == "minimax_m3" and r.optional("dense_intermediate_size"):
        return r.integer("dense_intermediate_size")
    if r.raw("intermediate_size") is None:
        if p.name in ("mpt", "dbrx"):
            return max(1, int(p.hidden * r.number("expansion_ratio", 4.0)))
        if not p.family.gated and p.name != "nemotron_h":
            return 4 * p.hidden
    if p.name == "granitemoehybrid" and r.optional("shared_intermediate_size"):
        return r.integer("shared_intermediate_size")
    width = _at(p, "intermediate_size", index)
    if p.name == "qwen":  # Qwen 1 states the width of both halves
        return max(1, width // 2)
    if p.name.startswith("lfm2") and r.flag("block_auto_adjust_ff_dim"):
        multiple = r.integer("block_multiple_of", 256)
        scaled = int(r.number("block_ffn_dim_multiplier", 1.0) * (2 * width // 3))
        return max(1, -(-scaled // multiple)) * multiple
    if r.flag("use_double_wide_mlp") and index >= p.count - r.integer("num_kv_shared_layers", 0, 0):
        return 2 * width
    return width


def _shared_width(p: Parts, width: int, index: int) -> int:
    r = p.r
    keys = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
            "shared_intermediate_size", "share_expert_dim")  # fmt: skip
    for key in keys:
        if r.raw(key) is not None:
            number = r.integer("shared_experts", 1, minimum=0) if "experts" not in key else 1
            repeated = key == "shared_intermediate_size" and p.name != "granitemoehybrid"
            return r.integer(key, minimum=0) * (max(1, number) if repeated else 1)
    if p.name == "llama4":
        return r.integer("intermediate_size")
    number = r.raw("shared_experts")
    if number is None:
        return 0
    if isinstance(number, (list, tuple)):
        number = number[min(index, len(number) - 1)] if number else 0
    return r.whole("n_shared_experts", number, minimum=0) * width
