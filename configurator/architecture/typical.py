"""A model of which only the size is known."""

from __future__ import annotations

from dataclasses import replace

from configurator.architecture.build import read_architecture
from configurator.architecture.model import Architecture
from configurator.errors import InputError


def typical_architecture(parameters_b: float) -> Architecture:
    """Return a Llama-like model of about the given size.

    Depth and width follow the published Llama and Qwen models between which the size lies
    (hidden ≈ 110 × layers); the MLP width is then set so that the parameter count meets the size.

    Args:
        parameters_b: Size in billions of parameters, 0.1 to 2,000.

    Raises:
        InputError: The size is no number in that range.
    """
    if (
        isinstance(parameters_b, bool)
        or not isinstance(parameters_b, (int, float))
        or not 0.1 <= parameters_b <= 2_000
    ):
        raise InputError("model.parameters_b", "billions", parameters_b)
    target = parameters_b * 1e9
    vocab = 32_000 if parameters_b < 100 else 128_000
    hidden = max(512, round((target / (12 / 110)) ** (1 / 3) / 128) * 128)
    layers = max(4, round(hidden / 110))
    heads = max(4, hidden // 128)
    kv_heads = heads if parameters_b < 30 else 8
    while heads % kv_heads:
        kv_heads -= 1
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * (hidden // heads)
    ffn = (target - 2 * vocab * hidden) / layers - attention
    dimensions = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": max(256, round(ffn / (3 * hidden) / 64) * 64),
    }
    config = {
        "model_type": "llama",
        "head_dim": hidden // heads,
        "vocab_size": vocab,
        "max_position_embeddings": 131_072,
        "torch_dtype": "bfloat16",
        **dimensions,
    }
    assumption = ("typical_architecture", {"parameters_b": parameters_b, **dimensions})
    return replace(read_architecture(config, f"{parameters_b:g}B"), assumptions=(assumption,))
