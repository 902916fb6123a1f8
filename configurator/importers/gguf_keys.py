"""A GGUF header to be asked: numbers by key, checked, and which tensors its layers have."""

from __future__ import annotations

import re

from configurator.errors import InputError
from configurator.importers.gguf_header import Gguf
from configurator.importers.shared import FILE

# llama.cpp's name of an architecture (gguf.constants.MODEL_ARCH_NAMES) → config.json's model_type.
MODEL_TYPES = {
    "llama": "llama", "llama4": "llama4", "mistral3": "mistral", "mistral4": "mistral4",
    "smollm3": "smollm3", "seed_oss": "seed_oss", "baichuan": "baichuan", "orion": "orion",
    "internlm2": "internlm2", "minicpm": "minicpm", "minicpm3": "minicpm3", "exaone": "exaone",
    "exaone4": "exaone4", "granite": "granite", "granitemoe": "granitemoe",
    "granitehybrid": "granitemoehybrid", "olmo": "olmo", "olmo2": "olmo2", "olmoe": "olmoe",
    "command-r": "cohere", "cohere2": "cohere2", "stablelm": "stablelm", "nemotron": "nemotron",
    "nemotron_h": "nemotron_h", "nemotron_h_moe": "nemotron_h",
    "qwen": "qwen", "qwen2": "qwen2", "qwen2vl": "qwen2", "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3", "qwen3vl": "qwen3", "qwen3moe": "qwen3_moe", "qwen3vlmoe": "qwen3_moe",
    "qwen3next": "qwen3_next", "qwen35": "qwen3_5", "qwen35moe": "qwen3_5_moe",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text", "gpt2": "gpt2", "gptneox": "gpt_neox", "gptj": "gptj",
    "starcoder": "gpt_bigcode", "starcoder2": "starcoder2", "bloom": "bloom", "mpt": "mpt",
    "falcon": "falcon", "phi2": "phi", "phi3": "phi3", "phimoe": "phimoe", "dbrx": "dbrx",
    "chatglm": "chatglm", "glm4": "glm4", "glm4moe": "glm4_moe", "glm-dsa": "glm_moe_dsa",
    "deepseek": "deepseek", "deepseek2": "deepseek_v2", "kimi-linear": "kimi_linear",
    "gpt-oss": "gpt_oss", "ernie4_5": "ernie4_5", "ernie4_5-moe": "ernie4_5_moe",
    "hunyuan-moe": "hunyuan_v1_moe", "hunyuan-dense": "hunyuan_v1_dense", "dots1": "dots1",
    "bailingmoe": "bailing_moe", "bailingmoe2": "bailing_moe", "minimax-m2": "minimax_m2",
    "afmoe": "afmoe", "lfm2": "lfm2", "lfm2moe": "lfm2_moe",
}  # fmt: skip
# Layers of these differ in heads or MLP width, which the config says in another way.
UNEVEN = ("gemma3n", "gemma4", "granitehybrid", "nemotron_h", "nemotron_h_moe", "kimi-linear",
          "lfm2", "lfm2moe", "qwen3next", "qwen35", "qwen35moe")  # fmt: skip


class Header:
    """A GGUF header of a known architecture."""

    def __init__(self, gguf: Gguf) -> None:
        self.meta, self.tensors = gguf.meta, gguf.tensors
        kind = self.meta.get("general.type", "model")
        if kind != "model":
            raise InputError(FILE, "no_language_model", kind)
        arch = self.meta.get("general.architecture")
        if not isinstance(arch, str) or arch not in MODEL_TYPES:
            raise InputError(
                f"{FILE}.general.architecture",
                "gguf_architecture",
                arch if arch is not None else "(missing)",
            )
        self.arch: str = arch
        if not self.tensors:
            raise InputError(FILE, "no_tensors")
        self.blocks: dict[int, set[str]] = {}
        for name in self.tensors:
            match = re.fullmatch(r"blk\.(\d{1,4})\.(.+)", name)
            if match:
                self.blocks.setdefault(int(match[1]), set()).add(match[2])

    def numbers(self, key: str) -> list[int]:
        """Return a key's whole numbers, one or one a layer; empty where it is absent."""
        value = self.meta.get(f"{self.arch}.{key}")
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(v) is not int or not 0 <= v < 1 << 31 for v in values):
            raise InputError(f"{FILE}.{self.arch}.{key}", "whole", value)
        return values

    def number(self, key: str) -> int:
        """Return a key's number; of a list the largest; 0 where it is absent."""
        values = self.numbers(key)
        if len({v for v in values if v}) > 1 and self.arch not in UNEVEN:
            raise InputError(f"{FILE}.{self.arch}.{key}", "uneven", values)
        return max(values, default=0)

    def need(self, key: str) -> int:
        """Return a key's number, which must be there."""
        value = self.number(key)
        if not value:
            raise InputError(f"{FILE}.{self.arch}.{key}", "header_missing")
        return value

    def has(self, tensor: str) -> bool:
        """Whether any layer has a tensor whose name begins so."""
        return any(n.startswith(tensor) for names in self.blocks.values() for n in names)

    def width(self, tensor: str) -> int:
        """Return the output width of a layer's matrix; 0 where no layer has it."""
        for index in sorted(self.blocks):
            found = self.tensors.get(f"blk.{index}.{tensor}.weight")
            if found is not None and len(found.shape) >= 2:
                return found.shape[-2]
        return 0
