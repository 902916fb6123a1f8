"""The planner: the answer first, what was asked in the sidebar."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from configurator import numbers
from configurator.app import views
from configurator.app.form import form_of
from configurator.app.header import header, link_notices
from configurator.app.inputs import inputs
from configurator.app.market import best_plan, recommended
from configurator.app.nearest import show_nearest, show_terms
from configurator.app.pictures import Picture, draw_meter, draw_picture, draw_speed, picture
from configurator.app.plan_cards import money, plan_facts, tiers
from configurator.app.problems import show_problem
from configurator.app.savings import Saving, savings
from configurator.app.state import (
    buying,
    catalog_version,
    form,
    language,
    open_link,
    question,
    request_of,
    words,
    write_link,
)
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.link import share_url
from configurator.recommend import Plan, Recommendation
from configurator.scenario import Scenario
from configurator.words import labelled, say, sentences

STATE_ICONS = {
    "good": ":material/check_circle:",
    "tight": ":material/warning:",
    "bad": ":material/cancel:",
}
# Notices that change what the verdict means.
TOLD = ("layers_on_host", "experts_on_host", "context_beyond_model")
# The worst first.
TINTS: Mapping[str, views.Tint] = {"error": "red", "warning": "orange", "info": "blue"}


# Milliseconds from a slider to the new meter with a wait of 0, 15, 25 and 30 ms: 170, 140, 120, 111
# (benchmarks/page_speed.py on two cores); longer ones gain little. The thread that sends needs its
# turn in the interpreter first: without the pause for it one move in eight took over 160 ms.
DRAWING_S = 0.027
SENDING_S = 0.008


@dataclass(frozen=True)
class _Answer:
    """What is asked, the plans for it, the best of them, and the estimate that is shown."""

    asked: Scenario
    found: Recommendation
    best: Plan | None
    shown: Estimate | None

    @cached_property
    def savings(self) -> Sequence[Saving]:
        """Ways to need less memory than the estimate shown."""
        return savings(self.shown) if self.shown is not None else ()

    @cached_property
    def facts(self) -> Mapping[str, Sequence[str]]:
        """Small print of the best plan of each class of buyer."""
        best = {tier: plans[0] for tier, plans in self.found.tiers.items() if plans}
        return {tier: plan_facts(plan, language()) for tier, plan in best.items()}

    @cached_property
    def kept(self) -> views.Verdict | None:
        """Whether the estimate shown keeps the limits asked for; None without any."""
        if self.shown is None:
            return None
        return views.kept(self.shown, self.found.request, language())

    @cached_property
    def picture(self) -> Picture | None:
        """The chosen picture of how the load of the estimate shown grows."""
        return picture(self.shown) if self.shown is not None else None


def page() -> None:
    """Draw the planner.

    The memory meter is sent first, into its place: the browser draws it while the rest of the page
    is worked out.
    """
    open_link()
    panel, top, picture = st.sidebar.container(), st.container(), st.container()
    asked = question()
    answer = asked if isinstance(asked, InputError) else _answer(asked, picture)
    with top:
        header()
    with panel:
        inputs()
    parameters = {} if isinstance(asked, InputError) else write_link(asked)
    with top:
        link_notices()
        if isinstance(answer, InputError):
            show_problem(answer)
            return
        _above(answer)
    _below(answer, parameters)


def _answer(asked: Scenario, picture: DeltaGenerator) -> _Answer | InputError:
    """Answer a question, the meter sent into ``picture`` at once; or return what is wrong."""
    try:
        found = recommended(request_of(asked.model_copy(update={"hardware": None})))
        best = best_plan(found)
        shown = best.estimate if best else None
        if asked.hardware is not None:
            shown = estimate(asked)
        answer = _Answer(asked, found, best, shown)
        if shown is not None:
            with picture:
                draw_meter(shown)
            sent = time.perf_counter()
            time.sleep(SENDING_S)
            _work_out(answer)
            _let_it_draw(sent)
        return answer
    except InputError as error:
        return error


def _work_out(answer: _Answer) -> None:
    """Work out what the rest of the page shows before any of it is sent; the answer keeps it."""
    _ = answer.facts, answer.kept, answer.picture, answer.savings


def _let_it_draw(sent: float) -> None:
    """Send nothing until a browser had time to draw what was sent.

    What comes meanwhile makes it put the drawing off by more than the wait.
    """
    time.sleep(max(0.0, sent + DRAWING_S - time.perf_counter()))


def _above(answer: _Answer) -> None:
    """Draw what stands above the meter: the verdict, what makes it fit, the three classes."""
    _verdict(answer)
    if answer.shown is not None and answer.shown.memory.fits is not True:
        _fixes(answer.shown, answer.savings)
    show_terms()
    tiers(answer.found, answer.facts)


def _below(answer: _Answer, parameters: Mapping[str, str]) -> None:
    """Draw what stands below the meter: speed, a picture, warnings, changes, reasons, the link."""
    if answer.shown is not None:
        draw_speed(answer.shown, buying().train_tokens_b)
        if answer.picture is not None:
            draw_picture(answer.shown, answer.picture)
        _notices(answer.shown)
        _savings(answer.shown, answer.savings)
    show_nearest(answer.found, open_it=answer.shown is None)
    if answer.shown is not None:
        _why(answer.shown)
    _link(answer.asked, parameters)


def _no_plan(found: Recommendation) -> None:
    """Say that nothing does what is asked, and what was wanted of it."""
    asked = found.request.scenario
    model = numbers.plain(views.model_name(asked, language()))
    load = numbers.plain(views.load(asked, language()))
    said = words("verdict.none", model=model, load=load)
    text = sentences(language(), said, *views.wanted(found.request, language()))
    st.error(text, icon=STATE_ICONS["bad"])


def _verdict(answer: _Answer) -> None:
    shown, best, kept = answer.shown, answer.best, answer.kept
    if shown is None:
        _no_plan(answer.found)
        return
    said = views.verdict(shown, language())
    texts, state = [said.text], said.state
    if kept is not None:
        texts.append(kept.text)
        if state == "good":
            state = kept.state
    notices = [n for n in (*shown.warnings, *shown.assumptions) if n.code in TOLD]
    if state == "good" and any(notice.severity == "warning" for notice in notices):
        state = "tight"
    texts += [numbers.plain(notice.text(language())) for notice in notices]
    if answer.asked.hardware is None and best is not None:
        goal = best.request.objective
        price = words(
            "verdict.cheapest" if goal in ("cost", "purchase") else "verdict.first",
            price=numbers.plain(money(best.cost.purchase, best.request.currency)),
            dates=best.cost.dates_text(language()),
            objective=views.option("objective", goal, language()),
        )
        texts.append(price)
    box = {"good": st.success, "tight": st.warning, "bad": st.error}[state]
    box(sentences(language(), *texts), icon=STATE_ICONS[state])


SHOWN_FIXES = 3


def _change(answer: Estimate, changes: Mapping[str, Any]) -> None:
    """Put the answered scenario into the form, changed; with an open choice that pins its cards."""
    held = form_of(answer.scenario, form())
    held.update(changes)
    st.session_state["_form"] = held


def saving_text(saving: Saving, tongue: str) -> str:
    """Return a change in words, with what it saves."""
    values = dict(saving.values)
    if "count" in values:
        values["count"] = numbers.count(values["count"], tongue)
    what = say(f"app.saving.{saving.code}", tongue, **values)
    return say("app.saving.saves", tongue, what=what, saved=numbers.gib(saving.saved_gib, tongue))


def _fixes(answer: Estimate, less: Sequence[Saving]) -> None:
    fitting = [saving for saving in less if saving.fits][:SHOWN_FIXES]
    if not fitting:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="fixes"):
        st.markdown(words("saving.title"), width="content")
        for saving in fitting:
            st.button(
                saving_text(saving, language()),
                key=f"fix_{saving.code}",
                on_click=_change,
                args=(answer, saving.changes),
                icon=":material/build:",
            )


def _savings(answer: Estimate, less: Sequence[Saving]) -> None:
    if not less:
        return
    box = st.expander(words("saving.all"), key="savings", on_change="rerun")
    if not box.open:
        return
    with box:
        for saving in less:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(saving_text(saving, language()), width="stretch")
                if saving.fits:
                    st.badge(words("saving.fits"), color="green")
                else:
                    st.badge(words("saving.not"), color="gray")
                st.button(
                    words("saving.apply"),
                    key=f"save_{saving.code}",
                    on_click=_change,
                    args=(answer, saving.changes),
                )
        st.caption(words("saving.note"))


def _notices(answer: Estimate) -> None:
    notices = sorted(answer.warnings, key=lambda n: list(TINTS).index(n.severity))
    if notices:
        lines = [f"**{words('warnings.title')}**"]
        lines += [
            f":{TINTS[notice.severity]}-badge[{words(f'severity.{notice.severity}')}] "
            f"{numbers.plain(notice.text(language()))} {views.small(numbers.plain(notice.code))}"
            for notice in notices
        ]
        st.markdown("\n\n".join(lines))
    if answer.assumptions:
        with st.expander(words("assumptions.title", count=len(answer.assumptions))):
            texts = (numbers.plain(notice.text(language())) for notice in answer.assumptions)
            st.markdown("\n".join(f"- {text}" for text in texts))


def _why(answer: Estimate) -> None:
    box = st.expander(words("why_title"), key="why", on_change="rerun")
    if not box.open:
        return
    with box:
        st.caption(words("why_intro"))
        for term in answer.terms:
            said = views.reason(term, language())
            st.markdown(f"**{labelled(language(), said.name, said.result)}**")
            if said.formula:
                st.code(f"{said.name} = {said.formula}", language=None, wrap_lines=True)
            if said.inputs:
                st.table(reason_rows(said, language()), hide_index=True, border="horizontal")
        st.markdown(f"**{words('sources')}**")
        for ref, origin in views.sources(answer, language()):
            name = f"**{numbers.plain(ref)}**"
            st.markdown(f"- {labelled(language(), name, numbers.plain(origin))}")


def reason_rows(said: views.Reason, tongue: str) -> list[dict[str, str]]:
    """Return the figures of a formula; the source has a column where any is known."""
    known = any(origin for _, _, origin in said.inputs)
    what, value = say("app.column.what", tongue), say("app.column.value", tongue)
    return [
        {what: name, value: shown} | ({say("app.column.source", tongue): origin} if known else {})
        for name, shown, origin in said.inputs
    ]


def _link(asked: Scenario, shown: Mapping[str, str]) -> None:
    with st.expander(words("link_title"), key="link", icon=":material/link:"):
        st.caption(words("link_intro", date=numbers.date(catalog_version(), language())))
        st.code(share_url(st.context.url or "", shown), language=None, wrap_lines=True)
        if "up" in shown:
            st.warning(words("link_upload"), icon=":material/upload_file:")
