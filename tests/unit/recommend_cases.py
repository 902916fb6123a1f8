"""Two scenarios, and the ranking that is asked for them."""

from __future__ import annotations

from configurator.catalog import load_catalog
from configurator.recommend import parse_request, recommend

CATALOG = load_catalog()
SEVEN = {
    "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "precision": "fp16",
    "inference": {"concurrency": 8, "input_tokens": 2048, "output_tokens": 512},
}  # fmt: skip
R1 = {
    "model": "deepseek-ai/DeepSeek-R1", "precision": "fp8",
    "inference": {"concurrency": 64, "input_tokens": 3072, "output_tokens": 1024},
}  # fmt: skip


def ask(scenario=SEVEN, **limits):
    return recommend(parse_request({"scenario": scenario, **limits}))


def cards(found, tier):
    return [plan.gpu for plan in found.tiers[tier]]
