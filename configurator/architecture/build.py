"""config.json → `Architecture`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from configurator.architecture.attention import (
    AttentionSpec,
    attention_kinds,
    build_attention,
)
from configurator.architecture.families import family_name, family_of
from configurator.architecture.feedforward import (
    FeedForwardSpec,
    activation_tensors,
    build_feed_forward,
    feed_forward_spec,
)
from configurator.architecture.model import Architecture
from configurator.architecture.parts import Parts
from configurator.architecture.quantization import read_quantization, resolve
from configurator.architecture.reader import MAX_LAYERS, Reader
from configurator.architecture.tables import Eager, Layer, LayerGroup, Matrix
from configurator.architecture.vision import towers
from configurator.errors import InputError

MAX_PARAMETERS = 10**15
MAX_ROTARY_FACTOR = 1e6
_TEXT_KEYS = ("text_config", "llm_config", "language_config", "language_model", "thinker_config")
# What a language part inside another config leaves out, where it does not state even its width:
# transformers writes differences alone
# (configuration_llama.py and configuration_mistral.py, as LLaVA's checkpoints rely on them).
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
              "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048},
    "mistral": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
                "max_position_embeddings": 131072, "sliding_window": 4096},
}  # fmt: skip
# Without rotation query and key are views too; Falcon copies all three out.
_NO_VALUE_VIEW = ("bloom", "falcon", "gpt2", "gpt_bigcode", "mpt")
_EMPTY_LAYER = Layer("none", 1, 1, 1, 1, (), ())


@dataclass(frozen=True)
class LayerSpec:
    """What tells one layer of a model from another; equal ones are built once."""

    attention: AttentionSpec | None
    feed_forward: FeedForwardSpec | None
    norms: int


def read_architecture(config: Any, name: str = "model") -> Architecture:
    """Read a Hugging Face config.json.

    Args:
        config: The decoded file. It is not trusted: anything that JSON can hold either gives an
            architecture or an error.
        name: What to call the model.

    Returns:
        The model's tables. What the config does not say and was assumed stands in
        ``assumptions``.

    Raises:
        InputError: Names the field that is missing or cannot be read.
    """
    if not isinstance(config, Mapping):
        raise InputError("model.config", "config_object", config)
    text = _text_config(config)
    outer = Reader(config)
    _refuse_other_kinds(text)
    wrapper = outer.text("model_type")[:60]
    model_type = Reader(text).text("model_type", wrapper)[:60]
    classes = [*outer.sequence("architectures"), *Reader(text).sequence("architectures")]
    key = family_name(model_type, classes) or family_name(wrapper, [])
    family = family_of(key)
    reader = Reader(text, family.defaults)
    hidden, count = reader.integer("hidden_size"), _layer_count(reader)
    parts = Parts(reader, key, family, hidden, count)
    if not family.known:
        parts.assume("unknown_model_type", model_type=model_type or "(none)")
    vocab = reader.integer("vocab_size")
    specs = _layer_specs(parts)
    groups = _build(parts, specs)
    tied = reader.flag("tie_word_embeddings", family.tied)
    quantization = read_quantization(
        text.get("quantization_config") or config.get("quantization_config"),
        reader.text("expert_dtype"),
    )
    ends = [*_ends(parts, vocab, tied), *towers(parts, outer, wrapper)]
    if quantization is not None:
        quantization = resolve(quantization, groups, ends)
    architecture = Architecture(
        name=name,
        model_type=model_type or key,
        hidden_size=hidden,
        vocab_size=vocab,
        groups=groups,
        ends=tuple(ends),
        tied_embeddings=tied,
        context_length=reader.optional("max_position_embeddings"),
        native_precision=_dtype(text, config),
        mtp_groups=_mtp(parts, vocab),
        quantization=quantization,
        assumptions=tuple(parts.assumptions),
        residual_streams=reader.integer("hc_mult", 1, maximum=64),
        rotary_positions=_rotary_positions(reader, text),
        norm_kept=family.norm_kept,
    )
    if architecture.parameters > MAX_PARAMETERS:
        raise InputError("model.config", "too_many_parameters")
    return architecture


def _rotary_positions(reader: Reader, text: Mapping[str, Any]) -> int:
    """Positions of the rotary tables: a linear stretch lengthens one, local layers have their own.

    Source: vLLM 0.24, model_executor/layers/rotary_embedding.
    """
    context = reader.optional("max_position_embeddings") or 0
    scaling = text.get("rope_parameters") or text.get("rope_scaling")
    scaling = scaling if isinstance(scaling, Mapping) else {}
    nested = [table for table in scaling.values() if isinstance(table, Mapping)]
    tables = nested or [scaling]
    if not nested and text.get("rope_local_base_freq"):
        tables = [scaling, {}]
    total = 0.0
    for table in tables:
        linear = (table.get("rope_type") or table.get("type")) == "linear"
        factor = table.get("factor") if linear else None
        if not isinstance(factor, (int, float)) or not 1 <= factor <= MAX_ROTARY_FACTOR:
            factor = 1.0
        total += context * factor
    return int(total)


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the language part of a multimodal config, its parent's fields filled in."""
    merged = dict(config)
    for key in _TEXT_KEYS:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            outer = {k: v for k, v in config.items() if k not in inner and k != key}
            known = {} if "hidden_size" in inner else _TEXT_DEFAULTS.get(
                str(inner.get("model_type")), {}
            )  # fmt: skip
            merged = {**known, **outer, **inner}
            break
    for key in ("attn_config", "ffn_config"):  # MPT and DBRX keep fields in blocks of their own
        block = merged.get(key)
        if isinstance(block, Mapping):
            merged.update({k: v for k, v in block.items() if k not in merged})
            if "ffn_hidden_size" in block and isinstance(block.get("moe_num_experts"), int):
                merged.setdefault("moe_intermediate_size", block["ffn_hidden_size"])
    return merged


