"""How many users a deployment carries: its speed as the load grows, and where limits break.

The split of the cards, the memory and the speed are those of one estimate of the same scenario;
only the number of requests at once is an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configurator.architecture import Architecture
from configurator.device import Device
from configurator.errors import InputError
from configurator.estimate import architecture_of, device_of, mtp_by_default
from configurator.memory.kv_cache import resolve_kv_precision
from configurator.memory.serving import ServingMemory, serving_memory
from configurator.memory.weights import resolve_precision
from configurator.parallelism import Split, choose_split
from configurator.performance.coefficients import (
    FAMILIES,
    coefficients,
    interval,
    precision_class,
)
from configurator.performance.serving import HELD_OUTPUT, closed_loop, make_plan
from configurator.performance.workload import workload
from configurator.scenario import MAX_SEQUENCES, Scenario

Floats = NDArray[np.float64]
# Up to this many users every number is tried; beyond, steps on a logarithmic scale and then the
# numbers between the two steps that the answer lies between.
EVERY = 1024
STEPS = 512


@dataclass(frozen=True)
class Ends:
    """A quantity at each number of users, with its 90 % interval."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Load:
    """Speed of one deployment at growing numbers of requests at once.

    Attributes:
        users: Requests at once over the whole deployment.
        ttft_s: Seconds to the first token.
        tokens_per_s: Tokens a second that each user sees: 1 / time per output token.
        output_tokens_per_s: Tokens a second of the whole deployment.
    """

    users: NDArray[np.int64]
    ttft_s: Ends
    tokens_per_s: Ends
    output_tokens_per_s: Ends

    def holds(self, ttft_s: float | None, tokens_per_s: float | None) -> NDArray[np.bool_]:
        """Return where the middle of the estimate keeps the limits that are set."""
        kept = np.ones(len(self.users), dtype=bool)
        if ttft_s is not None:
            kept &= self.ttft_s.value <= ttft_s
        if tokens_per_s is not None:
            kept &= self.tokens_per_s.value >= tokens_per_s
        return kept


@dataclass(frozen=True)
class _Deployment:
    """A serving scenario on its cards, resolved once."""

    scenario: Scenario
    arch: Architecture
    device: Device
    split: Split
    precision: str
    kv_precision: str

    def memory(self, users: int) -> ServingMemory:
        """Memory with so many requests at once."""
        split = self.split
        inference = self.scenario.serving.model_copy(update={"concurrency": users})
        return serving_memory(
            self.arch, self.precision, self.kv_precision, self.scenario.engine, inference,
            self.device.memory_bytes, split.tensor, split.pipeline, split.expert, split.data,
            with_mtp=mtp_by_default(self.arch, self.scenario.engine),
        )  # fmt: skip

    def fits(self, users: int) -> bool:
        """Whether so many requests at once have room."""
        held = self.memory(users)
        return bool(held.required <= held.budget)


def _deployment(scenario: Scenario) -> _Deployment:
    if scenario.hardware is None:
        raise InputError("hardware", "is required for a load; name a gpu and a gpu_count")
    if scenario.is_training:
        raise InputError("task", "must be inference: training has no users", scenario.task)
    arch = architecture_of(scenario)
    device = device_of(scenario.hardware.gpu)
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    kv_precision = resolve_kv_precision(
        scenario.kv_cache_precision, scenario.engine, precision, arch.native_precision,
        arch.quantization,
    )  # fmt: skip
    split = choose_split(scenario, arch, int(device.domain_size))
    return _Deployment(scenario, arch, device, split, precision, kv_precision)


def load(scenario: Scenario, users: Sequence[int] | NDArray[np.int64]) -> Load:
    """Return the speed of a scenario's cards at each number of requests at once, in one call.

    Args:
        scenario: Serving, with hardware; its own concurrency only sets what the cache holds.
        users: Numbers from 1 on.

    Raises:
        InputError: No hardware, training, or a split that is not legal.
    """
    return _load(_deployment(scenario), np.asarray(users, dtype=np.int64))


