"""What the builders of attention and feed-forward layers share."""

from __future__ import annotations

from dataclasses import dataclass, field

from configurator.architecture.families import Family
from configurator.architecture.reader import Reader
from configurator.architecture.tables import Assumption, Matrix, Role, Shard

_BIASED = {
    "no": frozenset[str](),
    "qkv": frozenset({"q_proj", "k_proj", "v_proj"}),
    "attention": frozenset({"q_proj", "k_proj", "v_proj", "o_proj"}),
}


@dataclass
class Parts:
    """A config being read: its fields, its family, and matrices made after the family's habits."""

    r: Reader
    name: str
    family: Family
    hidden: int
    count: int
    assumptions: list[Assumption] = field(default_factory=list)

    def __post_init__(self) -> None:
        r, family = self.r, self.family
        biased = set(_BIASED.get(family.bias, ()))
        if r.flag("attention_bias"):
            biased |= _BIASED[family.bias_flag]
        if r.flag("qkv_bias") or r.flag("add_qkv_bias") or r.flag("use_qkv_bias"):
            biased |= _BIASED["qkv"]
        if r.raw("attention_out_bias") is False:
            biased.discard("o_proj")
        if family.bias == "qkv" and r.raw("qkv_bias") is False:
            biased -= _BIASED["qkv"]
        mlp = r.flag("mlp_bias")
        everything = family.bias == "all" and not r.flag("no_bias")
        if r.flag("use_bias") and self.name.startswith("ernie"):
            everything = True
        if self.name in ("falcon", "internlm") and r.raw("bias") is not None:
            everything = r.flag("bias") and self.name == "falcon"
            if not r.flag("bias"):
                biased.clear()
        if self.name == "gptj":
            mlp = True
        self._biased, self._mlp_bias, self._all_bias = biased, mlp, everything
        self._norm_width = 2 if family.norm == "layer" else 1

    def linear(
        self,
        name: str,
        out: int,
        into: int,
        role: Role,
        shard: Shard,
        *,
        bias: bool = False,
        count: int = 1,
        module: str = "",
    ) -> list[Matrix]:
        """Return a matrix and, where the family has one, its bias."""
        module = module or self.family.modules.get(name, "")
        packing = self.family.experts if role == "expert" else "linear"
        matrices = [Matrix(name, out, into, role, shard, count, module=module, packing=packing)]
        plain = name.rsplit(".", 1)[-1]
        if (
            bias
            or self._all_bias
            or (role == "attention" and plain in self._biased)
            or (self._mlp_bias and role in ("mlp", "expert", "shared_expert"))
        ):
            split: Shard = shard if shard in ("column", "kv", "expert") else "replicated"
            matrices.append(Matrix(f"{name}.bias", out, 1, role, split, count, linear=False))
        return matrices

    def vector(
        self, name: str, size: int, role: Role = "norm", shard: Shard = "replicated"
    ) -> Matrix:
        """Return a weight that is no matrix product."""
        return Matrix(name, size, 1, role, shard, linear=False)

    def norms(self, number: int, width: int = 0, *, plain: bool = False) -> list[Matrix]:
        """Return norms of the family's kind, of hidden width unless told otherwise."""
        if not number or self.family.norm == "none":
            return []
        size = (width or self.hidden) * (1 if plain else self._norm_width)
        return [Matrix("norm", size, 1, "norm", "replicated", number, linear=False)]

    def assume(self, code: str, **values: object) -> None:
        """Record something that the config does not say, once."""
        if (code, values) not in self.assumptions:
            self.assumptions.append((code, values))
