"""A model: its layers, its ends, how it is stored, and the sums over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from configurator.architecture.quantization import Quantization
from configurator.architecture.tables import (
    Assumption,
    Layer,
    LayerGroup,
    LoraModule,
    Matrix,
    NormKept,
)
from configurator.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A model as the engine sees it."""

    name: str
    model_type: str
    hidden_size: int
    vocab_size: int
    groups: tuple[LayerGroup, ...]
    ends: tuple[Matrix, ...]
    tied_embeddings: bool
    context_length: int | None
    native_precision: str
    mtp_groups: tuple[LayerGroup, ...] = ()
    quantization: Quantization | None = None
    assumptions: tuple[Assumption, ...] = field(default=(), hash=False)
    residual_streams: int = 1
    rotary_positions: int = 0  # of all its rotary tables together
    norm_kept: NormKept = "narrow"
    head_quantised: bool = False  # with the layers, from 16 bit: see ``with_kernels``

    @cached_property
    def num_layers(self) -> int:
        """Decoder layers, multi-token-prediction layers left out."""
        return sum(g.count for g in self.groups)

    @cached_property
    def parameters(self) -> int:
        """All weights with vision and audio towers, multi-token-prediction layers left out."""
        return sum(g.layer.parameters * g.count for g in self.groups) + sum(
            m.parameters for m in self.ends
        )

    @cached_property
    def vision_parameters(self) -> int:
        """Weights of vision and audio towers and of their projectors."""
        return sum(m.parameters for m in self.ends if m.role == "vision")

    @cached_property
    def mtp_parameters(self) -> int:
        """Weights of the multi-token-prediction layers."""
        return sum(g.layer.parameters * g.count for g in self.mtp_groups)

    @cached_property
    def active_parameters(self) -> int:
        """Weights that one text token passes through (embedding look-up left out when untied)."""
        ends = sum(
            m.parameters
            for m in self.ends
            if m.role not in ("vision", "embedding")
            or (m.name == "embed_tokens" and self.tied_embeddings)
        )
        return sum(g.layer.active_parameters * g.count for g in self.groups) + ends

    @cached_property
    def sparse_attention(self) -> bool:
        """Whether attention picks the tokens it reads by an index of its own."""
        return any(
            g.layer.attention == "compressed" or c.fixed_bytes_per_token
            for g in self.groups
            for c in g.layer.cache
        )

    @cached_property
    def max_kv_heads(self) -> int:
        """Largest number of ranks that can share a cache."""
        return max((c.heads for g in self.groups for c in g.layer.cache), default=1)

    @cached_property
    def experts(self) -> int:
        """Routed experts of the widest layer; 0 for a dense model."""
        return max((g.layer.experts for g in self.groups), default=0)

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return self.experts > 0

    @cached_property
    def packed_expert_parameters(self) -> int:
        """Weights of experts that are one tensor instead of linear modules."""
        return sum(
            m.parameters * g.count
            for g in self.groups
            for m in g.layer.matrices
            if m.packing != "linear"
        )

    @property
    def unpacked_copies(self) -> int:
        """16-bit copies of a quantised weight that a product with bitsandbytes unpacks."""
        return 2 if self.head_quantised else 1

    def with_linear_experts(self) -> Architecture:
        """Return the model as transformers 4 builds it."""

        def module(m: Matrix) -> Matrix:
            return replace(m, packing="linear") if m.packing.endswith("_in_5") else m

        def linear(layer: Layer) -> Layer:
            return replace(layer, matrices=tuple(module(m) for m in layer.matrices))

        return self._with_layers(linear)

    def with_kernels(self, head_quantised: bool = False) -> Architecture:
        """Return the model as trainers with code of their own build it.

        Experts are linear modules, activations and attention are kernels, nothing is dropped out.

        Args:
            head_quantised: LitGPT's way with bitsandbytes: the head too is quantised, all from
                16 bit, so that a product unpacks a weight into two copies (Lightning's
                ``BitsandbytesPrecision`` without ``ignore_modules``).
        """

        def fused(layer: Layer) -> Layer:
            eager = replace(
                layer.eager, activation=1.0, widened=0.0, scores=0, dropouts=0, value_view=False
            )
            return replace(layer, eager=eager)

        own = self.with_linear_experts()._with_layers(fused)
        return replace(own, head_quantised=head_quantised)

    def with_own_head(self) -> Architecture:
        """Return the model with a head of its own where it shares the embedding's weight.

        So transformers 4 loads checkpoints in FP8, which store the head (Qwen3's own table of
        memory: 0.6B to 4B are met with it and 14 to 22 % low without).
        """
        if not self.tied_embeddings:
            return self
        head = Matrix("lm_head", self.vocab_size, self.hidden_size, "head", "vocab")
        return replace(self, tied_embeddings=False, ends=(*self.ends, head))

    def _with_layers(self, change: Callable[[Layer], Layer]) -> Architecture:
        def changed(groups: tuple[LayerGroup, ...]) -> tuple[LayerGroup, ...]:
            return tuple(replace(g, layer=change(g.layer)) for g in groups)

        return replace(self, groups=changed(self.groups), mtp_groups=changed(self.mtp_groups))

    def kv_elements_per_token(self) -> int:
        """Cached numbers that one more token costs while no window is full, all layers."""
        return sum(
            c.elements_per_token * g.count // c.ratio for g in self.groups for c in g.layer.cache
        )

    def lora_targets(self, targets: str | Sequence[str]) -> tuple[tuple[LoraModule, int], ...]:
        """Return the modules that adapters sit on, each with the number of layers that have it.

        Args:
            targets: ``all_linear`` (every linear module of the decoder layers, experts included;
                router, embeddings and head are not, as in PEFT's ``all-linear``), ``attention``,
                or module names, each the whole name or its last parts.

        Raises:
            InputError: Where names were given and no module of the model has any of them.
        """
        found = tuple(
            (module, group.count)
            for group in self.groups
            for module in group.layer.lora_modules()
            if module.is_targeted(targets)
        )
        if not found:
            known = sorted({m.name for g in self.groups for m in g.layer.lora_modules()})
            raise InputError(
                "training.lora_targets",
                "no_module",
                targets if isinstance(targets, str) else list(targets),
                model=self.name,
                known=", ".join(known),
            )
        return found

    def lora_parameters(self, rank: int, targets: str | Sequence[str] = "all_linear") -> int:
        """Return the trainable elements of adapters of this rank on ``targets``."""
        return sum(m.parameters(rank) * count for m, count in self.lora_targets(targets))
