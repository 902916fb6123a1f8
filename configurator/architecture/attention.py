"""Token mixing: the matrices and the cache of each kind of attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

from configurator.architecture.parts import Parts
from configurator.architecture.tables import AttentionKind, Cache, Layer, Matrix

LINEAR_KINDS = ("kda", "linear_attention", "lightning", "mamba", "mamba1", "conv")


@dataclass(frozen=True)
class AttentionSpec:
    """What one layer's attention depends on beyond the config as a whole.

    Attributes:
        kind: ``full_attention sliding_attention chunked_attention cross_attention`` or one of
            `LINEAR_KINDS`.
        ratio: Tokens that share a compressed entry; 0 where only the window is kept.
        indexer: Whether the layer runs a sparse-attention indexer of its own.
        own_cache: False where it reads the cache of an earlier layer.
        kv_heads: Key-value heads of this layer alone, where the config lists them.
    """

    kind: str = "full_attention"
    ratio: int = 0
    indexer: bool = True
    own_cache: bool = True
    kv_heads: int | None = None


def attention_kinds(p: Parts) -> list[str]:
    """Return each layer's kind, from the many ways in which configs say it."""
    n, r = p.count, p.r
    types = r.sequence("layer_types") or r.sequence("layers_block_type")
    if len(types) >= n:
        names = {"attention": "full_attention", "moe": "full_attention"}
        words = [t if isinstance(t, str) else "full_attention" for t in types[:n]]
        kinds = [names.get(word, word) for word in words]
        if r.section("linear_attn_config") or _has_kda(p):
            return ["kda" if k == "linear_attention" else k for k in kinds]
        other = {"minimax_text_01": "lightning", "granitemoehybrid": "mamba"}.get(p.name)
        return [other if other and k == "linear_attention" else k for k in kinds]
    linear = r.section("linear_attn_config")
    if linear is not None and linear.sequence("kda_layers"):
        kda = set(linear.integers("kda_layers"))
        return ["kda" if i + 1 in kda else "full_attention" for i in range(n)]
    flags = r.sequence("attn_type_list")
    if len(flags) >= n:
        return ["full_attention" if f else "lightning" for f in flags[:n]]
    indices = r.integers("full_attn_idxs")
    if indices:
        return ["full_attention" if i in set(indices) else "conv" for i in range(n)]
    if p.name == "bamba":
        full = set(r.integers("attn_layer_indices"))
        return ["full_attention" if i in full else "mamba" for i in range(n)]
    if p.name == "jamba":
        period, offset = r.integer("attn_layer_period", 8), r.integer("attn_layer_offset", 4, 0)
        return ["full_attention" if i % period == offset else "mamba1" for i in range(n)]
    cross = set(r.integers("cross_attention_layers"))
    if cross:
        return ["cross_attention" if i in cross else "full_attention" for i in range(n)]
    pattern = r.sequence("hybrid_layer_pattern")
    if len(pattern) >= n:
        return ["sliding_attention" if p else "full_attention" for p in pattern[:n]]
    every = r.optional("layer_group_size")
    if every:
        return ["full_attention" if (i + 1) % every == 0 else "kda" for i in range(n)]
    every = r.optional("full_attention_interval")
    if every:
        return ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(n)]
    if p.name == "llama4":
        return ["full_attention" if (i + 1) % 4 == 0 else "chunked_attention" for i in range(n)]
    return _sliding_kinds(p)


def _has_kda(p: Parts) -> bool:
    return p.name in ("bailing_hybrid", "kimi_linear", "glm5_next")


def _sliding_kinds(p: Parts) -> list[str]:
    n, r = p.count, p.r
    if not r.optional("sliding_window") or r.raw("use_sliding_window") is False:
        return ["full_attention"] * n
    step = r.raw("sliding_window_pattern")
    if isinstance(step, str) and step:  # EXAONE: "LLLG"
        return ["full_attention" if step[i % len(step)] == "G" else "sliding_attention"
                for i in range(n)]  # fmt: skip
    by_family = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma4": 6, "cohere2": 4, "olmo3": 4,
                 "afmoe": 4, "step3p5": 4}  # fmt: skip
    every = (
        r.optional("sliding_window_pattern")
        or r.optional("_sliding_window_pattern")
        or r.optional("global_attn_every_n_layers")
        or by_family.get(p.name)
    )
    if every:
        first = p.name == "step3p5"  # full attention opens each of Step's groups
        return ["full_attention" if (i if first else i + 1) % every == 0 else "sliding_attention"
                for i in range(n)]  # fmt: skip
    if p.name.startswith(("qwen2", "qwen3")):
        first_sliding = r.integer("max_window_layers", n, minimum=0)
        return ["full_attention" if i < first_sliding else "sliding_attention" for i in range(n)]
    return ["sliding_attention"] * n


