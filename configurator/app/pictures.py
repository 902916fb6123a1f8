"""The planner's pictures: the memory meter, memory curves, speed and the load curve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from configurator import numbers
from configurator.app import charts, curves, views
from configurator.app.state import bound_words, language, limits_of, seed, words
from configurator.estimate import Estimate, architecture_of
from configurator.scenario import parse_scenario

Load = tuple[charts.LoadCurve, str]


def draw_meter(answer: Estimate) -> None:
    """Draw what the memory of the fullest card is made of, and its limit."""
    hardware = answer.scenario.hardware
    assert hardware is not None
    parts, limit, card, alt = views.meter(answer, language())
    name = numbers.plain(views.cards(hardware.gpu_count, hardware.gpu))
    st.markdown(f"**{words('meter.title', cards=name)}**")
    figure = charts.meter(parts, limit, card)
    st.plotly_chart(figure, key="meter", alt=alt, config=charts.CONFIG)


def memory_curves(answer: Estimate) -> Sequence[tuple[charts.Curve, str]]:
    """Return the memory curves of what was asked and what each shows in words."""
    text = answer.scenario.model_dump_json(exclude_none=True)
    return _memory_curves(text, language(), bool(st.session_state.get("rule")))


@lru_cache(maxsize=128)
def _memory_curves(
    scenario_json: str, tongue: str, rule: bool
) -> tuple[tuple[charts.Curve, str], ...]:
    scenario = parse_scenario(json.loads(scenario_json))
    limit = architecture_of(scenario).context_length
    found = []
    for axis in curves.axes(scenario, limit, tongue):
        data = curves.curve(scenario, axis, tongue)
        if rule:
            data = curves.with_rule_of_thumb(data, scenario, axis, tongue)
        found.append((data, curves.curve_text(data, tongue)))
    return tuple(found)


def _line() -> DeltaGenerator:
    """Return a place for a title at the left and what changes its picture at the right."""
    return st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    )


def draw_curves(found: Sequence[tuple[charts.Curve, str]]) -> None:
    """Draw memory curves side by side."""
    with _line():
        st.markdown(f"**{words('curve.title')}**", width="content")
        st.toggle(words("curve.with_rule"), key="rule", help=words("help.rule"))
    for number, (column, (data, alt)) in enumerate(zip(st.columns(2), found)):
        figure = charts.curve(data)
        column.plotly_chart(figure, key=f"curve_{number}", alt=alt, config=charts.CONFIG)
        column.caption(numbers.plain(alt))


def draw_speed(answer: Estimate, load: Load | None, train_tokens_b: float | None) -> None:
    """Draw the speed as figures and, where there is one, the load curve."""
    figures = views.speeds(answer.performance, language(), train_tokens_b)
    if not figures:
        return
    st.markdown(f"**{words('speed.title')}**")
    cannot = answer.cannot_run is not None
    if cannot or answer.memory.fits is False:
        st.caption(words("speed.cannot" if cannot else "speed.not"))
        return
    with st.container(horizontal=True):
        for figure in figures:
            st.metric(
                figure.name,
                figure.value,
                words("speed.range", range=figure.range) if figure.range else None,
                delta_color="off",
                delta_arrow="off",
                help=figure.meaning,
            )
    bound = answer.performance.bound_by
    if bound:
        st.caption(words("speed.bound", what=views.option("bound_by", bound, language())))
    if load is not None:
        _draw_load(*load)


def load_curve(answer: Estimate) -> Load | None:
    """Return the load curve of what was asked and what it shows in words; None for training."""
    if answer.scenario.is_training:
        return None
    by = st.session_state.setdefault("_load_by", curves.LOAD_BY[0])
    text = answer.scenario.model_dump_json(exclude_none=True)
    return _load_curve(text, by, limits_of(answer.scenario), language())


@lru_cache(maxsize=128)
def _load_curve(scenario_json: str, by: str, limits: views.Limits, tongue: str) -> Load:
    data = curves.load_curve(parse_scenario(json.loads(scenario_json)), by, limits, tongue)
    return data, curves.load_text(data, limits, tongue)


def _draw_load(data: charts.LoadCurve, alt: str) -> None:
    seed("load_by", st.session_state["_load_by"])
    say_it = bound_words()
    with _line():
        st.markdown(f"**{words('load_curve.title')}**", width="content")
        st.segmented_control(
            words("load_curve.by"),
            list(curves.LOAD_BY),
            format_func=lambda value: say_it(f"option.load_by.{value}"),
            key="load_by",
            required=True,
            on_change=_load_by_chosen,
            label_visibility="collapsed",
        )
    figure = charts.load_curve(data)
    st.plotly_chart(figure, key="load_curve", alt=alt, config=charts.CONFIG)
    st.caption(words("load_curve.help"))


def _load_by_chosen() -> None:
    if st.session_state["load_by"] in curves.LOAD_BY:
        st.session_state["_load_by"] = st.session_state["load_by"]
