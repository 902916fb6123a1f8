"""Typed look-ups in a config.json that nobody vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configurator.errors import InputError

MAX_LAYERS = 1_000
MAX_DIMENSION = 1 << 31
MAX_LIST = 20_000

# One thing, as the families spell it; the first is the name that errors show.
ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model", "dim", "model_dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_key_value_heads": (
        "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "n_kv_heads",
        "n_query_groups", "num_attention_groups", "kv_n_heads",
    ),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels"),
    "intermediate_size": (
        "intermediate_size", "ffn_hidden_size", "n_inner", "inter_dim", "ffn_dim", "block_ff_dim",
        "ff_intermediate_size",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "max_position_embeddings": (
        "max_position_embeddings", "seq_length", "max_seq_len", "n_positions", "model_max_length",
        "max_sequence_length",
    ),
    "num_experts": (
        "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "n_experts",
    ),
    "num_experts_per_tok": (
        "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "n_activated_experts",
        "experts_per_token", "moe_top_k", "top_k_experts",
    ),
    "moe_intermediate_size": (
        "moe_intermediate_size", "moe_inter_dim", "expert_ffn_hidden_size", "expert_dim",
    ),
    "moe_latent_size": ("moe_latent_size", "routed_expert_hidden_size"),
    "shared_experts": (
        "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert",
    ),
    "dense_layers": ("first_k_dense_replace", "n_dense_layers", "num_dense_layers"),
    "mtp_layers": (
        "num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers", "num_mtp_layers",
        "num_mtp_modules",
    ),
    "hidden_act": ("hidden_act", "activation_function", "activation"),
    "residual_dropout": ("residual_dropout", "resid_pdrop", "hidden_dropout", "dropout"),
    "mamba_num_heads": ("mamba_num_heads", "mamba_n_heads"),
    "mamba_head_dim": ("mamba_head_dim", "mamba_d_head"),
    "mamba_groups": ("n_groups", "mamba_n_groups"),
    "ssm_state_size": ("ssm_state_size", "mamba_d_state"),
    "conv_kernel": ("conv_kernel", "mamba_d_conv"),
}  # fmt: skip


class Reader:
    """Typed look-ups in a JSON object, with the aliases that families use for one thing.

    Every method returns a value of its type or raises `InputError` with the field's name.

    Args:
        config: The object.
        defaults: What the family's own configuration class fills in where a field is absent.
        path: Where the object stands, for error messages.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        path: str = "model.config",
    ) -> None:
        self.config = config
        self.defaults = defaults or {}
        self.path = path
        self._sequences: dict[str, list[Any]] = {}

    def raw(self, name: str) -> Any:
        """Return the value under any of the field's names, the family's default, or None."""
        for key in ALIASES.get(name, (name,)):
            value = self.config.get(key)
            if value is not None:
                return value
        return self.defaults.get(name)

    def whole(self, name: str, value: Any, minimum: int = 1, maximum: int = MAX_DIMENSION) -> int:
        """Check one number."""
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not minimum <= value <= maximum
            or value != int(value)
        ):
            raise InputError(
                f"{self.path}.{name}", "whole_between", value, low=minimum, high=maximum
            )
        return int(value)

    def integer(
        self,
        name: str,
        default: int | None = None,
        minimum: int = 1,
        maximum: int = MAX_DIMENSION,
    ) -> int:
        """Return a whole number; a list of equal numbers counts as that number."""
        value = self.raw(name)
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], (int, float)):
            value = value[0] if all(v == value[0] for v in value) else value
        if value is not None:
            return self.whole(name, value, minimum, maximum)
        if default is None:
            keys = " or ".join(ALIASES.get(name, (name,)))
            raise InputError(f"{self.path}.{name}", "config_missing", keys=keys)
        return default

    def optional(self, name: str) -> int | None:
        """Return a whole number, or None where it is absent or 0."""
        return self.integer(name, 0, minimum=0) or None

    def number(self, name: str, default: float) -> float:
        """Return a positive finite number."""
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise InputError(f"{self.path}.{name}", "positive", value)
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a switch; anything but true, false, 0 and 1 is refused."""
        value = self.raw(name)
        if value is None:
            return default
        if value not in (True, False):
            raise InputError(f"{self.path}.{name}", "flag", value)
        return bool(value)

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InputError(f"{self.path}.{name}", "string", value)
        return value

    def sequence(self, name: str) -> list[Any]:
        """Return a list, not to be changed; empty where the field is absent or no list."""
        known = self._sequences.get(name)
        if known is not None:
            return known
        value = self.raw(name)
        if not isinstance(value, (list, tuple)):
            value = ()
        if len(value) > MAX_LIST:
            raise InputError(f"{self.path}.{name}", "entries", most=MAX_LIST)
        self._sequences[name] = list(value)
        return self._sequences[name]

    def integers(self, name: str, minimum: int = 0) -> list[int]:
        """Return a list of whole numbers."""
        return [self.whole(name, v, minimum) for v in self.sequence(name)]

    def section(self, name: str) -> Reader | None:
        """Return a reader of an object inside, or None where there is none."""
        value = self.raw(name)
        return Reader(value, path=f"{self.path}.{name}") if isinstance(value, Mapping) else None
