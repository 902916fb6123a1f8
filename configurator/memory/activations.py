"""What autograd keeps for the backward pass: bytes a token, layer by layer, by how it is split.

The tables follow PyTorch's saved tensors of the eager Hugging Face blocks one by one (recorded
with a dispatch mode over fake tensors that reproduces ``max_memory_allocated`` of the measured
H100 runs to a few MiB): which copies are 16 and which 32 bit, which a frozen weight spares, which
an adapter adds. Megatron's fused blocks follow Korthikanti et al., arXiv 2205.05198, section 4,
with flash attention and without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from configurator.architecture import Architecture, Layer, Matrix, NormKept
from configurator.scenario import Training

Style = Literal["eager", "autocast", "fused"]


HALF = 2
WIDE = 4
"""Bytes of a 32-bit number: norms, adapters and losses compute in it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Number formats of a training run.

    Attributes:
        style: How the blocks run.
        compute: Bytes a number inside attention and MLP.
        residual: Bytes a number of the residual stream.
        logits: Bytes a number that the head puts out.
        frozen: Whether the base weights take no gradient (adapters only).
        inputs_kept: Whether a frozen linear layer keeps its input all the same.
        norms: What a norm of the model keeps.
        adapter: Bytes a number of an adapter's saved input and of A's output.
    """

    style: Style
    compute: int
    residual: int
    logits: int
    frozen: bool
    inputs_kept: bool = False
    norms: NormKept = "narrow"
    adapter: int = WIDE


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """Bytes a token, by how tensor parallelism splits them.

    Attributes:
        hidden: As wide as the residual stream: split only under sequence parallelism.
        heads: By query head.
        kv: By key-value head.
        ffn: By MLP width.
        kv_heads: Key-value heads: ``kv`` lies on at most so many ranks.
    """

    hidden: float = 0.0
    heads: float = 0.0
    kv: float = 0.0
    ffn: float = 0.0
    kv_heads: int = 1

    @property
    def total(self) -> float:
        """Bytes a token on one GPU that holds everything."""
        return self.hidden + self.heads + self.kv + self.ffn


@dataclass(frozen=True, slots=True)
class LayerActivations:
    """One layer's share.

    Attributes:
        saved: Kept from forward to backward without checkpointing.
        replayed: Kept while the layer is run again for its backward under checkpointing; its
            input, which the checkpoint holds, left out.
        backward: Live beside ``saved`` at the highest point of the layer's own backward.
    """

    saved: TokenBytes
    replayed: TokenBytes
    backward: TokenBytes


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA pair of a layer.

    Attributes:
        name: What the module does, in Llama's words (``down_proj``).
        in_features, out_features: A is rank × in, B is out × rank.
        count: Equal copies in the layer (experts).
        role: As of the module's matrices.
        ranks: Times the rank asked for.
        folded: Whether PEFT adds the pair to the weight instead of running it beside
            (``ParamWrapper``: experts that are one tensor).
    """

    name: str
    in_features: int
    out_features: int
    count: int
    role: str
    ranks: int = 1
    folded: bool = False

    def parameters(self, rank: int) -> int:
        """Elements of A and B of all copies."""
        return rank * self.ranks * (self.in_features + self.out_features) * self.count


@lru_cache(maxsize=4096)
def layer_adapters(layer: Layer, targets: str | tuple[str, ...]) -> tuple[Adapter, ...]:
    """Return the adapters of a layer; a target may be a module's own name or Llama's word for it.

    One adapter sits on a module as the checkpoint has it (``c_attn`` holds three projections);
    naming one projection of a fused module gives that part an adapter of its own, as LitGPT does.
    """
    parts: dict[str, list[Matrix]] = {}
    for matrix in layer.matrices:
        if matrix.linear:
            parts.setdefault(matrix.module_name, []).append(matrix)
    out: list[Adapter] = []
    seen: set[str] = set()
    for module in layer.lora_modules():
        matrices = parts.get(module.name, [])
        if module.is_targeted(targets):
            name = matrices[0].name if matrices else module.name
            out.append(
                Adapter(
                    name, module.in_features, module.out_features, module.count, module.role,
                    module.ranks, module.packing != "linear",
                )
            )  # fmt: skip
        elif not isinstance(targets, str) and module.name not in seen:
            out += [
                Adapter(m.name, m.in_features, m.out_features, m.count, m.role)
                for m in matrices
                if m.name.rsplit(".", 1)[-1] in targets
            ]
        seen.add(module.name)
    return tuple(out)


