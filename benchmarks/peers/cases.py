"""Which cases a peer is asked, what it is handed with them, and our own answers to the same."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from registry import Peer

from configurator.errors import InputError
from configurator.estimate import architecture_of, device_of, estimate
from configurator.memory.weights import resolve_precision, weight_table
from configurator.scenario import ConfigModel, parse_scenario
from configurator.units import GIB

SEED = 20261125
# How a checkpoint of such weights lists them in its header.
DTYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where there is none."""
    node: Any = tree
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def question(case: Mapping[str, Any], asked: Sequence[str]) -> dict[str, Any] | None:
    """Return the line an adapter reads; None for a model that is not given by its config.

    The hints stand in for what a peer would read from the Hub: parameters, checkpoint bytes and
    parameters by dtype as the safetensors header lists them (packed tensors by their bytes).
    """
    scenario = parse_scenario(case["scenario"])
    if not isinstance(scenario.model, ConfigModel) or scenario.hardware is None:
        return None
    arch, device = architecture_of(scenario), device_of(scenario.hardware.gpu)
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    size = weight_table(arch, precision, "transformers").total
    if precision == "fp8":  # what stays at 16 bits, and the rest
        wide = max(0, round(size) - arch.parameters)
        header = {"F8_E4M3": arch.parameters - wide, "BF16": wide}
    elif precision in DTYPES:
        header = {DTYPES[precision]: arch.parameters}
    elif precision in ("mxfp4", "nvfp4"):
        header = {"U8": round(size)}
    else:
        header = {"I32": round(size / 4)}
    return {
        "id": case["id"],
        "scenario": case["scenario"],
        "gpu": {"id": device.id, "name": device.name, "memory_gib": device.memory_bytes / GIB},
        "hints": {
            "asked": list(asked),
            "precision": precision,
            "parameters": arch.parameters,
            "checkpoint_bytes": round(size),
            "header": header,
        },
    }


def _drawn(line: Mapping[str, Any], peer: Peer) -> bool:
    """Whether a case of speed is of the kind that the peer claims to answer."""
    scenario = line["scenario"]
    return (
        (not peer.speed_gpus or line["gpu"]["id"] in peer.speed_gpus)
        and (not peer.speed_engines or scenario["engine"] in peer.speed_engines)
        and (not peer.one_user or scenario["inference"]["concurrency"] == 1)
    )


def chosen(cases: Sequence[Mapping[str, Any]], peer: Peer, most: int) -> list[dict[str, Any]]:
    """Return the questions for a peer: every memory case and its cases of speed.

    A slow peer gets at most ``most`` cases of speed, drawn at random with a fixed seed.
    """
    memory, speed = [], []
    for case in cases:
        asked = [q for q in case["measured"] if q in peer.quantities]
        if not asked:
            continue
        line = question(case, asked)
        if line is None:
            continue
        if not asked[0].startswith("performance."):
            memory.append(line)
        elif _drawn(line, peer):
            speed.append(line)
    if peer.slow and len(speed) > most:
        speed = random.Random(SEED).sample(speed, most)
    return memory + speed


def ours(
    cases: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Answer every case; return the values by case and quantity, and the seconds by case."""
    answers: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    for name, case in cases.items():
        start = time.perf_counter()
        try:
            found = estimate(parse_scenario(case["scenario"]))
        except InputError:
            continue
        seconds[name] = time.perf_counter() - start
        tree = found.to_dict()
        values = {q: value_at(tree, q) for q in case["measured"]}
        answers[name] = {q: float(v) for q, v in values.items() if v is not None}
    return answers, seconds
