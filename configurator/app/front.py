"""The Pareto front: what nothing beats in both cost and speed, each point a plan to look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from configurator import numbers
from configurator.app import charts, views
from configurator.app.form import form_of
from configurator.app.front_chart import Front, FrontPoint, decades, front_figure
from configurator.app.state import form, language, seed, words
from configurator.recommend import Alternative, Plan, Recommendation

FEW_TICKS = 3


def label(point: Alternative, tongue: str) -> str:
    """Return a point's line: cards, total cost, speed."""
    return words(
        "front.point",
        cards=views.cards(point.gpu_count, point.gpu),
        total=numbers.money(point.total, point.currency, tongue),
        rate=numbers.rate(point.tokens_per_s or 0.0, tongue),
    )


def front(found: Sequence[Alternative], plan: Plan, tongue: str) -> Front:
    """Return the front as it is drawn.

    Args:
        found: Its points, from the cheapest to the fastest; at least one.
        plan: The plan that is shown, in a ring.
        tongue: Of the words.
    """
    points = tuple(
        FrontPoint(
            words(f"tier.{point.tier}"), point.total, point.tokens_per_s or 0.0,
            label(point, tongue),
        )
        for point in found
    )  # fmt: skip
    speed, name = plan.estimate.performance, words("front.shown")
    rate = speed.train_tokens_per_s or speed.output_tokens_per_s
    total = plan.cost.total.value
    shown = FrontPoint(name, total, rate, name) if rate and total else None
    drawn = [*points, *([shown] if shown else [])]
    costs, speeds = [point.cost for point in drawn], [point.speed for point in drawn]
    currency = plan.request.currency
    return Front(
        points,
        shown,
        words("front.total", years=plan.terms.years),
        words("front.speed"),
        tuple((value, numbers.money(value, currency, tongue)) for value in _ticks(costs)),
        tuple((value, numbers.rate(value, tongue)) for value in _ticks(speeds)),
    )


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = 0.8 * min(values), 1.25 * max(values)
    found = decades(low, high)
    return found if len(found) >= FEW_TICKS else decades(low, high, (1, 2, 5))


def show_front(found: Recommendation, plan: Plan) -> None:
    """Show the front; a point clicked or picked becomes the plan of the page."""
    points = found.pareto
    if len(points) < 2:
        return
    tongue = language()
    st.markdown(f"#### {words('front.title')}")
    st.caption(words("front.intro", count=len(points)))
    labels = [label(point, tongue) for point in points]
    st.plotly_chart(
        front_figure(front(points, plan, tongue)),
        key="front",
        alt=words("front.alt", count=len(points), first=labels[0], last=labels[-1]),
        config=charts.CONFIG,
        on_select=partial(_clicked, points),
        selection_mode="points",
    )
    here = next(
        (at for at, point in enumerate(points)
         if (point.gpu, point.gpu_count) == (plan.gpu, plan.gpu_count)), None,
    )  # fmt: skip
    seed("front_pick", here)
    st.selectbox(
        words("front.pick"),
        range(len(points)),
        index=None,
        format_func=partial(_labelled, labels),
        key="front_pick",
        placeholder=words("front.other"),
        on_change=_picked,
        args=(points,),
    )


def _labelled(labels: Sequence[str], at: int | None) -> str:
    return labels[at] if at is not None and 0 <= at < len(labels) else ""


def _take(points: Sequence[Alternative], at: object) -> None:
    if isinstance(at, int) and 0 <= at < len(points):
        st.session_state["_form"] = form_of(points[at].scenario, form())


def _picked(points: Sequence[Alternative]) -> None:
    _take(points, st.session_state["front_pick"])


def _clicked(points: Sequence[Alternative]) -> None:
    for point in st.session_state["front"].selection.points:
        _take(points, point.get("customdata"))