def _load(here: _Deployment, users: NDArray[np.int64]) -> Load:
    scenario, arch, device, split = here.scenario, here.arch, here.device, here.split
    engine, inference = scenario.engine, scenario.serving
    family = FAMILIES[engine]
    quantization = arch.quantization
    own = quantization is not None and quantization.precision == here.precision
    method = quantization.method if own and quantization is not None else None
    plan = make_plan(
        arch, here.precision, engine, inference, device, split.tensor, split.pipeline,
        split.expert, split.data,
    )  # fmt: skip
    room = int(here.memory(inference.concurrency).capacity_tokens) / split.data
    out = closed_loop(
        workload(arch, here.precision, here.kv_precision, engine), plan,
        coefficients(family, engine, precision_class(here.precision, method), device),
        users.astype(float), float(inference.input_tokens), float(inference.output_tokens), room,
        HELD_OUTPUT.get(engine, 0.5), float(inference.max_num_seqs or 1e9),
    )  # fmt: skip

    def ends(name: str, inverse: bool = False) -> Ends:
        low, high = interval(family, engine, name, device, arch)
        values: Any = np.broadcast_to(np.asarray(out[name], dtype=float), users.shape)
        if inverse:
            return Ends(1.0 / values, 1.0 / (values * high), 1.0 / (values * low))
        return Ends(values, values * low, values * high)

    return Load(
        users, ends("ttft_s"), ends("tpot_s", inverse=True), ends("output_tokens_per_s")
    )  # fmt: skip


def _memory_users(here: _Deployment, most: int) -> int:
    slots = here.scenario.serving.max_num_seqs
    if slots is not None:  # what is beyond them waits, whatever room there is
        most = min(most, slots * here.split.data)
    if not here.fits(1):
        return 0
    low, high = 1, 2
    while high <= most and here.fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if here.fits(middle) else (low, middle)
    return low


@lru_cache(maxsize=512)
def _users_within(text: str, ttft_s: float | None, tokens_per_s: float | None) -> int:
    scenario = Scenario.model_validate_json(text)
    here = _deployment(scenario)
    most = _memory_users(here, MAX_SEQUENCES)
    if most == 0 or (ttft_s is None and tokens_per_s is None):
        return most
    if most <= EVERY:
        users = np.arange(1, most + 1)
    else:
        users = np.unique(np.geomspace(1, most, STEPS).round().astype(np.int64))
    place = _first_broken(_load(here, users), ttft_s, tokens_per_s)
    if place == len(users):
        return most
    if place == 0:
        return 0
    low, high = int(users[place - 1]), int(users[place])
    if high - low > 1:
        between = np.arange(low, high)
        low = int(between[_first_broken(_load(here, between), ttft_s, tokens_per_s) - 1])
    return low


def _first_broken(loaded: Load, ttft_s: float | None, tokens_per_s: float | None) -> int:
    """Return the place of the first number of users that breaks a limit, else how many there are.

    Both times grow with the load, so what holds for a number of users holds below it.
    """
    kept = loaded.holds(ttft_s, tokens_per_s)
    return len(kept) if kept.all() else int(np.argmin(kept))


def users_within(
    scenario: Scenario, ttft_s: float | None = None, tokens_per_s: float | None = None
) -> int:
    """Return how many requests at once a scenario's cards carry within limits, 0 if not even one.

    Each has room in the cache at its full length, waits at most ``ttft_s`` for its first token, and
    then sees at least ``tokens_per_s``; the middle of the estimate counts, as in a recommendation.

    Args:
        scenario: Serving, with hardware; its own concurrency does not matter.
        ttft_s: Most seconds to the first token; None: no limit.
        tokens_per_s: Least tokens a second for each user; None: no limit.

    Raises:
        InputError: No hardware, training, or a split that is not legal.
    """
    if scenario.inference is not None:
        one = scenario.inference.model_copy(update={"concurrency": 1})
        scenario = scenario.model_copy(update={"inference": one})
    return _users_within(scenario.model_dump_json(exclude_none=True), ttft_s, tokens_per_s)