def adapter_parameters(arch: Architecture, rank: int, targets: str | tuple[str, ...]) -> int:
    """Return the trainable elements of LoRA adapters.

    Raises:
        InputError: Where names were given and no module of the model has any of them.
    """
    total = sum(
        a.parameters(rank) * group.count
        for group in arch.groups
        for a in layer_adapters(group.layer, targets)
    )
    return total or arch.lora_parameters(rank, targets)


@dataclass(frozen=True, slots=True)
class Folded:
    """Bytes of one layer's expert weights with their adapters added in.

    Attributes:
        saved: The sums and the adapters' copies in the weights' format, kept for the backward.
        backward: The gradient of a sum, at the highest point: down's beside both, then up's.
    """

    saved: float
    backward: float


def folded_experts(layer: Layer, targets: str | tuple[str, ...], rank: int, each: int) -> Folded:
    """Count what adapting experts in place takes (PEFT 0.21, ``_LoraFactorsProxy``).

    Args:
        layer: The layer.
        targets: LoRA targets.
        rank: LoRA rank.
        each: Bytes of one weight.
    """
    pairs = [a for a in layer_adapters(layer, targets) if a.folded]
    sums = [a.in_features * a.out_features * a.count for a in pairs]
    if not sums:
        return Folded(0.0, 0.0)
    last, rest = sums[-1], sum(sums[:-1])
    copies = sum(a.parameters(rank) for a in pairs)
    return Folded(float(each) * (sum(sums) + copies), float(each) * max(last, rest - last))


def _norm(width: float, profile: Profile, layer_norm: bool) -> float:
    """Bytes a token that one norm keeps, its input's copy included.

    RMSNorm of transformers multiplies in 32 bit: it keeps the 32-bit input and, where its weight
    is trained, the normalised input in the module's dtype (``narrow``) or in 32 bit (``wide``).
    Cohere's takes the mean off first, twice (``centred``). LayerNorm is one kernel and keeps its
    input (under autocast in 32 bit, as OLMo's always: ``wide_input``); Megatron's fused RMSNorm
    likewise.
    """
    if profile.style == "fused" or layer_norm or profile.norms == "input":
        return width * profile.residual
    if profile.norms == "wide_input":
        return width * WIDE
    copies = 2 if profile.norms == "centred" else 1
    return width * (copies * WIDE + _normalised(profile)) + WIDE


def _normalised(profile: Profile) -> int:
    """Bytes a number of the normalised input, which only a trained weight keeps."""
    if profile.frozen:
        return 0
    if profile.norms in ("wide", "centred"):
        return WIDE
    return profile.residual if profile.style == "autocast" else profile.compute