def _refuse_other_kinds(text: Mapping[str, Any]) -> None:
    if text.get("is_encoder_decoder"):
        raise InputError("model.config.is_encoder_decoder", "encoder_decoder", True)
    model_type = text.get("model_type")
    if isinstance(model_type, str) and model_type.startswith(("mamba", "rwkv", "falcon_mamba")):
        raise InputError("model.config.model_type", "no_attention", model_type)


def _layer_count(r: Reader) -> int:
    pattern = r.raw("hybrid_override_pattern")
    listed = r.sequence("layers_block_type") or r.sequence("layer_types")
    default = len(pattern) if isinstance(pattern, str) else len(listed)
    return r.integer("num_hidden_layers", default or None, maximum=MAX_LAYERS)


def _dtype(text: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    raw = "bfloat16"
    for source in (text, config):
        for key in ("torch_dtype", "dtype"):
            if isinstance(source.get(key), str):
                raw = source[key].removeprefix("torch.")
                break
        else:
            continue
        break
    names = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "half": "fp16"}
    return names.get(raw, "bf16")


# --------------------------------------------------------------------------- layers


def _layer_specs(p: Parts) -> list[LayerSpec]:
    """Return what each layer of the model is."""
    pattern = _hybrid_pattern(p)[: p.count]
    blocks = p.r.sequence("block_configs")[: p.count]
    for name, found in (("hybrid_override_pattern", pattern), ("block_configs", blocks)):
        if found and len(found) < p.count:
            raise InputError(f"{p.r.path}.{name}", "all_layers", len(found), count=p.count)
    if pattern:
        return [_sign_spec(p, sign, i) for i, sign in enumerate(pattern)]
    if blocks:
        return [_searched_spec(p, block, i) for i, block in enumerate(blocks)]
    return [_plain_spec(p, i, kind) for i, kind in enumerate(attention_kinds(p))]


def _plain_spec(p: Parts, index: int, kind: str, *, moe: bool | None = None) -> LayerSpec:
    r = p.r
    shared = r.integer("num_kv_shared_layers", 0, minimum=0)
    ratio, indexer, own_cache = 0, True, not shared or index < p.count - shared
    ratios = r.sequence("compress_ratios")
    if ratios:
        ratio = r.whole("compress_ratios", ratios[index], 0) if index < len(ratios) else 0
        indexer = ratio == 4
    sources = r.sequence("index_source_layer_ids")
    if sources:
        indexer = bool(ratio) and index in sources
    if r.sequence("kv_source_layer_ids"):
        own_cache = index in r.sequence("kv_source_layer_ids")
        p.assume("shared_compressed_cache")
    if r.raw("index_head_dim") is not None and not ratios:
        indexer = _runs_indexer(r, index)
    sparse = r.section("sparse_attention_config")
    freq = sparse.sequence("sparse_attention_freq") if sparse is not None else []
    if index < len(freq):
        indexer = bool(freq[index])
    norms = p.family.norms
    if p.name == "falcon" and r.flag("parallel_attn", True):
        norms = 2 if r.flag("new_decoder_architecture") else 1
        norms = r.integer("num_ln_in_parallel_attn", norms)
    attention = AttentionSpec(kind, ratio, indexer, own_cache)
    return LayerSpec(attention, feed_forward_spec(p, index, moe=moe), norms)


def _runs_indexer(r: Reader, index: int) -> bool:
    """Whether a layer picks its own tokens instead of reusing an earlier layer's choice."""
    kinds = r.sequence("indexer_types")
    if index < len(kinds):
        return bool(kinds[index] == "full")
    pattern = r.raw("index_topk_pattern")
    if isinstance(pattern, str) and index < len(pattern):
        return pattern[index] == "F"
    every = r.integer("index_topk_freq", 1)
    return max(index - r.integer("index_skip_topk_offset", 2, minimum=0) + 1, 0) % every == 0


