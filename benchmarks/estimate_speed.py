"""How long one estimate takes, as a multiple of parsing the same scenario's JSON.

What rests on it too: reading a config.json, and how many users are within limits, as multiples of
one estimate.

Run: python benchmarks/estimate_speed.py
"""

from __future__ import annotations

import itertools
import json
import statistics
import time

from configurator.architecture import read_architecture
from configurator.capacity import users_within
from configurator.catalog import load_catalog
from configurator.estimate import estimate
from configurator.scenario import parse_scenario

SCENARIOS = {
    "R1 distill 7B, vLLM, RTX 4090": {
        "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "precision": "bf16",
        "inference": {"concurrency": 8, "input_tokens": 2048, "output_tokens": 512},
        "hardware": {"gpu": "rtx-4090", "gpu_count": 1},
    },
    "DeepSeek-R1 671B, vLLM, 8 × H200": {
        "model": "deepseek-ai/DeepSeek-R1",
        "inference": {"concurrency": 64, "input_tokens": 2048, "output_tokens": 1024},
        "hardware": {"gpu": "h200-sxm", "gpu_count": 8},
    },
    "Llama 8B, full fine-tuning, 8 × H100": {
        "model": "meta-llama/Llama-3.1-8B-Instruct", "task": "fine_tuning", "engine": "fsdp",
        "training": {"sharding": "fsdp", "gradient_checkpointing": True},
        "hardware": {"gpu": "h100-sxm", "gpu_count": 8},
    },
}  # fmt: skip
RUNS = 300


def timed(action, runs=RUNS):
    """Return the median seconds of one call."""
    action()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    for name, data in SCENARIOS.items():
        text = json.dumps(data)
        parse = timed(lambda text=text: parse_scenario(json.loads(text)))
        scenario = parse_scenario(data)
        one = timed(lambda scenario=scenario: estimate(scenario))
        print(
            f"{name}: estimate {1e3 * one:.3f} ms, parse {1e3 * parse:.3f} ms, "
            f"ratio {one / parse:.1f}"
        )
        if scenario.is_training:
            continue
        config = load_catalog().model_config(scenario.model)
        reading = timed(lambda config=config: read_architecture(config))
        pace = itertools.count(1)  # another question each time: answers are kept
        users = timed(lambda s=scenario, n=pace: users_within(s, 60.0, 1 / next(n)), 20)
        print(f"  config read: {reading / one:.1f} estimates; users within: {users / one:.1f}")


if __name__ == "__main__":
    main()
