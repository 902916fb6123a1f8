"""The planner's pictures: the memory meter, speed, and one of memory or speed as a load grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import streamlit as st

from configurator import numbers
from configurator.app import charts, curves, views
from configurator.app.state import bound_words, language, limits_of, seed, words
from configurator.estimate import Estimate, architecture_of
from configurator.scenario import parse_scenario

# Which one, what is drawn, and what that shows in words.
Picture = tuple[str, tuple[charts.Curve | charts.LoadCurve, str]]


def draw_meter(answer: Estimate) -> None:
    """Draw what the memory of the fullest card is made of, and its limit."""
    hardware = answer.scenario.hardware
    assert hardware is not None
    parts, limit, card, alt = views.meter(answer, language())
    name = numbers.plain(views.cards(hardware.gpu_count, hardware.gpu))
    st.markdown(f"**{words('meter.title', cards=name)}**")
    figure = charts.meter(parts, limit, card)
    st.plotly_chart(figure, key="meter", alt=alt, config=charts.CONFIG)


def draw_speed(answer: Estimate, train_tokens_b: float | None) -> None:
    """Draw the speed as figures."""
    figures = views.speeds(answer.performance, language(), train_tokens_b)
    if not figures:
        return
    title = f"**{words('speed.title')}**"
    cannot, bound = answer.cannot_run is not None, answer.performance.bound_by
    if cannot or answer.memory.fits is False:
        st.markdown(f"{title} {views.small(words('speed.cannot' if cannot else 'speed.not'))}")
        return
    if bound:
        what = views.option("bound_by", bound, language())
        title = f"{title} {views.small(words('speed.bound', what=what))}"
    st.markdown(title)
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


def pictures(answer: Estimate) -> Sequence[str]:
    """Return the pictures to choose from of how a load grows: two of memory, one of speed."""
    if answer.scenario.is_training:
        return ("batch", "sequence")
    runs = answer.cannot_run is None and answer.memory.fits is not False
    return ("users", "context", "speed") if runs else ("users", "context")


def picture(answer: Estimate) -> Picture:
    """Return the chosen picture, worked out, and what it shows in words; the others are not."""
    text = answer.scenario.model_dump_json(exclude_none=True)
    options = pictures(answer)
    which = st.session_state.get("_picture")
    if which == "speed" and which in options:
        by = st.session_state.setdefault("_load_by", curves.LOAD_BY[0])
        return "speed", _load_curve(text, by, limits_of(answer.scenario), language())
    which = str(which) if which in options else options[0]
    return which, _memory_curve(text, options.index(which), language(), _rule())


@lru_cache(maxsize=256)
def _memory_curve(
    scenario_json: str, number: int, tongue: str, rule: bool
) -> tuple[charts.Curve, str]:
    scenario = parse_scenario(json.loads(scenario_json))
    axis = curves.axes(scenario, architecture_of(scenario).context_length, tongue)[number]
    data = curves.curve(scenario, axis, tongue)
    if rule:
        data = curves.with_rule_of_thumb(data, scenario, axis, tongue)
    return data, curves.curve_text(data, tongue)


@lru_cache(maxsize=128)
def _load_curve(
    scenario_json: str, by: str, limits: views.Limits, tongue: str
) -> tuple[charts.LoadCurve, str]:
    data = curves.load_curve(parse_scenario(json.loads(scenario_json)), by, limits, tongue)
    return data, curves.load_text(data, limits, tongue)


def draw_picture(answer: Estimate, shown: Picture) -> None:
    """Draw the chosen picture below the choice; each is one more that every answer waits for."""
    which, (data, alt) = shown
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        _choice("picture", words("picture"), which, pictures(answer))
        if isinstance(data, charts.LoadCurve):
            held = st.session_state["_load_by"]
            _choice("load_by", words("load_curve.by"), held, curves.LOAD_BY)
        else:
            seed("rule", _rule())
            st.toggle(
                words("curve.with_rule"),
                key="rule",
                help=words("help.rule"),
                on_change=_chosen,
                args=("rule",),
            )
    if isinstance(data, charts.LoadCurve):
        key, figure, below = "load_curve", charts.load_curve(data), words("load_curve.help")
    else:
        key, figure, below = "curve", charts.curve(data), numbers.plain(alt)
    st.plotly_chart(figure, key=key, alt=alt, config=charts.CONFIG)
    st.caption(below)


def _choice(key: str, label: str, held: str, options: Sequence[str]) -> None:
    """Show a choice among ``option.<key>.…``, kept as ``_<key>``."""
    say_it = bound_words()
    seed(key, held)
    st.segmented_control(
        label,
        list(options),
        format_func=lambda value: say_it(f"option.{key}.{value}"),
        key=key,
        required=True,
        on_change=_chosen,
        args=(key,),
        label_visibility="collapsed",
    )


def _rule() -> bool:
    return bool(st.session_state.get("_rule"))


def _chosen(key: str) -> None:
    st.session_state[f"_{key}"] = st.session_state[key]
