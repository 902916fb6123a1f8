"""Techniques: what each saves and costs for the question of this session, with the code for it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from configurator import numbers
from configurator.app import charts, views
from configurator.app.header import link_notices
from configurator.app.links import ICON, planner_link
from configurator.app.market import best_plan, recommended
from configurator.app.problems import show_problem
from configurator.app.state import (
    language,
    language_switch,
    open_link,
    question,
    request_of,
    words,
    write_link,
)
from configurator.app.techniques_charts import (
    FITS,
    by_load,
    cards_text,
    detail,
    detail_text,
    figures,
    is_cut,
    memory_text,
    order,
    overview,
    overview_text,
    speed_text,
    ttft_text,
    why,
)
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.scenario import Scenario
from configurator.techniques import Technique, changed, techniques
from configurator.words import labelled, sentences

STATES = ("available", "in_use", "not_applicable", "not_computed")
WITH_NUMBERS = ("available", "in_use")
SAID_BY_TITLE = ("applies", "in_use")  # reasons that say no more than the section's title


def page() -> None:
    """Draw the page."""
    open_link()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.techniques')}")
        st.space("stretch")
        language_switch()
    link_notices()
    asked = question()
    if isinstance(asked, InputError):
        _problem(asked)
        return
    write_link(asked)
    try:
        answer = _answer(asked)
        if answer is None:
            model = numbers.plain(views.model_name(asked, language()))
            load = numbers.plain(views.load(asked, language()))
            st.error(words("verdict.none", model=model, load=load), icon=":material/cancel:")
            _to_planner("to_planner")
            return
        found = techniques(answer.scenario)
    except InputError as error:
        _problem(error)
        return
    _intro(answer, chosen_here=asked.hardware is None)
    _overview(answer, found)
    for state in WITH_NUMBERS:
        _section(answer, found, state)
    for state in STATES:
        if state not in WITH_NUMBERS:
            _list(found, state)


def _answer(asked: Scenario) -> Estimate | None:
    """Return the answer on the cards asked for, or on the cheapest that do it, if any."""
    if asked.hardware is not None:
        return estimate(asked)
    best = best_plan(recommended(request_of(asked)))
    return None if best is None else best.estimate


def _problem(error: InputError) -> None:
    show_problem(error)
    _to_planner("to_planner")


def _to_planner(label: str) -> None:
    """Link to the question of this session as it is."""
    asked, text = question(), words(f"techniques.{label}")
    if isinstance(asked, InputError):
        st.page_link(st.session_state["_pages"]["planner"], label=text, icon=ICON)
    else:
        planner_link(asked, text, "to_planner")


def _intro(answer: Estimate, *, chosen_here: bool) -> None:
    scenario, memory = answer.scenario, answer.memory
    hardware = scenario.hardware
    assert hardware is not None
    values = {
        "model": numbers.plain(views.model_name(scenario, language())),
        "precision": numbers.plain(views.option("precision", answer.precision, language())),
        "load": numbers.plain(views.load(scenario, language())),
        "cards": numbers.plain(views.cards(hardware.gpu_count, hardware.gpu)),
        "engine": numbers.plain(views.option("engine", scenario.engine, language())),
        "need": numbers.gib(memory.required_gib, language()),
        "room": numbers.gib(memory.budget_gib, language()),
        "fit": words(f"techniques.intro_{FITS[memory.fits][0]}"),
    }
    text = words("techniques.intro", **values)
    if chosen_here:
        text = sentences(language(), text, words("techniques.intro_cheapest"))
    st.markdown(text)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(words("techniques.how"))
        _to_planner("change")


def _overview(answer: Estimate, found: Sequence[Technique]) -> None:
    shown = [technique for state in WITH_NUMBERS for technique in order(found, state)]
    if not shown:
        return
    st.markdown(f"**{words('techniques.chart')}**")
    st.plotly_chart(
        overview(answer, shown, language()),
        key="techniques_overview",
        alt=overview_text(answer, shown, language()),
        config=charts.CONFIG,
    )
    if is_cut(answer, shown):
        st.caption(words("techniques.cut"))


def _section(answer: Estimate, found: Sequence[Technique], state: str) -> None:
    own = order(found, state)
    if not own:
        return
    st.markdown(f"##### {words(f'techniques.state_{state}', count=len(own))}")
    for technique in own:
        with st.container(border=True, gap="xsmall", key=f"technique_{technique.code}"):
            _technique(answer, technique)


def _technique(answer: Estimate, technique: Technique) -> None:
    before, after = technique.before, technique.after
    assert before is not None
    assert after is not None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{technique.name(language())}**", width="content")
        for text, colour in (
            memory_text(technique, language()), speed_text(technique, language()),
            ttft_text(technique, language()),
        ):  # fmt: skip
            if text:
                st.badge(text, color=colour)
        if cards := cards_text(technique, language()):
            st.badge(cards, color="gray")
        if after.fits is not True or before.fits is not True:  # else it is no news
            fit, colour = FITS[after.fits]
            st.badge(words(f"techniques.fit_{fit}"), color=colour)
        st.space("stretch")
        _apply(answer, technique)
    st.markdown(numbers.plain(technique.what(language())))
    if technique.reason not in SAID_BY_TITLE:
        st.caption(numbers.plain(why(technique, language())))
    box = st.expander(
        words("techniques.more"),
        key=f"technique_more_{technique.code}",
        icon=":material/code:",
        on_change="rerun",
    )
    if box.open:
        with box:
            _more(answer, technique)


def _apply(answer: Estimate, technique: Technique) -> None:
    """Link to the planner with the technique in the question, or taken out of it."""
    if technique.state == "available":
        scenario, label = technique.scenario, words("techniques.apply")
    else:
        scenario = changed(answer.scenario, technique.changes)
        label = words("techniques.without")
    assert scenario is not None
    planner_link(scenario, label, f"apply_{technique.code}")


def _more(answer: Estimate, technique: Technique) -> None:
    rows = [
        [words("techniques.figure"), words("techniques.side_before"),
         words("techniques.side_after")],
        ["---", "---:", "---:"],
        *(
            [numbers.plain(name), *(numbers.plain(cell).replace(" ", "\u00a0") for cell in cells)]
            for name, *cells in figures(technique, language())
        ),
    ]  # fmt: skip
    st.markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))
    st.plotly_chart(
        detail(technique, answer.memory.budget_gib, language()),
        key=f"technique_detail_{technique.code}",
        alt=detail_text(technique, language()),
        config=charts.CONFIG,
    )
    without, scenario = answer.scenario, technique.scenario
    if technique.state == "in_use":
        without = changed(without, technique.changes)
    if scenario is not None and technique.speed_ratio is not None and not scenario.is_training:
        st.caption(words("techniques.by_load"))
        st.plotly_chart(
            by_load(without, scenario, language()),
            key=f"technique_load_{technique.code}",
            alt=words("techniques.alt_load", speed=speed_text(technique, language())[0]),
            config=charts.CONFIG,
        )
    files = technique.code_files(language())
    if not files:
        return
    st.caption(words("techniques.code"))
    for tab, file in zip(st.tabs([numbers.plain(file.name) for file in files]), files):
        with tab:
            st.code(file.text, language=file.language)


def _list(found: Sequence[Technique], state: str) -> None:
    own = order(found, state)
    if not own:
        return
    st.markdown(f"##### {words(f'techniques.state_{state}', count=len(own))}")
    with st.container(border=True, gap="small", key=f"techniques_{state}"):
        for technique in own:
            with st.container(gap="xxsmall"):
                what = numbers.plain(technique.what(language()))
                name = f"**{technique.name(language())}**"
                st.markdown(labelled(language(), name, what))
                st.caption(numbers.plain(why(technique, language())))
