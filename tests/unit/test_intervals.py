"""Intervals from residuals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurator.intervals import ENOUGH, FEWEST, LEAST, from_residuals

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
