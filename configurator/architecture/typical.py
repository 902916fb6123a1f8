"""A model of which only the size is known."""

from __future__ import annotations

from dataclasses import replace

from configurator.architecture.build import read_architecture
from configurator.architecture.model import Architecture
from configurator.errors import InputError

# Llama 3 8B, 70B and 405B: 128, 102 and 130; Qwen3 14B and 32B: 128 and 80.
WIDTH_PER_LAYER = 110
KV_HEADS = 8


def typical_architecture(parameters_b: float) -> Architecture:
    """Return a Llama-like model of about the given size.

    Shaped as Llama 3 and Qwen3 are: width about 110 times the depth, 8 key-value heads, heads and
    layers in numbers that 8 cards and 4 stages divide, a vocabulary of 128,000, shared with the
    head in small models. The MLP width is then set so that the parameter count meets the size.

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
    wide = (target / (12 / WIDTH_PER_LAYER)) ** (1 / 3)
    head = 128 if wide >= 2048 else 64
    hidden = max(1024, round(wide / (8 * head)) * 8 * head)
    layers = max(4, round(hidden / WIDTH_PER_LAYER / 4) * 4)
    vocab = 128_000 if parameters_b >= 1 else 32_000
    tied = parameters_b < 4
    attention = 2 * hidden * hidden + 2 * hidden * KV_HEADS * head
    ffn = (target - (1 if tied else 2) * vocab * hidden) / layers - attention
    dimensions = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // head,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": max(256, round(ffn / (3 * hidden) / 64) * 64),
    }
    config = {
        "model_type": "llama",
        "head_dim": head,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 131_072,
        "torch_dtype": "bfloat16",
        **dimensions,
    }
    assumption = ("typical_architecture", {"parameters_b": parameters_b, **dimensions})
    return replace(read_architecture(config, f"{parameters_b:g}B"), assumptions=(assumption,))
