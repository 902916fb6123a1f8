"""The planner's head: what to start from, the tour, the language, and what to say of a link."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from configurator import link, numbers
from configurator.app.form import changed_fields
from configurator.app.presets import Preset, presets
from configurator.app.state import (
    bound_words,
    buying,
    catalog_version,
    form,
    language,
    language_switch,
    seed,
    speed_limits,
    take_preset,
    words,
)
from configurator.recommend.request import RUN
from configurator.words import listed

TOUR = ("one", "two", "three", "four")


def _preset() -> Preset | None:
    return next((p for p in presets() if p.id == st.session_state.get("preset")), None)


def _preset_chosen() -> None:
    chosen = next((p for p in presets() if p.id == st.session_state["start_from"]), None)
    if chosen is not None:
        take_preset(chosen)


def _back_to_preset() -> None:
    chosen = _preset()
    if chosen is not None:
        take_preset(chosen)


def _changed(preset: Preset) -> list[str]:
    """Return the fields in which the question differs from a preset, its limits included."""
    if form()["task"] == "inference":
        limits = zip(("ttft_limit", "tps_limit"), speed_limits(), preset.speed)
    else:
        limits = zip(RUN, (getattr(buying(), name) for name in RUN), preset.run)
    moved = (name for name, held, usual in limits if held != usual)
    return [*changed_fields(form(), preset.scenario), *moved]


def header() -> None:
    """Draw the presets, the way back to the chosen one, the tour and the language switch."""
    chosen = _preset()
    seed("start_from", chosen.id if chosen else None)
    say_it = bound_words()
    with st.container(horizontal=True, vertical_alignment="bottom", key="header"):
        st.selectbox(
            words("start_from"),
            [preset.id for preset in presets()],
            index=None,
            format_func=lambda preset: say_it(f"preset.{preset}") if preset else "",
            key="start_from",
            on_change=_preset_chosen,
            placeholder=words("own_question"),
            width=300,
        )
        if chosen is not None:
            changed = _changed(chosen)
            if changed:
                names = listed(language(), (_field_name(name) for name in changed))
                st.button(
                    words("back_to_preset", count=len(changed)),
                    key="back_to_preset",
                    icon=":material/undo:",
                    on_click=_back_to_preset,
                    help=words("changed", fields=names),
                )
        st.space("stretch")
        _tour()
        language_switch()


def _tour() -> None:
    """Show how to read the page, step by step; named for a first visit until it was opened."""
    state = st.session_state
    if state.get("_touring") and not state.get("tour"):  # opened once and closed again
        state["_toured"] = True
    tour = st.popover(
        words("tour.title" if state.get("_toured") else "tour.first"),
        key="tour",
        icon=":material/help:",
        type="tertiary",
        on_change="rerun",
    )
    if not tour.open:
        return
    state["_touring"] = True
    step = state.setdefault("_tour_step", 0)
    with tour:
        st.caption(words("tour.step", step=step + 1, steps=len(TOUR)))
        st.markdown(words(f"tour.{TOUR[step]}"))
        with st.container(horizontal=True):
            st.button(
                words("tour.back"),
                key="tour_back",
                on_click=_tour_to,
                args=(step - 1,),
                disabled=step == 0,
            )
            st.button(
                words("tour.next"),
                key="tour_next",
                type="primary",
                on_click=_tour_to,
                args=(step + 1,),
                disabled=step == len(TOUR) - 1,
            )


def _tour_to(step: int) -> None:
    st.session_state["_tour_step"] = min(max(step, 0), len(TOUR) - 1)


def _field_name(name: str) -> str:
    alias = {"inference_engine": "engine", "training_engine": "engine"}.get(name, name)
    try:
        return words(f"field.{alias}")
    except KeyError:
        return name


def link_notices() -> None:
    """Say what of the link could not be used, and that its prices are older than the catalog's."""
    problems: Sequence[link.LinkProblem] = st.session_state["_problems"]
    wrong = [p for p in problems if p.code != "missing"]
    if wrong:
        lines = [f"- {numbers.plain(problem.text(language()))}" for problem in wrong[:12]]
        st.warning("\n".join([words("link_problems"), "", *lines]), icon=":material/link_off:")
    for problem in problems:
        if problem.code == "missing":
            names = (_field_name(link.field_of(p)) for p in problem.parameter.split(", "))
            st.caption(words("link_missing", fields=listed(language(), names)))
    then = st.session_state.get("_made_with")
    if then and then != catalog_version():
        st.info(
            words(
                "old_prices",
                then=numbers.date(then, language()),
                now=numbers.date(catalog_version(), language()),
            ),
            icon=":material/history:",
        )
