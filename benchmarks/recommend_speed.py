"""How long one recommendation takes: the whole catalog, every count to 1,024, every legal split.

Run: ``python benchmarks/recommend_speed.py [--json]``. Times are of one process on this machine,
warm (catalog, candidate arrays and the model's weight table are made once a process).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

RUNS = 30
QUESTIONS: dict[str, dict[str, Any]] = {
    "7B, one user": {
        "scenario": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "precision": "fp16"},
    },
    "DeepSeek-R1, 64 users, latency limits": {
        "scenario": {
            "model": "deepseek-ai/DeepSeek-R1", "precision": "fp8",
            "inference": {"concurrency": 64, "input_tokens": 3072, "output_tokens": 1024},
        },
        "ttft_s_limit": 5, "user_tokens_per_s_limit": 20,
    },
    "65B training": {
        "scenario": {
            "model": "huggyllama/llama-65b", "precision": "bf16", "task": "training",
            "engine": "megatron",
            "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True},
        },
    },
}  # fmt: skip


def milliseconds(run: Callable[[], object], runs: int = RUNS) -> dict[str, float]:
    """Median and 90th percentile of a call."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    return {
        "median_ms": round(statistics.median(times), 2),
        "p90_ms": round(times[int(0.9 * (len(times) - 1))], 2),
    }


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    start = time.perf_counter()
    from configurator.catalog import load_catalog
    from configurator.recommend import load_tiers, parse_request, recommend
    from configurator.recommend.search import search

    catalog = load_catalog()
    tiers = load_tiers(catalog)
    first = recommend(parse_request(next(iter(QUESTIONS.values()))))
    cold = (time.perf_counter() - start) * 1e3
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "first_recommendation_with_imports_ms": round(cold, 1),
        "questions": {},
    }
    assert first.plans
    for name, question in QUESTIONS.items():
        request = parse_request(question)
        found = search(request, catalog, tiers)
        answer = recommend(request)
        report["questions"][name] = {
            "candidates": len(found.found.row),
            "feasible": int(found.feasible.sum()),
            "plans": len(answer.plans),
            "ranked": milliseconds(lambda r=request: recommend(r)),
            "ranked_and_as_json": milliseconds(lambda r=request: recommend(r).to_dict()),
        }
    if as_json:
        print(json.dumps(report))
        return
    print(f"first recommendation, imports and catalog included: {cold:.0f} ms")
    for name, numbers in report["questions"].items():
        print(
            f"{name}: {numbers['candidates']:,} candidates, {numbers['feasible']:,} feasible; "
            f"ranked in {numbers['ranked']['median_ms']} ms "
            f"(90 % under {numbers['ranked']['p90_ms']}), "
            f"with every estimate, bill and link as JSON "
            f"{numbers['ranked_and_as_json']['median_ms']} ms"
        )


if __name__ == "__main__":
    main()