@lru_cache(maxsize=2048)
def layer_activations(
    layer: Layer, hidden: int, profile: Profile, targets: str | tuple[str, ...], rank: int,
    sequence: int = 0,
) -> LayerActivations:  # fmt: skip
    """Count what one layer keeps, bytes a token.

    Args:
        layer: The layer.
        hidden: Width of the residual stream.
        profile: Number formats.
        targets: LoRA targets; only read where the base is frozen.
        rank: LoRA rank.
        sequence: Tokens of a sequence, which attention that is written out scores one by one;
            0 leaves the scores out.
    """
    c, frozen = profile.compute, profile.frozen
    keep = 0 if frozen else c
    keep_input = c if profile.inputs_kept else keep
    query = layer.heads * layer.qk_dim if layer.attention != "none" else 0
    key = layer.kv_heads * layer.qk_dim if layer.attention != "none" else 0
    value = layer.kv_heads * layer.v_dim if layer.attention != "none" else 0
    output = layer.heads * layer.v_dim if layer.attention != "none" else 0
    linears = [m for m in layer.matrices if m.linear]
    adapted = layer_adapters(layer, targets) if frozen else ()

    norms = layer.eager.bare_norms
    hidden_bytes, heads_bytes, kv_bytes = norms * _norm(hidden, profile, False), 0.0, 0.0
    for m in layer.matrices:
        if m.role != "norm" or m.linear or m.in_features != 1:
            continue
        if m.out_features in (hidden, 2 * hidden):
            norms += m.count
            layer_norm = m.out_features == 2 * hidden  # keeps its input, which two may share
            inputs = 1 if layer_norm and layer.eager.one_input else m.count
            hidden_bytes += inputs * _norm(hidden, profile, layer_norm)
        elif m.out_features in (layer.qk_dim, 2 * layer.qk_dim) and m.count >= 2:
            wide = 0 if profile.style == "fused" else WIDE
            narrow = 0 if frozen else WIDE if profile.norms == "wide" else c
            heads_bytes += query * (wide + narrow)
            kv_bytes += key * (wide + narrow)
        else:  # a latent's norm (MLA)
            hidden_bytes += m.count * _norm(m.out_features, profile, False)
    # Inputs of the linear layers that read the normalised residual stream.
    readers = {
        m.module_name for m in linears
        if m.in_features == hidden and m.role != "expert" and not _writes_stream(m.name)
    }  # fmt: skip
    if profile.style == "autocast":  # one cast a reader: autocast caches weights, not inputs
        hidden_bytes += hidden * c * len(readers)
    else:
        hidden_bytes += hidden * keep_input * min(2, max(1, norms))  # attention's and the MLP's
    # Latent projections (MLA): their outputs are the inputs of the next projection.
    latents = [m for m in linears if m.role == "attention" and m.shard == "replicated"]
    if layer.attention == "mla":
        hidden_bytes += sum(m.out_features * keep for m in latents)
    # Attention: q, k, v after the rotation, output and 32-bit log-sum-exp (flash attention).
    heads_bytes += c * (query + output) + WIDE * (layer.heads if query else 0)
    kv_bytes += c * (key + value)
    if layer.attention == "mla":  # the value is a view that keeps the key's part with it
        wide_kv = max((m.out_features for m in linears if m.name == "kv_b_proj"), default=value)
        heads_bytes, kv_bytes = heads_bytes + kv_bytes + c * (wide_kv - value), 0.0
    elif _fused_attention(layer) and profile.style != "fused":  # the same, of one fused projection
        heads_bytes, kv_bytes = heads_bytes + c * query, kv_bytes + c * key
    if layer.attention == "linear":  # gates and decays beside q, k, v
        heads_bytes += c * output
    # MLP: gate, up, activation and their product.
    shared = sum(
        m.out_features
        for m in layer.matrices
        if m.role == "shared_expert" and m.linear and m.name.endswith("up_proj")
    )
    dense = 0 if layer.experts else layer.ffn
    eager = profile.style != "fused"
    used = layer.experts if layer.eager.every_expert and eager else layer.experts_per_token
    routed = layer.ffn * used if layer.experts else 0
    width = dense + routed + shared
    if not eager:  # fused kernels; SwiGLU recomputes the activation from its input
        kept = (2.0 if layer.gated else 1.0) * c + keep_input
    elif layer.gated:
        kept = (2.0 + layer.eager.activation) * c + keep_input
    else:
        kept = layer.eager.activation * c + (keep_input if layer.eager.activation else c)
    if eager and profile.style == "autocast":
        kept += (WIDE - c) * layer.eager.widened
    ffn_bytes = float(width * kept)
    if eager:
        hidden_bytes += hidden * layer.eager.dropouts  # a byte a number: ``native_dropout``
    in_place = any(a.folded for a in adapted)  # its weights take a gradient: inputs are kept
    if in_place:
        ffn_bytes += routed * (c - keep_input)
    if layer.experts:  # tokens gathered by expert, results before the weighted sum, router
        gathered = (c if in_place else keep) + c
        hidden_bytes += hidden * gathered * used + 3 * WIDE * layer.experts
        if layer.eager.wide_router and not frozen:
            hidden_bytes += hidden * WIDE
    # Adapters: a copy of each input for the 32-bit matrices, and A's output.
    for a in adapted:
        if a.folded:
            continue
        copies = a.in_features * profile.adapter
        if a.role == "expert":
            hidden_bytes += used * copies
        elif not _writes_stream(a.name):
            hidden_bytes += copies
        elif a.role == "attention":
            heads_bytes += copies
        else:
            ffn_bytes += copies
        hidden_bytes += rank * profile.adapter
    own_input = hidden * WIDE if profile.residual == WIDE else 0
    if profile.style == "fused":
        own_input = hidden * profile.residual
    # Highest point of the layer's backward, in its MLP: gradients of product, activation and up.
    grow_hidden, grow_ffn = float(profile.residual), 2.0 * c
    if frozen:
        grow_ffn = 3.0 * c
        mlp = {a.name.rsplit(".", 1)[-1] for a in adapted if a.role in ("mlp", "shared_expert")}
        if "down_proj" in mlp:  # the adapter's 32-bit path beside the base's
            grow_hidden, grow_ffn = grow_hidden + 2 * WIDE + c, float(WIDE)
        elif mlp:
            grow_hidden, grow_ffn = grow_hidden + WIDE, 2.0 * WIDE
    # Scores written out: the probabilities stay, in 32 bit with a 16-bit copy or in 16 bit alone;
    # their backward needs two more of the same width, after the MLP's.
    scores, each = float(layer.heads * sequence), layer.eager.scores if eager else 0
    grow_heads = max(0.0, 2.0 * each * scores - ffn_bytes - grow_ffn * width)
    if each:
        heads_bytes += scores * (each + (c if each > c else 0))
    saved = TokenBytes(hidden_bytes, heads_bytes, kv_bytes, ffn_bytes, layer.kv_heads)
    replayed = replace(saved, hidden=max(0.0, hidden_bytes - own_input))
    backward = TokenBytes(grow_hidden * hidden, grow_heads, 0.0, grow_ffn * width, layer.kv_heads)
    return LayerActivations(saved, replayed, backward)


