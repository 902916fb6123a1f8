"""Scenarios of the techniques and their code, and how their answers are read."""

from __future__ import annotations

import ast
import io
import re
import shlex
import subprocess
import tokenize

import yaml

from configurator.estimate import estimate
from configurator.scenario import parse_scenario
from configurator.techniques import changed, techniques

SERVE = {
    "model": "Qwen/Qwen3-8B", "precision": "bf16", "engine": "vllm",
    "inference": {"concurrency": 10, "input_tokens": 2048, "output_tokens": 512},
    "hardware": {"gpu": "h100-sxm", "gpu_count": 1},
}  # fmt: skip
TRAIN = {
    "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "precision": "bf16", "engine": "transformers",
    "training": {"method": "full", "sequence_length": 4096, "micro_batch_size": 2},
    "hardware": {"gpu": "b200-sxm", "gpu_count": 4},
}  # fmt: skip
R1 = {
    "model": "deepseek-ai/DeepSeek-R1", "precision": "fp8", "engine": "sglang",
    "inference": {"concurrency": 32, "input_tokens": 3072, "output_tokens": 1024},
    "hardware": {"gpu": "h200-sxm", "gpu_count": 8},
}  # fmt: skip
QLORA = {
    "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "precision": "nf4", "engine": "transformers",
    "training": {"method": "qlora", "gradient_checkpointing": True, "lora_targets": "attention"},
    "hardware": {"gpu": "rtx-4090", "gpu_count": 1},
}  # fmt: skip
PRETRAIN = {
    "model": "huggyllama/llama-65b", "task": "training", "precision": "bf16", "engine": "megatron",
    "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True,
                 "sharding": "zero1", "gradient_accumulation": 16},
    "hardware": {"gpu": "h100-sxm", "gpu_count": 64, "tensor_parallel": 8},
}  # fmt: skip
SCENARIOS = {"serve": SERVE, "train": TRAIN, "r1": R1, "qlora": QLORA, "pretrain": PRETRAIN}


def answer(raw, **changes):
    return estimate(changed(parse_scenario(raw), changes))


def one(raw, code):
    return next(t for t in techniques(parse_scenario(raw)) if t.code == code)


def words(text):
    """The last command of a script as words, comments and line breaks taken out."""
    text = text.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return shlex.split(lines[-1])


def option(text, name):
    found = words(text)
    return found[found.index(name) + 1] if name in found else None


def parses(item):
    if item.language == "python":
        compile(item.text, item.name, "exec")
        assert all(len(line) <= 100 for line in item.text.splitlines())
    elif item.language == "bash":
        subprocess.run(["bash", "-n"], input=item.text.encode(), check=True)
    else:
        assert isinstance(yaml.safe_load(item.text), dict)


def prose(item):
    """What a file says to its reader: comments and docstrings."""
    if item.language != "python":
        lines = item.text.splitlines()
        return [f" {line}".partition(" #")[2] for line in lines if not line.startswith("#!")]
    tree = ast.parse(item.text)
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef))
    tokens = tokenize.generate_tokens(io.StringIO(item.text).readline)
    said = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return said + [ast.get_docstring(node) or "" for node in nodes]


def code(item):
    """The rest of it."""
    if item.language == "python":
        tokens = tokenize.generate_tokens(io.StringIO(item.text).readline)
        words = (tokenize.COMMENT, tokenize.STRING)
        return [token.string for token in tokens if token.type not in words]
    if item.language == "bash":
        return [line for line in item.text.splitlines() if not line.startswith("# ")]
    return yaml.safe_load(item.text)


def reads_alike(english, chinese):
    """The same code, nothing of what it says left in English."""
    assert [(i.name, i.language, code(i)) for i in english] == [
        (i.name, i.language, code(i)) for i in chinese
    ]
    for own, other in zip(english, chinese):
        parses(own)
        parses(other)
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", own.text), own.name
        for line in prose(other):
            plain = line.replace("NVIDIA Model Optimizer", "")
            assert not re.search(r"[A-Za-z']{2,}( [A-Za-z']{2,}){2,}", plain), line
