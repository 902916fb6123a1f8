"""Which cards and which split serve DeepSeek-R1 for 64 users within limits: two searches, timed.

Ours ranks every card of the catalog at every count; aiconfigurator 0.12.0 searches the splits of
eight cards of one kind, in one pool and disaggregated, over its own sweep of batch sizes: it takes
the limits and the lengths, but no number of users. Both in one run, one process after the other,
warm: what either keeps in memory after its first answer is kept. The peer is installed by pip into
an environment of its own; where that fails, the line says so.

Run: python benchmarks/peers/search_speed.py [--runs N] [--cache DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODEL, USERS, INPUT, OUTPUT = "deepseek-ai/DeepSeek-R1", 64, 3072, 1024
TTFT_S, TOKENS_PER_S = 5.0, 20.0
CARDS, SYSTEM, BACKEND = 8, "h200_sxm", "vllm"
PEER, PEER_RUNS = "aiconfigurator", 3


def milliseconds(run: Callable[[], object], runs: int) -> list[float]:
    """Return the time of each call."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def ours(runs: int) -> dict[str, Any]:
    """Rank the whole catalog."""
    from configurator.catalog import load_catalog
    from configurator.recommend import load_tiers, parse_request, recommend
    from configurator.recommend.search import search

    request = parse_request({
        "scenario": {
            "model": MODEL, "precision": "fp8",
            "inference": {"concurrency": USERS, "input_tokens": INPUT, "output_tokens": OUTPUT},
        },
        "ttft_s_limit": TTFT_S, "user_tokens_per_s_limit": TOKENS_PER_S,
    })  # fmt: skip
    catalog = load_catalog()
    found = search(request, catalog, load_tiers(catalog))
    first = milliseconds(lambda: recommend(request), 1)[0]
    times = milliseconds(lambda: recommend(request), runs)
    return {
        "first_ms": first, "warm_ms": statistics.median(times),
        "candidates": len(found.found.row), "cards": len(set(found.rows.card[found.found.row])),
    }  # fmt: skip


def theirs(folder: str, runs: int) -> dict[str, Any]:
    """Search the splits of one kind of card; inside the peer's own environment."""
    from aiconfigurator.cli.api import cli_default

    logging.disable(logging.CRITICAL)
    kept: list[Any] = []

    def run() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            kept.append(
                cli_default(
                    folder, CARDS, SYSTEM, backend=BACKEND, isl=INPUT, osl=OUTPUT,
                    ttft=TTFT_S * 1e3, tpot=1e3 / TOKENS_PER_S,
                )
            )  # fmt: skip

    first = milliseconds(run, 1)[0]
    times = milliseconds(run, runs)
    return {
        "first_ms": first, "warm_ms": statistics.median(times),
        "chosen": kept[-1].chosen_exp,
        "configurations": int(sum(len(table) for table in kept[-1].pareto_fronts.values())),
    }  # fmt: skip


def ask_peer(cache: Path | None) -> dict[str, Any]:
    """Return the peer's times, or why there are none."""
    sys.path[:0] = [str(HERE)]
    from registry import PEERS
    from run import CACHE, SETTINGS, environment

    from configurator.catalog import load_catalog

    peer = next(p for p in PEERS if p.name == PEER)
    try:
        python = environment(peer, cache or CACHE)
    except (subprocess.CalledProcessError, OSError) as error:
        return {"problem": f"could not be installed ({type(error).__name__})"}
    with tempfile.TemporaryDirectory() as folder:
        config = load_catalog().model_config(MODEL)
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        done = subprocess.run(
            [python, "-P", __file__, "--inside", folder],
            capture_output=True, text=True, check=False, env={**os.environ, **SETTINGS},
        )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return {"problem": f"gave no answer: {reason[:200]}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(theirs(options.inside, PEER_RUNS)))
        return
    sys.path[:0] = [str(HERE.parents[1])]
    own = ours(options.runs)
    print(
        f"DeepSeek-R1, {USERS} users, {TTFT_S:g} s to the first token, {TOKENS_PER_S:g} tokens/s "
        f"each:\nours, {own['cards']} cards of the catalog, {own['candidates']:,} candidates "
        f"ranked: {own['warm_ms']:.1f} ms warm"
    )
    peer = ask_peer(options.cache)
    name = f"aiconfigurator 0.12.0, one card ({CARDS} × {SYSTEM}, {BACKEND})"
    if "problem" in peer:
        print(f"{name}: {peer['problem']}")
        return
    print(
        f"{name}: {peer['warm_ms']:,.0f} ms warm (first answer {peer['first_ms']:,.0f} ms), "
        f"{peer['warm_ms'] / own['warm_ms']:,.0f} times as long"
    )


if __name__ == "__main__":
    main()