def _fused_attention(layer: Layer) -> bool:
    """Whether the value is a view of a module's output that holds the query and key as well."""
    modules = {m.module_name for m in layer.matrices if m.name in ("q_proj", "v_proj")}
    return len(modules) == 1 and layer.eager.value_view


def _writes_stream(name: str) -> bool:
    """Whether a projection writes the residual stream instead of reading it."""
    return name.rsplit(".", 1)[-1] in ("o_proj", "down_proj", "out_proj", "wo_b")


def final_norm_bytes(hidden: int, profile: Profile, layer_norm: bool = False) -> float:
    """Bytes a token of the last norm and of the head's input, alive until the loss is done."""
    head_input = 0 if profile.frozen else profile.compute
    return _norm(hidden, profile, layer_norm) + hidden * head_input


def training_profile(training: Training, engine: str) -> Profile:
    """Number formats that a scenario's mixed precision means on an engine.

    Autocast over 32-bit weights exists in plain PyTorch (``transformers``). FSDP casts the
    gathered parameters, DeepSpeed and Megatron hold 16-bit copies: there the whole stream is
    16 bit.
    """
    mode, frozen = training.mixed_precision, training.method != "full"
    if training.method == "qlora" and mode != "fp32":
        # bitsandbytes' MatMul4Bit saves its input up to version 0.42 (autograd/_functions.py)
        # and frees it since; the safe side is taken.
        return Profile("eager", 2, 2, 2, True, inputs_kept=True)
    if mode == "fp32":
        return Profile("fused" if engine == "megatron" else "eager", 4, 4, 4, frozen)
    if engine == "megatron":
        return Profile("fused", 2, 2, 2, frozen)
    if mode in ("amp_bf16", "amp_fp16") and engine == "transformers" and not frozen:
        return Profile("autocast", 2, 4, 2, False)
    # Autocast runs the 32-bit matrices of adapters in 16 bit, so that each keeps a 16-bit copy.
    cast = frozen and engine == "transformers" and mode != "pure_bf16"
    return Profile("eager", 2, 2, 2, frozen, adapter=HALF if cast else WIDE)
