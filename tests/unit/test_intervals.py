"""Intervals from residuals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurator.estimate import estimate
from configurator.estimate.records import Memory
from configurator.intervals import ENOUGH, FEWEST, LEAST, from_residuals, interval
from configurator.recommend import recommend
from configurator.recommend.request import parse_request
from configurator.scenario import parse_scenario

RESIDUALS = st.lists(st.floats(-0.5, 0.5), min_size=FEWEST, max_size=60)


def test_too_few_cases_say_nothing() -> None:
    assert from_residuals([0.01] * (FEWEST - 1)) is None


@given(RESIDUALS)
def test_an_interval_holds_its_share_of_the_cases(residuals: list[float]) -> None:
    ends = from_residuals(residuals)
    assert ends is not None
    low, high = ends
    assert low <= -LEAST
    assert high >= LEAST
    assert np.mean([low <= r <= high for r in residuals]) >= 0.9 - 2 / len(residuals)


def test_few_cases_get_room_for_extremes_not_seen() -> None:
    """A normal sample of eight seldom holds its own 5 % tails: nine in ten new cases must."""
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(400):
        ends = from_residuals(rng.normal(0, 0.1, FEWEST))
        assert ends is not None
        inside.append(np.mean(rng.normal(0, 0.1, 200) > ends[0]))
        inside.append(np.mean(rng.normal(0, 0.1, 200) < ends[1]))
    assert np.mean(inside) >= 0.945


def test_many_cases_speak_for_themselves() -> None:
    residuals = np.linspace(-0.1, 0.1, ENOUGH)
    assert from_residuals(residuals) == pytest.approx((-0.1, 0.1))


def test_a_maker_without_cases_has_a_wider_interval() -> None:
    for engine, task in (("vllm", "inference"), ("transformers", "training")):
        low, high = interval(engine, task, "NVIDIA")
        for vendor in ("AMD", "Intel", "custom"):
            wide = interval(engine, task, vendor)
            assert wide[0] <= low < high <= wide[1]
            assert wide != (low, high)


def test_every_question_uses_the_interval_of_its_card() -> None:
    def answer(gpu: str) -> Memory:
        asked = {"model": "Qwen/Qwen3-8B", "precision": "bf16", "engine": "vllm",
                 "hardware": {"gpu": gpu, "gpu_count": 1}}  # fmt: skip
        return estimate(parse_scenario(asked)).memory

    measured, unmeasured = answer("h200-sxm"), answer("mi300x")
    for memory, vendor in ((measured, "NVIDIA"), (unmeasured, "AMD")):
        assert memory.required_high_gib / memory.required_gib - 1 == pytest.approx(
            interval("vllm", "inference", vendor)[1]
        )
    # A card that it fits on cannot hold more than it has; what does not fit keeps its interval.
    large = parse_scenario({
        "model": "Qwen/Qwen3-8B", "task": "fine_tuning", "engine": "transformers",
        "training": {"mixed_precision": "amp_bf16"}, "hardware": {"gpu": "h100-sxm"},
    })  # fmt: skip
    beyond = estimate(large).memory
    assert beyond.fits is False
    assert beyond.total_high_gib > 1.02 * beyond.total_gib
    assert measured.total_high_gib <= measured.capacity_gib
    # The ranking leaves the same room.
    found = recommend(parse_request({
        "scenario": {"model": "Qwen/Qwen3-32B", "precision": "bf16"}, "vendors": ["AMD"],
    }))  # fmt: skip
    plans = [plan for tier in found.tiers.values() for plan in tier]
    assert plans
    assert all(plan.estimate.memory.fits is True for plan in plans)
