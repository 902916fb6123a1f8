"""Jobs that run on this machine against their estimates, and a server's own figures. No Streamlit
here.
"""  # noqa: D205

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from configurator import numbers
from configurator.app import views
from configurator.app.charts import Mark, Part
from configurator.app.machine_view import here, machine_say
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.gpu_readers import GpuReading
from configurator.scenario import CustomGpu, Scenario, parse_scenario
from configurator.units import GIB
from configurator.words import say, sentences

POOL_ENGINES = ("vllm", "sglang", "tensorrt_llm")  # they take a share of the card at start
NOISE_GIB = 0.5  # less than this held by others explains nothing


# --------------------------------------------------------------------------- a running job


@dataclass(frozen=True)
class Job:
    """A serving or training job that runs here, as its command line states it.

    Attributes:
        stated: The partial scenario of the command line.
        held: GPU index → (GiB that the job holds there, GiB that others hold there); the first is
            ``None`` where the driver does not report it.
        problem: Why there is no estimate: a key of ``app.machine.job``.
    """

    pids: tuple[int, ...]
    owner: str | None
    command: tuple[str, ...] | None
    port: int | None
    stated: Mapping[str, Any]
    held: Mapping[int, tuple[float | None, float | None]]
    answer: Estimate | None = None
    problem: str = ""
    gpu: str | CustomGpu | None = field(default=None)

    @property
    def actual_gib(self) -> float | None:
        """What the job holds on its fullest card; ``None`` if not reported."""
        known = [own for own, _ in self.held.values() if own is not None]
        return max(known) if known else None

    @property
    def others_gib(self) -> float:
        """What others hold on the job's fullest card."""
        return max((other or 0.0 for _, other in self.held.values()), default=0.0)


def jobs(gpus: Sequence[GpuReading]) -> list[Job]:
    """Return the jobs whose command line says what they run; workers of one job together."""
    found: dict[str, list[tuple[GpuReading, Any]]] = {}
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.scenario is not None:
                key = json.dumps([process.port, process.owner, process.scenario], sort_keys=True)
                found.setdefault(key, []).append((gpu, process))
    return [_job(members) for members in found.values()]


def _job(members: Sequence[tuple[GpuReading, Any]]) -> Job:
    cards = {id(gpu): gpu for gpu, _ in members}
    held: dict[int, tuple[float | None, float | None]] = {}
    for gpu in cards.values():
        mine = [p.memory_bytes for g, p in members if g is gpu and p.memory_bytes is not None]
        own = sum(mine) / GIB if mine else None
        used = gpu.memory_used_bytes
        other = None if own is None or used is None else max(0.0, used / GIB - own)
        held[gpu.index] = (own, other)
    first = members[0][1]
    job = Job(
        tuple(dict.fromkeys(p.pid for _, p in members)),
        first.owner, first.command, first.port, first.scenario, held,
    )  # fmt: skip
    named = here(members[0][0])
    if named is None:
        return replace(job, problem="no_card")
    model = known_model(first.scenario.get("model"))
    if model is None:
        return replace(job, problem="no_model", gpu=named)
    try:
        return replace(job, gpu=named, answer=estimate(stated_scenario(job, model, named)))
    except InputError:
        return replace(job, problem="no_estimate", gpu=named)


def known_model(name: str | None) -> str | None:
    """Return the catalog's id of a model as a command line names it: an id or a path to it."""
    if not name:
        return None
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)", name)
    parts = re.split(r"[/\\]", name.rstrip("/\\"))
    tries = [f"{cached[1]}/{cached[2]}"] if cached else []
    for text in [*tries, name, "/".join(parts[-2:]), parts[-1]]:
        try:
            return load_catalog().model(text).id
        except InputError:
            continue
    return None


def stated_scenario(job: Job, model: str, gpu: str | CustomGpu) -> Scenario:
    """Return the job's question in full: what is stated, its cards, defaults for the rest.

    Raises:
        InputError: What is stated contradicts itself.
    """
    hardware = {**job.stated.get("hardware", {}), "gpu": gpu}
    hardware["gpu_count"] = max(int(hardware.get("gpu_count", 1)), len(job.held))
    return parse_scenario({**job.stated, "version": 1, "model": model, "hardware": hardware})


# What decides a job's memory; a command line that leaves it out leaves it to a default.
_DECIDES = {
    True: ("method", "micro_batch_size", "sequence_length", "optimizer"),
    False: ("max_model_len", "gpu_memory_utilization"),
}


def assumed(job: Job) -> tuple[str, ...]:
    """Return the fields that decide the memory and that the command line does not state."""
    training = job.stated.get("task", "inference") != "inference"
    stated = job.stated.get("training" if training else "inference", {})
    names = _DECIDES[training]
    if not training and job.stated.get("engine") not in POOL_ENGINES:
        names = ("concurrency", "input_tokens", "output_tokens")
    return tuple(name for name in names if name not in stated)


