"""The tables that describe a model: matrices, caches, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Shard = Literal["column", "row", "kv", "vocab", "replicated", "expert"]
Role = Literal[
    "attention", "mlp", "expert", "shared_expert", "router", "norm", "embedding", "head", "vision"
]
Packing = Literal["linear", "packed", "packed_in_5", "adapted_in_5"]
"""How transformers holds experts: as linear modules, or as one three-dimensional tensor, always or
since version 5. LoRA's ``all-linear`` passes a tensor by, unless PEFT adapts it in place."""
NormKept = Literal["narrow", "wide", "centred", "input", "wide_input"]
"""What a norm keeps for the backward, see ``configurator.memory.activations``."""
AttentionKind = Literal["full", "sliding", "mla", "compressed", "linear", "none"]
Assumption = tuple[str, Mapping[str, Any]]


# The projections that transformers 5 holds in one ``gate_up_proj``.
_GATE_UP = ("experts.gate_proj", "experts.up_proj")


@dataclass(frozen=True, slots=True)
class Matrix:
    """One weight tensor of a layer or of the model's ends.

    Attributes:
        name: What it does, in Llama's words and without the layer's prefix (``q_proj``).
        out_features: Rows.
        in_features: Columns; 1 for a vector (norm, bias).
        role: What it belongs to.
        shard: How tensor parallelism splits it. ``kv`` splits by key-value heads only as far as
            there are heads; ``expert`` goes to ``max(tensor_parallel, expert_parallel)`` ranks.
        count: Equal copies in one layer (experts).
        linear: Whether it is a matrix product (quantised by weight-only schemes, LoRA target).
        module: The checkpoint's own module where it differs from ``name``; matrices that share
            one are fused there (``c_attn`` holds the query, key and value projections).
        packing: How transformers holds it; only experts are not ``linear``.
    """

    name: str
    out_features: int
    in_features: int
    role: Role
    shard: Shard
    count: int = 1
    linear: bool = True
    module: str = ""
    packing: Packing = "linear"

    @property
    def parameters(self) -> int:
        """Elements over all copies."""
        return self.out_features * self.in_features * self.count

    @property
    def module_name(self) -> str:
        """The checkpoint's module that holds the matrix."""
        return self.module or self.name


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One linear module that an adapter can sit on: A is r × in, B is out × r.

    Attributes:
        name: The checkpoint's module name, without the layer's prefix.
        in_features, out_features: Of the whole (fused) module.
        count: Equal copies in one layer (experts).
        role, shard: As of its matrices; a fused query-key-value module counts as ``column``.
        packing: As of its matrices.
        branches: Names of the projections that it holds, where those too are targets.
    """

    name: str
    in_features: int
    out_features: int
    count: int
    role: Role
    shard: Shard
    packing: Packing = "linear"
    branches: tuple[str, ...] = ()

    @property
    def ranks(self) -> int:
        """Times the rank asked for: PEFT gives a fused expert tensor one rank a projection."""
        return max(1, len(self.branches))

    def parameters(self, rank: int) -> int:
        """Elements of the adapters of all copies."""
        return rank * self.ranks * (self.in_features + self.out_features) * self.count

    def is_targeted(self, targets: str | Sequence[str]) -> bool:
        """Whether ``lora_targets`` of the contract names this module."""
        if targets == "all_linear":
            return self.packing in ("linear", "adapted_in_5")
        if targets == "attention":
            return self.role == "attention"
        names = (targets,) if isinstance(targets, str) else targets
        own = (self.name, *self.branches)
        return any(name == t or name.endswith(f".{t}") for name in own for t in names)


@dataclass(frozen=True, slots=True)
class Cache:
    """What one sequence keeps in one layer.

    Attributes:
        elements_per_token: Cached numbers a token, all heads, stored at the cache precision.
        fixed_bytes_per_token: Bytes a token whatever the cache precision (sparse-attention index).
        heads: How many ranks can share it (key-value heads; 1 for a latent cache).
        window: Tokens after which it stops growing; None if it never does.
        ratio: Tokens that share one entry (compressed attention).
        state_elements: Numbers a sequence whatever its length (linear attention), 16 bit.
        state_fp32_elements: The same, kept in 32 bit.
        state_heads: How many ranks can share the state.
    """

    elements_per_token: int = 0
    fixed_bytes_per_token: float = 0.0
    heads: int = 1
    window: int | None = None
    ratio: int = 1
    state_elements: int = 0
    state_fp32_elements: int = 0
    state_heads: int = 1


@dataclass(frozen=True, slots=True)
class Eager:
    """What transformers' code of a layer keeps for the backward beyond what every layer keeps.

    Attributes:
        bare_norms: Norms of hidden width that have no weight.
        wide_router: Whether the router reads a 32-bit copy of the hidden state.
        every_expert: Whether every expert runs on every token.
        activation: Tensors of MLP width that the activation keeps beside its result; 0 = the
            result alone, which whoever reads it keeps anyway.
        widened: Of them, those that autocast takes to 32 bit with the power that they come from.
        scores: Bytes of an attention score that is written out; 0 = a kernel that does not.
        dropouts: Dropouts on what is added to the residual stream, each with a mask.
        one_input: Whether attention and MLP read the same hidden state, side by side.
        value_view: Whether the value is a view of a fused projection whose query and key are
            copied out by the rotation, so that the whole stays beside them.
    """

    bare_norms: int = 0
    wide_router: bool = False
    every_expert: bool = False
    activation: float = 1.0
    widened: float = 0.0
    scores: int = 0
    dropouts: int = 0
    one_input: bool = False
    value_view: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer.

    Attributes:
        attention: Kind of token mixing.
        heads, kv_heads: Query and key-value heads (of the linear attention where that is used).
        qk_dim, v_dim: Head sizes of query/key and of value.
        cache: Caches of the layer; most have one, compressed attention has two, a layer that
            reads another layer's cache has none.
        matrices: All its weights.
        experts, experts_per_token: 0 for a dense layer.
        ffn: Width of the dense MLP or of one expert.
        gated: Whether the MLP has a gate beside its up projection.
        window: Tokens that a query attends to; None = all.
        eager: What transformers' own code of it keeps besides.
    """

    attention: AttentionKind
    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int
    cache: tuple[Cache, ...]
    matrices: tuple[Matrix, ...]
    experts: int = 0
    experts_per_token: int = 0
    ffn: int = 0
    gated: bool = True
    window: int | None = None
    eager: Eager = Eager()

    @property
    def parameters(self) -> int:
        """All weights of the layer."""
        return sum(m.parameters for m in self.matrices)

    @property
    def active_parameters(self) -> int:
        """Weights that one token passes through."""
        return sum(
            m.parameters * self.experts_per_token // self.experts
            if m.role == "expert" and self.experts
            else m.parameters
            for m in self.matrices
        )

    def lora_modules(self) -> tuple[LoraModule, ...]:
        """Return the linear modules of the layer as adapters see them, fused ones as one."""
        out: list[LoraModule] = []
        fused: dict[tuple[str, int, int], int] = {}
        for m in self.matrices:
            if not m.linear or m.role == "router":
                continue
            joined = m.packing == "adapted_in_5" and m.name in _GATE_UP
            module = "experts.gate_up_proj" if joined else m.module
            branches = (m.name,) if joined else ()
            key = (module, m.in_features, m.count)
            if module and key in fused:
                known = out[fused[key]]
                out[fused[key]] = replace(
                    known, out_features=known.out_features + m.out_features,
                    branches=known.branches + branches,
                )  # fmt: skip
                continue
            if module:
                fused[key] = len(out)
            out.append(
                LoraModule(
                    module or m.name, m.in_features, m.out_features, m.count, m.role, m.shard,
                    m.packing, branches,
                )
            )  # fmt: skip
        return tuple(out)


@dataclass(frozen=True)
class LayerGroup:
    """Equal layers.

    Attributes:
        layer: What each looks like.
        count: How many there are.
        indices: Where they stand in the model, from 0; empty where that was not recorded.
    """

    layer: Layer
    count: int
    indices: tuple[int, ...] = field(default=(), compare=False)