def _hybrid_pattern(p: Parts) -> str:
    """Nemotron-H: ``M`` Mamba-2, ``*`` attention, ``-`` MLP, ``E`` experts, one each a layer."""
    pattern = p.r.raw("hybrid_override_pattern")
    if isinstance(pattern, str) and pattern:
        return pattern
    if p.name == "nemotron_h":
        return _signs(p.r.sequence("layers_block_type") or p.r.sequence("layer_types"))
    return ""


def _signs(kinds: list[Any]) -> str:
    signs = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*",
             "mlp": "-", "moe": "E"}  # fmt: skip
    return "".join(signs.get(k, "?") if isinstance(k, str) else "?" for k in kinds)


def _sign_spec(p: Parts, sign: str, index: int) -> LayerSpec:
    if sign == "M":
        return LayerSpec(AttentionSpec("mamba"), None, 1)
    if sign == "*":
        return LayerSpec(AttentionSpec("full_attention"), None, 1)
    if sign in "-E":
        return LayerSpec(None, feed_forward_spec(p, index, moe=sign == "E"), 1)
    raise InputError(f"{p.r.path}.hybrid_override_pattern", "pattern_signs", sign)


def _searched_spec(p: Parts, block: Any, index: int) -> LayerSpec:
    """Nemotron-NAS: every layer states its own key-value heads and MLP width."""
    r = Reader(block if isinstance(block, Mapping) else {}, path=f"{p.r.path}.block_configs")
    attention, ffn = r.section("attention"), r.section("ffn")
    if attention is None or ffn is None:
        raise InputError(r.path, "schedule_entry", index)
    heads = p.r.integer("num_attention_heads")
    mixing: AttentionSpec | None = None
    norms = 0
    if attention.flag("replace_with_linear"):
        mixing, norms = AttentionSpec("one_matrix"), 1
    elif not attention.flag("no_op"):
        kv = max(1, heads // attention.integer("n_heads_in_group", 1))
        mixing, norms = AttentionSpec(kv_heads=kv), 1
    mlp: FeedForwardSpec | None = None
    if not ffn.flag("no_op"):
        scaled = int(2 * ffn.number("ffn_mult", 1.0) * p.hidden / 3)
        mlp, norms = FeedForwardSpec(False, max(1, -(-scaled // 256)) * 256), norms + 1
    return LayerSpec(mixing, mlp, norms)


def _build(p: Parts, specs: list[LayerSpec]) -> tuple[LayerGroup, ...]:
    """Build each kind of layer once."""
    places: dict[LayerSpec, list[int]] = {}
    for index, spec in enumerate(specs):
        places.setdefault(spec, []).append(index)
    layers: dict[Layer, list[int]] = {}
    for spec, indices in places.items():
        layers.setdefault(_layer(p, spec, indices[0]), []).extend(indices)
    return tuple(
        LayerGroup(layer, len(indices), tuple(sorted(indices))) for layer, indices in layers.items()
    )


def _layer(p: Parts, spec: LayerSpec, index: int) -> Layer:
    base = _EMPTY_LAYER
    if spec.attention is not None and spec.attention.kind == "one_matrix":
        one = p.linear("linear_attn", p.hidden, p.hidden, "attention", "replicated")
        base = replace(base, matrices=tuple(one))
    elif spec.attention is not None:
        base = build_attention(p, spec.attention)
        if p.r.flag("double_layers"):  # LongCat: two attentions in a layer
            base = replace(base, cache=base.cache * 2, matrices=base.matrices * 2)
    family = p.family
    bare = spec.norms if family.norm == "none" else 0
    dropout = p.r.raw("residual_dropout")
    eager = Eager(
        bare, family.wide_router, family.every_expert, *activation_tensors(p), family.scores,
        2 if isinstance(dropout, float) and dropout > 0 else 0,
        p.r.flag("use_parallel_residual"), p.name not in _NO_VALUE_VIEW,
    )  # fmt: skip
    base = replace(base, eager=eager)
    matrices = [*base.matrices, *p.norms(spec.norms)]
    streams = p.r.integer("hc_mult", 1, maximum=64)
    if streams > 1:
        matrices += _hyper_connections(p, streams)
    per_layer = p.r.optional("hidden_size_per_layer_input")
    if per_layer:
        gates = ("per_layer_input_gate", "per_layer_projection")
        matrices += p.linear(gates[0], per_layer, p.hidden, "mlp", "replicated")
        matrices += p.linear(gates[1], p.hidden, per_layer, "mlp", "replicated")
        matrices += p.norms(1)
    if spec.feed_forward is None:
        return replace(base, matrices=tuple(matrices))
    mlp = build_feed_forward(p, spec.feed_forward, index)
    return replace(
        base,
        matrices=(*matrices, *mlp.matrices),
        experts=mlp.experts,
        experts_per_token=mlp.experts_per_token,
        ffn=mlp.ffn,
        gated=mlp.gated,
    )


def _hyper_connections(p: Parts, streams: int) -> list[Matrix]:
    """How the residual streams mix, before attention and before the MLP (kept in 32 bit)."""
    if p.name == "hy_v4":
        mixes, scales = 2 * streams, 2
    else:
        mixes, scales = streams * (streams + 2), 3
    return [
        Matrix("hyper_connection.fn", mixes, streams * p.hidden, "router", "replicated", 2, False),
        Matrix("hyper_connection.base", mixes + scales, 1, "norm", "replicated", 2, False),
    ]


# --------------------------------------------------------------------------- ends


def _ends(p: Parts, vocab: int, tied: bool) -> list[Matrix]:
    r = p.r
    rows = vocab + (8 if p.name == "mllama" else 0)  # Llama 3.2 Vision: image tokens
    ends = [Matrix("embed_tokens", rows, p.hidden, "embedding", "vocab", linear=False)]
    if p.family.learned_positions is not None or r.flag("learned_pos_emb"):
        positions = r.integer("max_position_embeddings", 2048)
        extra = p.family.learned_positions or 0
        ends.append(Matrix("embed_positions", positions + extra, p.hidden, "norm", "replicated",
                           linear=False))  # fmt: skip
    if p.name == "bloom":
        ends += p.norms(1)
    if not tied:
        ends.append(Matrix("lm_head", vocab, p.hidden, "head", "vocab"))
        if p.family.head_bias or r.flag("lm_head_bias"):
            ends.append(p.vector("lm_head.bias", vocab, "head", "vocab"))
    ends += p.norms(1)
    streams = r.integer("hc_mult", 1, maximum=64)
    if streams > 1:
        ends.append(p.vector("hyper_connection.head", streams * (streams * p.hidden + 1) + 1))
    per_layer = r.optional("hidden_size_per_layer_input")
    if per_layer:  # Gemma 3n/4 E-models: one small embedding a layer
        small = r.integer("vocab_size_per_layer_input", vocab)
        width = per_layer * p.count
        ends += [
            Matrix("embed_tokens_per_layer", small, width, "embedding", "vocab", linear=False),
            Matrix("per_layer_model_projection", width, p.hidden, "mlp", "replicated"),
            p.vector("norm", per_layer),
        ]
    rows_engram = sum(r.integers("engram_num_embeddings"))
    if rows_engram:  # DeepSeek-V4.1: look-up tables of word groups
        dim = r.integer("engram_head_dim")
        ends.append(Matrix("engram", rows_engram, dim, "embedding", "vocab", linear=False))
    return ends


def _mtp(p: Parts, vocab: int) -> tuple[LayerGroup, ...]:
    """Return the draft layers; embedding and head, which they share with the model, are not in.

    Step's draft layers have a head each, which is counted.
    """
    number = p.r.integer("mtp_layers", 0, minimum=0, maximum=MAX_LAYERS)
    if not number or number > p.count:
        return ()
    pattern = p.r.raw("mtp_hybrid_override_pattern")
    listed = p.r.sequence("mtp_layers_block_type")
    if isinstance(pattern, str) or listed:
        signs = pattern if isinstance(pattern, str) else _signs(listed)
        built = [_layer(p, _sign_spec(p, s, p.count), p.count) for s in signs[:16]]
        layer = replace(
            built[-1] if built else _EMPTY_LAYER,
            matrices=tuple(m for piece in built for m in piece.matrices),
            cache=tuple(c for piece in built for c in piece.cache),
        )
    else:
        dense_draft = p.name in ("step3p5", "mimo_v2")
        kind = "sliding_attention" if dense_draft else "full_attention"
        spec = _plain_spec(p, p.count, kind, moe=False if dense_draft else None)
        drafted = p.r.optional("dspark_n_routed_experts")
        if drafted and spec.feed_forward is not None:  # DeepSeek-V4.1 drafts with fewer experts
            top_k = p.r.integer("dspark_num_experts_per_tok", maximum=drafted)
            spec = replace(
                spec, feed_forward=replace(spec.feed_forward, experts=drafted, top_k=top_k)
            )
        layer = _layer(p, spec, p.count)
    own = [*p.linear("eh_proj", p.hidden, 2 * p.hidden, "mlp", "replicated"), *p.norms(3)]
    if p.name == "step3p5":
        own.append(Matrix("shared_head", vocab, p.hidden, "head", "vocab"))
    return (LayerGroup(replace(layer, matrices=(*layer.matrices, *own)), number),)