@dataclass(frozen=True)
class Compared:
    """A job's estimate beside what it holds.

    Attributes:
        rows: Part of the estimate and its size in words, the sum last.
        parts, mark, edge: The same as a meter: predicted parts, the actual line, the card's edge.
        sentence: The difference and its most likely reason.
    """

    rows: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]
    mark: Mark
    edge: Mark
    sentence: str


_PARTS = (*views.PARTS, "spare_pool")


def compare(job: Job, tongue: str) -> Compared | None:
    """Return predicted beside actual; ``None`` without an estimate or without a reading."""
    answer, actual = job.answer, job.actual_gib
    if answer is None or actual is None:
        return None
    memory = answer.memory
    parts, rows = [], []
    for kind in _PARTS:
        size = float(getattr(memory, f"{kind}_gib"))
        if size < 0.005:
            continue
        name = (
            machine_say(kind, tongue) if kind == "spare_pool" else say(f"app.part.{kind}", tongue)
        )
        text = numbers.gib(size, tongue)
        colour = "headroom" if kind == "spare_pool" else kind
        parts.append(Part(colour, name, size, text))
        rows.append((name, text))
    rows.append((machine_say("predicted", tongue), numbers.gib(memory.total_gib, tongue)))
    rows.append((machine_say("actual", tongue), numbers.gib(actual, tongue)))
    said = numbers.gib(actual, tongue)
    card = numbers.gib(memory.capacity_gib, tongue)
    return Compared(
        tuple(rows),
        tuple(parts),
        Mark(actual, machine_say("actual_mark", tongue, gib=said)),
        Mark(memory.capacity_gib, say("app.meter.card", tongue, card=card)),
        difference(job, tongue),
    )


def difference(job: Job, tongue: str) -> str:
    """Return the difference between estimate and reading, with its most likely reason."""
    answer, actual = job.answer, job.actual_gib
    assert answer is not None
    assert actual is not None
    memory = answer.memory
    off = actual / memory.total_gib - 1
    values = {
        "predicted": numbers.gib(memory.total_gib, tongue),
        "actual": numbers.gib(actual, tongue),
        "gib": numbers.gib(abs(actual - memory.total_gib), tongue),
        "percent": numbers.percent(abs(off), tongue),
        "others": numbers.gib(job.others_gib, tongue),
        "share": numbers.percent(actual / memory.capacity_gib, tongue),
        "weights": numbers.gib(memory.weights_gib, tongue),
        "low": numbers.gib(memory.total_low_gib, tongue),
        "high": numbers.gib(memory.total_high_gib, tongue),
    }
    values["difference"] = machine_say("why.more" if off > 0 else "why.less", tongue, **values)
    text = machine_say(f"why.{_reason(job, answer, actual)}", tongue, **values)
    if job.others_gib > NOISE_GIB:
        text = sentences(tongue, text, machine_say("why.others", tongue, **values))
    return text


def _reason(job: Job, answer: Estimate, actual: float) -> str:
    memory, scenario = answer.memory, answer.scenario
    if memory.total_low_gib <= actual <= memory.total_high_gib:
        return "within"
    less = actual < memory.total_gib
    pool = scenario.engine in POOL_ENGINES
    share_stated = "gpu_memory_utilization" in job.stated.get("inference", {})
    if less and actual < memory.weights_gib + memory.framework_gib:
        return "loading"
    if pool and not share_stated:
        return "share"
    if pool:
        return "version"
    if scenario.is_training:
        return "training_less" if less else "training_more"
    return "load_less" if less else "load_more"


# --------------------------------------------------------------------------- a vLLM's own figures


def metrics_text(
    figures: Mapping[str, float | None],
    before: Mapping[str, float | None] | None,
    seconds: float,
    tongue: str,
) -> str:
    """Return a server's own figures; rates where it was read twice."""
    missing = say("app.not_reported", tongue)

    def count(name: str) -> str:
        value = figures.get(name)
        return missing if value is None else numbers.count(value, tongue)

    cache = figures.get("kv_cache_usage")
    text = machine_say(
        "metrics", tongue, running=count("requests_running"), waiting=count("requests_waiting"),
        cache=missing if cache is None else numbers.percent(cache, tongue),
    )  # fmt: skip
    out = _rate(figures, before, "generation_tokens_total", seconds)
    prompt = _rate(figures, before, "prompt_tokens_total", seconds)
    if out is None or prompt is None:
        return text
    rates = machine_say(
        "rates", tongue, out=numbers.rate(out, tongue), prompt=numbers.rate(prompt, tongue)
    )
    return sentences(tongue, text, rates)


def _rate(
    now: Mapping[str, float | None],
    before: Mapping[str, float | None] | None,
    name: str,
    seconds: float,
) -> float | None:
    """Return what a counter grew by a second; ``None`` if unknown or if it began anew."""
    end, start = now.get(name), (before or {}).get(name)
    if end is None or start is None or seconds <= 0 or end < start:
        return None
    return (end - start) / seconds
