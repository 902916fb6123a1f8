"""How many users a deployment carries: its speed as the load grows, and where limits break.

The split of the cards, the memory and the speed are those of one estimate of the same scenario;
only the number of requests at once is an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from configurator.errors import InputError
from configurator.estimate import Estimate, estimate, held_memory
from configurator.memory.serving import ServingMemory
from configurator.performance import serving_speed
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


def _deployment(scenario: Scenario) -> Estimate:
    if scenario.is_training:
        raise InputError("task", "users_of_training", scenario.task)
    return estimate(scenario)


def _held(here: Estimate, users: float | Floats) -> ServingMemory:
    """Return the memory of a deployment at a number of requests at once, or at many."""
    scenario, split = here.scenario, here.split
    return held_memory(
        scenario, here.architecture, here.device, split.tensor, split.pipeline,
        split.expert, split.data, scenario.serving.model_copy(update={"concurrency": users}),
    )  # fmt: skip


def _fits(here: Estimate, users: int) -> bool:
    """Whether so many requests at once have room."""
    held = _held(here, users)
    return bool(held.required <= held.budget)


def load(scenario: Scenario, users: Sequence[int] | NDArray[np.int64]) -> Load:
    """Return the speed of a scenario's cards at each number of requests at once, in one call.

    Args:
        scenario: Serving, with hardware; its own concurrency does not count.
        users: Numbers from 1 on.

    Raises:
        InputError: No hardware, training, or a split that is not legal.
    """
    return _load(_deployment(scenario), np.asarray(users, dtype=np.int64))


def _load(here: Estimate, users: NDArray[np.int64]) -> Load:
    scenario, split, kv = here.scenario, here.split, here.kv
    assert kv is not None
    held = _held(here, users.astype(float))
    speed = serving_speed(
        here.architecture, here.precision, kv.precision, scenario.engine, scenario.serving,
        here.device, split.tensor, split.pipeline, split.expert, split.data,
        concurrency=users.astype(float), kv_capacity_tokens=np.floor(held.capacity_tokens),
        host_share=0.0 if held.host_experts else held.host_share,
        host_expert_share=held.host_share,
    )  # fmt: skip
    return Load(
        users,
        Ends(speed.ttft_s, speed.ttft_s_low, speed.ttft_s_high),
        Ends(1.0 / speed.tpot_s, 1.0 / speed.tpot_s_high, 1.0 / speed.tpot_s_low),
        Ends(speed.output_tokens_per_s, speed.output_tokens_per_s_low,
             speed.output_tokens_per_s_high),
    )  # fmt: skip


def _memory_users(here: Estimate, most: int) -> int:
    slots = here.scenario.serving.max_num_seqs
    if slots is not None:  # what is beyond them waits, whatever room there is
        most = min(most, slots * here.split.data)
    if not _fits(here, 1):
        return 0
    low, high = 1, 2
    while high <= most and _fits(here, high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(here, middle) else (low, middle)
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