def build_attention(p: Parts, spec: AttentionSpec) -> Layer:
    """Return a layer with the attention's matrices and caches and no feed-forward part."""
    if p.r.raw("compress_ratios") is not None:
        return _compressed(p, spec)
    if spec.kind in LINEAR_KINDS:
        return _LINEAR[spec.kind](p)
    if spec.kind == "cross_attention":
        return _cross(p)
    if p.r.optional("kv_lora_rank"):
        return _latent(p, spec)
    layer = _grouped_query(p, spec)
    if p.name == "falcon_h1":  # attention and Mamba-2 side by side
        beside = _mamba(p)
        return replace(
            layer, cache=layer.cache + beside.cache, matrices=layer.matrices + beside.matrices
        )
    return layer


# --------------------------------------------------------------------------- softmax attention


def _grouped_query(p: Parts, spec: AttentionSpec) -> Layer:
    r = p.r
    sliding = spec.kind.startswith(("sliding", "chunked", "local"))
    heads = r.integer("num_attention_heads")
    kv = spec.kv_heads or _kv_heads(p, heads)
    dim = r.integer("head_dim", max(1, p.hidden // heads))
    v_dim = r.integer("v_head_dim", dim)
    shared_kv_projection = False
    if sliding:
        other = r.section("attention_other_setting")
        if other is not None:
            heads = other.integer("num_attention_heads", heads)
            kv, dim = other.integer("num_key_value_heads", kv), other.integer("head_dim", dim)
            v_dim = dim
        heads = r.integer("num_sliding_attention_heads", heads)
        if r.optional("swa_num_key_value_heads"):
            heads = r.integer("swa_num_attention_heads", heads)
            kv, dim = r.integer("swa_num_key_value_heads"), r.integer("swa_head_dim", dim)
            v_dim = r.integer("swa_v_head_dim", v_dim)
    elif r.optional("global_head_dim"):
        dim = v_dim = r.integer("global_head_dim")
        shared_kv_projection = r.flag("attention_k_eq_v")
        if shared_kv_projection:
            kv = r.integer("num_global_key_value_heads", kv)
    window = _window(p, spec.kind) if sliding else None
    query_width = heads * dim * (2 if r.flag("attn_output_gate") else 1)
    if r.optional("share_q_dim"):  # Step-3: a low-rank query and one shared key-value head
        rank = r.integer("share_q_dim")
        matrices = [
            *p.linear("q_a_proj", rank, p.hidden, "attention", "replicated"),
            *p.norms(1, rank),
            *p.linear("q_proj", query_width, rank, "attention", "column", module="wq"),
        ]
    else:
        matrices = p.linear("q_proj", query_width, p.hidden, "attention", "column")
    matrices += p.linear("k_proj", kv * dim, p.hidden, "attention", "kv")
    if not shared_kv_projection:
        matrices += p.linear("v_proj", kv * v_dim, p.hidden, "attention", "kv")
    matrices += p.linear("o_proj", p.hidden, heads * v_dim, "attention", "row")
    matrices += _query_key_norms(p, heads, kv, dim)
    if r.flag("head_wise_gate"):
        matrices += p.linear("g_proj", heads, p.hidden, "attention", "column")
    if r.flag("full_gate"):
        matrices += p.linear("attention_gate_proj", heads * v_dim, p.hidden, "attention", "column",
                             module="self_attn.gate_proj")  # fmt: skip
    if p.name == "gpt_oss" or (sliding and r.flag("sliding_sinks")):
        matrices.append(p.vector("sinks", heads, "attention", "column"))
    index_bytes = 0.0
    if spec.indexer:
        index, index_bytes = _block_index(p)
        matrices += index
    cache = (Cache(kv * (dim + v_dim), index_bytes, kv, window),) if spec.own_cache else ()
    kind: AttentionKind = "sliding" if window else "full"
    return Layer(kind, heads, kv, dim, v_dim, cache, tuple(matrices), window=window)


def _kv_heads(p: Parts, heads: int) -> int:
    r = p.r
    if p.name == "falcon":
        if r.flag("new_decoder_architecture"):
            return r.integer("num_key_value_heads", heads)
        return 1 if r.flag("multi_query", True) else heads
    if p.name == "chatglm" and not r.flag("multi_query_attention"):
        return heads
    if r.flag("multi_query") and r.raw("num_key_value_heads") is None:
        return 1
    return r.integer("num_key_value_heads", heads)


def _window(p: Parts, kind: str) -> int:
    names = ("sliding_window", "sliding_window_size", "attention_chunk_size")
    for name in reversed(names) if kind.startswith("chunked") else names:
        value = p.r.optional(name)
        if value:
            return value
    p.assume("sliding_window_unknown", tokens=4096)
    return 4096


def _query_key_norms(p: Parts, heads: int, kv: int, dim: int) -> list[Matrix]:
    r, kind = p.r, p.family.qk_norm
    if r.raw("use_qk_norm") is not None:
        if not r.flag("use_qk_norm"):
            kind = "no"
        elif kind == "no":
            kind = "head"
    if r.text("qk_norm_type") == "per_head":
        kind = "head"
    if p.name == "llama4" or kind == "no":  # Llama 4's norm has no weight
        return []
    if kind == "full":
        return [p.vector("q_norm", heads * dim), p.vector("k_norm", kv * dim)]
    if p.name in ("cohere", "cohere2"):  # a weight for every head
        return [p.vector("q_norm", heads * dim), p.vector("k_norm", kv * dim)]
    return p.norms(2, dim, plain=True)


def _block_index(p: Parts) -> tuple[list[Matrix], float]:
    """MiniMax-M3: a small key for each token that picks the blocks to attend to."""
    sparse = p.r.section("sparse_attention_config")
    width = sparse.optional("sparse_index_dim") if sparse is not None else None
    if sparse is None or not width:
        return [], 0.0
    number = sparse.integer("sparse_num_index_heads", 1)
    return [
        *p.linear("indexer.q_proj", width * number, p.hidden, "attention", "replicated"),
        *p.linear("indexer.k_proj", width, p.hidden, "attention", "replicated"),
        *p.norms(2, width),
    ], 2.0 * width


def _cross(p: Parts) -> Layer:
    """Llama 3.2 Vision: keys and values come from the image, so text tokens add no cache."""
    r = p.r
    heads = r.integer("num_attention_heads")
    kv, dim = _kv_heads(p, heads), r.integer("head_dim", max(1, p.hidden // heads))
    p.assume("image_cache_not_counted")
    matrices = [
        *p.linear("q_proj", heads * dim, p.hidden, "attention", "column"),
        *p.linear("k_proj", kv * dim, p.hidden, "attention", "kv"),
        *p.linear("v_proj", kv * dim, p.hidden, "attention", "kv"),
        *p.linear("o_proj", p.hidden, heads * dim, "attention", "row"),
        *p.norms(2, dim),
        p.vector("gates", 2),
    ]
    return Layer("none", heads, kv, dim, dim, (), tuple(matrices))


def _latent(p: Parts, spec: AttentionSpec) -> Layer:
    """Multi-head latent attention (DeepSeek-V2): one compressed key-value for all heads."""
    r = p.r
    heads = r.integer("num_attention_heads")
    rank, rope = r.integer("kv_lora_rank"), r.integer("qk_rope_head_dim", 64, minimum=0)
    nope = r.integer("qk_nope_head_dim", 128, minimum=0)
    minicpm = p.name == "minicpm3"
    v_dim = r.integer("v_head_dim", max(1, p.hidden // heads) if minicpm else 128)
    q_rank = r.optional("q_lora_rank")
    width = heads * (nope + rope)
    matrices: list[Matrix] = []
    if q_rank:
        matrices += p.linear("q_a_proj", q_rank, p.hidden, "attention", "replicated")
        matrices += p.norms(1, q_rank)
        matrices += p.linear("q_b_proj", width, q_rank, "attention", "column")
    else:
        matrices += p.linear("q_proj", width, p.hidden, "attention", "column")
    matrices += [
        *p.linear("kv_a_proj_with_mqa", rank + rope, p.hidden, "attention", "replicated"),
        *p.norms(1, rank),
        *p.linear("kv_b_proj", heads * (nope + v_dim), rank, "attention", "column"),
        *p.linear("o_proj", p.hidden, heads * v_dim, "attention", "row"),
    ]
    if r.flag("mla_use_output_gate"):
        matrices += p.linear("g_proj", heads * v_dim, p.hidden, "attention", "column")
    if p.name == "bailing_hybrid":
        matrices += p.linear("g_proj", heads, p.hidden, "attention", "column")
    gate = r.optional("mla_gate_dim")
    if gate:
        matrices += p.linear("attention_gate_proj", heads * gate, p.hidden, "attention", "column",
                             module="self_attn.gate_proj")  # fmt: skip
    if r.flag("attention_sinks"):
        matrices.append(p.vector("sinks", heads, "attention", "column"))
    index_bytes = 0.0
    if spec.indexer and r.optional("index_head_dim"):
        matrices += _indexer(p, q_rank or p.hidden)
        index_bytes = _index_bytes(p)
    cache = Cache(rank + rope, index_bytes, 1)
    return Layer("mla", heads, heads, nope + rope, v_dim, (cache,), tuple(matrices))


def _indexer(p: Parts, q_width: int) -> list[Matrix]:
    """DeepSeek-V3.2's sparse-attention indexer."""
    dim, number = p.r.integer("index_head_dim"), p.r.integer("index_n_heads")
    matrices = [
        *p.linear("indexer.wq_b", number * dim, q_width, "attention", "replicated"),
        *p.linear("indexer.wk", dim, p.hidden, "attention", "replicated"),
        Matrix("indexer.weights_proj", number, p.hidden, "router", "replicated", linear=False),
        *p.norms(2, dim, plain=True),
    ]
    pool = p.r.optional("index_kpool")
    if pool:
        matrices.append(p.vector("indexer.pool", (pool + p.hidden) * dim, "router"))
    return matrices


def _index_bytes(p: Parts) -> float:
    """Bytes a token of the indexer's FP8 key and its 32-bit scale."""
    return float(p.r.integer("index_head_dim") + 4)


def _compressed(p: Parts, spec: AttentionSpec) -> Layer:
    """DeepSeek-V4: one shared key-value head, a sliding window and compressed entries."""
    r = p.r
    heads, dim = r.integer("num_attention_heads"), r.integer("head_dim", 512)
    q_rank, o_rank = r.integer("q_lora_rank"), r.integer("o_lora_rank")
    groups = r.integer("o_groups")
    if heads * dim % groups:
        groups = 1
    matrices = [
        *p.linear("wq_a", q_rank, p.hidden, "attention", "replicated"),
        *p.norms(1, q_rank),
        *p.linear("wq_b", heads * dim, q_rank, "attention", "column"),
        *p.linear("wkv", dim, p.hidden, "attention", "replicated"),
        *p.norms(1, dim),
        *p.linear("wo_a", groups * o_rank, heads * dim // groups, "attention", "column"),
        *p.linear("wo_b", p.hidden, groups * o_rank, "attention", "row"),
        p.vector("sinks", heads, "attention", "column"),
    ]
    window = r.integer("sliding_window", 128)
    caches = [Cache(dim, 0.0, 1, window)]
    if spec.ratio and spec.own_cache:
        # Entries of the finest compression overlap: each is made from two of its blocks.
        width = 2 * dim if spec.ratio == 4 else dim
        matrices += _compressor(p, "compressor", width, dim, spec.ratio)
        caches.append(Cache(dim, _index_bytes(p) if spec.indexer else 0.0, 1, None, spec.ratio))
    if spec.ratio and spec.indexer:
        index_dim, number = r.integer("index_head_dim"), r.integer("index_n_heads")
        matrices += [
            *_compressor(p, "indexer.compressor", 2 * index_dim, index_dim, spec.ratio),
            *p.linear("indexer.wq_b", number * index_dim, q_rank, "attention", "replicated"),
            Matrix("indexer.weights_proj", number, p.hidden, "router", "replicated", linear=False),
        ]
    return Layer("compressed", heads, 1, dim, dim, tuple(caches), tuple(matrices), window=window)


def _compressor(p: Parts, name: str, width: int, dim: int, ratio: int) -> list[Matrix]:
    return [
        Matrix(f"{name}.kv_proj", width, p.hidden, "router", "replicated", linear=False),
        Matrix(f"{name}.gate_proj", width, p.hidden, "router", "replicated", linear=False),
        Matrix(f"{name}.position_bias", ratio, width, "norm", "replicated", linear=False),
        *p.norms(1, dim),
    ]


# --------------------------------------------------------------------------- linear attention


def _kda(p: Parts) -> Layer:
    """Kimi delta attention."""
    section = p.r.section("linear_attn_config")
    if section is not None:
        heads, dim = section.integer("num_heads"), section.integer("head_dim")
        kernel = section.integer("short_conv_kernel_size", 4)
        full_gate, full_forget = section.flag("use_full_rank_gate"), False
    else:
        r = p.r
        heads = r.integer("linear_num_heads", r.integer("num_attention_heads"))
        dim = r.integer("linear_head_dim", r.integer("head_dim", 128))
        kernel = r.integer("short_conv_kernel_size", r.integer("linear_conv_kernel_dim", 4))
        full_gate = full_forget = p.name == "bailing_hybrid"
    width = heads * dim
    matrices = [
        *p.linear("q_proj", width, p.hidden, "attention", "column"),
        *p.linear("k_proj", width, p.hidden, "attention", "column"),
        *p.linear("v_proj", width, p.hidden, "attention", "column"),
        Matrix("conv1d", 3 * width, kernel, "norm", "column", linear=False),
        p.vector("dt_bias_a_log", width + heads, "norm", "column"),
        *_gate(p, "f", width, dim, full_forget),
        *p.linear("b_proj", heads, p.hidden, "attention", "column"),
        *_gate(p, "g", width, dim, full_gate),
        *p.norms(1, dim),
        *p.linear("o_proj", p.hidden, width, "attention", "row"),
    ]
    cache = Cache(
        state_elements=3 * width * (kernel - 1),
        state_fp32_elements=heads * dim * dim,
        state_heads=heads,
    )
    return Layer("linear", heads, heads, dim, dim, (cache,), tuple(matrices))


def _gate(p: Parts, letter: str, width: int, rank: int, full: bool) -> list[Matrix]:
    if full:
        return p.linear(f"{letter}_proj", width, p.hidden, "attention", "column")
    return [
        *p.linear(f"{letter}_a_proj", rank, p.hidden, "attention", "replicated"),
        *p.linear(f"{letter}_b_proj", width, rank, "attention", "column"),
    ]


def _lightning(p: Parts) -> Layer:
    """MiniMax-01's lightning attention."""
    heads = p.r.integer("num_attention_heads")
    dim = p.r.integer("head_dim", max(1, p.hidden // heads))
    width = heads * dim
    matrices = [
        *p.linear("qkv_proj", 3 * width, p.hidden, "attention", "column"),
        *p.linear("output_gate", width, p.hidden, "attention", "column"),
        *p.linear("out_proj", p.hidden, width, "attention", "row"),
        *p.norms(1, width),
    ]
    cache = Cache(state_fp32_elements=heads * dim * dim, state_heads=heads)
    return Layer("linear", heads, heads, dim, dim, (cache,), tuple(matrices))


def _gated_delta(p: Parts) -> Layer:
    """Qwen3-Next's gated delta net."""
    r = p.r
    keys, values = r.integer("linear_num_key_heads"), r.integer("linear_num_value_heads")
    k_dim, v_dim = r.integer("linear_key_head_dim"), r.integer("linear_value_head_dim")
    kernel = r.integer("linear_conv_kernel_dim", 4)
    mixed, out = 2 * keys * k_dim + values * v_dim, values * v_dim
    if p.name == "qwen3_next":
        projections = [
            *p.linear("in_proj_qkvz", mixed + out, p.hidden, "attention", "column"),
            *p.linear("in_proj_ba", 2 * values, p.hidden, "attention", "column"),
        ]
    else:
        projections = [
            *p.linear("in_proj_qkv", mixed, p.hidden, "attention", "column"),
            *p.linear("in_proj_z", out, p.hidden, "attention", "column"),
            *p.linear("in_proj_b", values, p.hidden, "attention", "column"),
            *p.linear("in_proj_a", values, p.hidden, "attention", "column"),
        ]
    matrices = [
        *projections,
        Matrix("conv1d", mixed, kernel, "norm", "column", linear=False),
        p.vector("dt_bias_a_log", 2 * values, "norm", "column"),
        *p.norms(1, v_dim),
        *p.linear("out_proj", p.hidden, out, "attention", "row"),
    ]
    state, conv = values * k_dim * v_dim, mixed * (kernel - 1)
    wide = "float32" in (r.raw("mamba_ssm_dtype"), r.raw("mamba_ssm_cache_dtype"))
    cache = Cache(
        state_elements=conv + (0 if wide else state),
        state_fp32_elements=state if wide else 0,
        state_heads=keys,
    )
    return Layer("linear", values, keys, k_dim, v_dim, (cache,), tuple(matrices))


def _mamba(p: Parts) -> Layer:
    """Mamba-2."""
    r = p.r
    heads = r.integer("mamba_num_heads")
    wide = r.integer("mamba_expand", 2) * p.hidden
    dim = (
        max(1, wide // heads) if r.raw("mamba_head_dim") == "auto" else r.integer("mamba_head_dim")
    )
    groups, state = r.integer("mamba_groups", 1), r.integer("ssm_state_size")
    kernel = r.integer("conv_kernel", 4)
    inner, mixed = heads * dim, heads * dim + 2 * groups * state
    bias, normed = r.flag("mamba_proj_bias"), r.flag("mamba_rms_norm", p.name != "falcon_h1")
    matrices = [
        *p.linear("in_proj", inner + mixed + heads, p.hidden, "attention", "column", bias=bias),
        Matrix("conv1d", mixed, kernel + 1, "norm", "column", linear=False),
        p.vector("a_d_dt_bias", 3 * heads, "norm", "column"),
        *([p.vector("gated_norm", inner, "norm", "column")] if normed else []),
        *p.linear("out_proj", p.hidden, inner, "attention", "row", bias=bias),
    ]
    ssm = heads * dim * state
    wide = r.raw("mamba_ssm_cache_dtype") == "float32"
    cache = Cache(
        state_elements=mixed * (kernel - 1) + (0 if wide else ssm),
        state_fp32_elements=ssm if wide else 0,
        state_heads=max(1, min(heads, groups)),
    )
    return Layer("linear", heads, groups, state, dim, (cache,), tuple(matrices))


def _mamba1(p: Parts) -> Layer:
    """Mamba as Jamba has it, with norms on the step's parts (modeling_jamba.py)."""
    r = p.r
    inner = r.integer("mamba_expand", 2) * p.hidden
    state, kernel = r.integer("ssm_state_size", 16), r.integer("conv_kernel", 4)
    automatic = r.raw("mamba_dt_rank") in (None, "auto")
    rank = -(-p.hidden // 16) if automatic else r.integer("mamba_dt_rank")
    bias = r.flag("mamba_proj_bias")
    matrices = [
        *p.linear("in_proj", 2 * inner, p.hidden, "attention", "column", bias=bias),
        Matrix("conv1d", inner, kernel + 1, "norm", "column", linear=False),
        *p.linear("x_proj", rank + 2 * state, inner, "attention", "row"),
        *p.linear("dt_proj", inner, rank, "attention", "column", bias=True),
        p.vector("a_d", inner * (state + 1), "norm", "column"),
        p.vector("step_norms", rank + 2 * state),
        *p.linear("out_proj", p.hidden, inner, "attention", "row", bias=bias),
    ]
    cache = Cache(state_elements=inner * (kernel - 1 + state), state_heads=inner)
    return Layer("linear", inner, inner, 1, 1, (cache,), tuple(matrices))


def _short_conv(p: Parts) -> Layer:
    """LFM2's gated short convolution."""
    width, kernel = p.r.integer("conv_dim", p.hidden), p.r.integer("conv_L_cache", 3)
    matrices = [
        *p.linear("conv.in_proj", 3 * width, p.hidden, "attention", "column"),
        Matrix("conv.conv", width, kernel, "norm", "column", linear=False),
        *p.linear("conv.out_proj", p.hidden, width, "attention", "row"),
    ]
    heads = p.r.integer("num_attention_heads", 1)
    cache = Cache(state_elements=width * kernel, state_heads=heads)
    return Layer("linear", 1, 1, width, width, (cache,), tuple(matrices))


_LINEAR = {
    "kda": _kda,
    "linear_attention": _gated_delta,
    "lightning": _lightning,
    "mamba": _mamba,
    "mamba1": _mamba1,
    "conv": _short_conv,
}
