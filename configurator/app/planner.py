"""The planner: the answer first, what was asked in the sidebar."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from configurator import link, numbers
from configurator.app import charts, curves, views
from configurator.app.form import changed_fields, form_of
from configurator.app.inputs import inputs
from configurator.app.nearest import show_nearest, show_terms
from configurator.app.presets import Preset, presets
from configurator.app.problems import show_problem
from configurator.app.savings import Saving, savings
from configurator.app.state import (
    bound_words,
    catalog_version,
    form,
    language,
    language_switch,
    open_link,
    question,
    request_of,
    seed,
    speed_limits,
    words,
    write_link,
)
from configurator.cost.ranges import Range
from configurator.errors import InputError
from configurator.estimate import Estimate, architecture_of, estimate
from configurator.recommend import Plan, Recommendation, parse_request, recommend
from configurator.scenario import Scenario, parse_scenario
from configurator.words import say

TIERS = ("individual", "sme", "enterprise")
TIER_ICONS = {
    "individual": ":material/person:",
    "sme": ":material/groups:",
    "enterprise": ":material/domain:",
}
STATE_ICONS = {
    "good": ":material/check_circle:",
    "tight": ":material/warning:",
    "bad": ":material/cancel:",
}
TOUR = ("one", "two", "three", "four")
SEND_S = 0.001  # lets the thread that sends have the interpreter
SEVERITY = {"error": 0, "warning": 1, "info": 2}


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
        _header()
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


# --------------------------------------------------------------------------- above the answer


def _preset() -> Preset | None:
    return next((p for p in presets() if p.id == st.session_state.get("preset")), None)


def _preset_chosen() -> None:
    chosen = next((p for p in presets() if p.id == st.session_state["start_from"]), None)
    if chosen is not None:
        st.session_state["preset"] = chosen.id
        st.session_state["_form"] = form_of(chosen.scenario, form())


def _back_to_preset() -> None:
    chosen = _preset()
    if chosen is not None:
        st.session_state["_form"] = form_of(chosen.scenario, form())


def _header() -> None:
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
            width=380,
        )
        if chosen is not None:
            changed = changed_fields(form(), chosen.scenario)
            if changed:
                names = ", ".join(_field_name(name) for name in changed)
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
            st.caption(words("link_missing", fields=", ".join(names)))
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


# --------------------------------------------------------------------------- the answer


@lru_cache(maxsize=128)
def recommended(request_json: str) -> Recommendation:
    """Return the recommendation for a request; one for all sessions that ask the same."""
    return recommend(parse_request(json.loads(request_json)))


def _recommended(scenario: Scenario) -> Recommendation:
    bare = scenario.model_copy(update={"hardware": None})
    return recommended(request_of(bare).model_dump_json(exclude_none=True))


def best_plan(found: Recommendation) -> Plan | None:
    """Return the first plan of the smallest class of buyer that has one."""
    return next((plans[0] for tier in TIERS if (plans := found.tiers.get(tier))), None)


def _use_plan(plan: Plan) -> None:
    st.session_state["_form"] = form_of(plan.scenario, form())


def _answer(asked: Scenario, picture: DeltaGenerator) -> _Answer | InputError:
    """Answer a question, the meter sent into ``picture`` at once; or return what is wrong."""
    try:
        found = _recommended(asked)
        best = best_plan(found)
        shown = best.estimate if best else None
        if asked.hardware is not None:
            shown = estimate(asked)
        answer = _Answer(asked, found, best, shown)
        if shown is not None:
            with picture:
                _meter(shown)
            time.sleep(SEND_S)
            _work_out(answer, shown)
        return answer
    except InputError as error:
        return error


def _work_out(answer: _Answer, shown: Estimate) -> None:
    """Work out what the rest of the page shows before any of it is sent; all of it is kept.

    What is sent while the browser draws would make it put the drawing off.
    """
    _drawn_curves(shown)
    if not shown.scenario.is_training:
        _drawn_load(shown)
    for plans in answer.found.tiers.values():
        if plans:
            _ = plans[0].cost
    _ = answer.savings


def _above(answer: _Answer) -> None:
    """Draw what stands above the meter: the verdict, what makes it fit, the three classes."""
    _verdict(answer.asked, answer.shown, answer.best)
    if answer.shown is not None and answer.shown.memory.fits is not True:
        _fixes(answer.shown, answer.savings)
    show_terms()
    _tiers(answer.found)


def _below(answer: _Answer, parameters: Mapping[str, str]) -> None:
    """Draw what stands below the meter: curves, speed, warnings, changes, reasons, the link."""
    if answer.shown is not None:
        _curves(answer.shown)
        _speed(answer.shown)
        _notices(answer.shown)
        _savings(answer.shown, answer.savings)
    show_nearest(answer.found, open_it=answer.shown is None)
    if answer.shown is not None:
        _why(answer.shown)
    _link(answer.asked, parameters)


def _limits(scenario: Scenario) -> views.Limits:
    return views.NO_LIMITS if scenario.is_training else speed_limits()


def _money(amount: Range, money: str) -> str:
    return numbers.money(amount.value, money, language())


def _verdict(asked: Scenario, answer: Estimate | None, best: Plan | None) -> None:
    if answer is None:
        model = numbers.plain(views.model_name(asked, language()))
        load = numbers.plain(views.load(asked, language()))
        text = words("verdict.none", model=model, load=load)
        limits = _limits(asked)
        if limits != views.NO_LIMITS:
            wanted = numbers.plain(views.limits_text(limits, language()))
            text = views.sentences(language(), text, words("limits.none", limits=wanted))
        st.error(text, icon=STATE_ICONS["bad"])
        return
    said = views.verdict(answer, language())
    text, state = said.text, said.state
    kept = views.limits_said(answer, _limits(answer.scenario), language())
    if kept is not None:
        text = views.sentences(language(), text, kept.text)
        if state == "good":
            state = kept.state
    for notice in answer.assumptions:
        if notice.code in ("layers_on_host", "experts_on_host"):
            text = views.sentences(language(), text, numbers.plain(notice.text(language())))
    if asked.hardware is None and best is not None:
        cheapest = words(
            "verdict.cheapest",
            price=numbers.plain(_money(best.cost.purchase, best.request.currency)),
            date=numbers.date(best.cost.price_date, language()),
        )
        text = views.sentences(language(), text, cheapest)
    box = {"good": st.success, "tight": st.warning, "bad": st.error}[state]
    box(text, icon=STATE_ICONS[state])


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
                state, colour = ("fits", "green") if saving.fits else ("not", "gray")
                st.badge(words(f"saving.{state}"), color=colour)
                st.button(
                    words("saving.apply"),
                    key=f"save_{saving.code}",
                    on_click=_change,
                    args=(answer, saving.changes),
                )
        st.caption(words("saving.note"))


def _tiers(found: Recommendation) -> None:
    for column, tier in zip(st.columns(len(TIERS)), TIERS):
        with column.container(border=True, height="stretch", key=f"tier_{tier}", gap="xsmall"):
            _tier(tier, found.tiers.get(tier, ()))


def plan_name(plan: Plan) -> str:
    """Return a plan's cards in use."""
    return views.cards(plan.gpu_count, plan.gpu)


def plan_facts(plan: Plan, tongue: str) -> list[str]:
    """Return the small print of a plan's card: headroom, speed, day of the price."""
    memory = plan.estimate.memory
    facts = [] if not plan.spare_gpus else [say("app.card.spare", tongue, count=plan.spare_gpus)]
    facts += [say("app.card.headroom", tongue, headroom=numbers.gib(memory.headroom_gib, tongue))]
    facts += [
        figure.short
        for figure in views.speeds(plan.estimate.performance, tongue)
        if figure.key in ("output_tokens_per_s", "train_tokens_per_s")
    ]
    limits = (plan.request.ttft_s_limit, plan.request.user_tokens_per_s_limit)
    users = views.carries(plan.scenario, limits, tongue)
    if users:
        facts.append(users)
    facts.append(say("app.card.date", tongue, date=numbers.date(plan.cost.price_date, tongue)))
    return facts


def _tier(tier: str, plans: Sequence[Plan]) -> None:
    st.markdown(f"{TIER_ICONS[tier]} **{words(f'tier.{tier}')}**")
    if not plans:
        st.caption(words("tier_none"))
        return
    plan = plans[0]
    st.markdown(f"##### {numbers.plain(plan_name(plan))}")
    money = plan.request.currency
    st.markdown(
        words(
            "card.price",
            price=numbers.plain(_money(plan.cost.purchase, money)),
            total=numbers.plain(_money(plan.cost.total, money)),
            years=plan.terms.years,
        )
    )
    st.caption(" · ".join(numbers.plain(fact) for fact in plan_facts(plan, language())))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            words("card.use"),
            key=f"use_{tier}",
            on_click=_use_plan,
            args=(plan,),
            disabled=form_of(plan.scenario, form()) == form(),
            help=words("help.use"),
        )
        # What is behind a button is worked out when it is opened.
        why = st.popover(words("why"), key=f"why_{tier}", type="tertiary", on_change="rerun")
        if why.open:
            with why:
                _plan_reasons(plan)
        if len(plans) > 1:
            others = st.popover(
                words("card.others"), key=f"others_{tier}", type="tertiary", on_change="rerun"
            )
            if others.open:
                with others:
                    _other_plans(tier, plans[1:])


def _plan_reasons(plan: Plan) -> None:
    for key, items in (("why", plan.why), ("limits", plan.limits)):
        if items:
            st.markdown(f"**{words(f'plan.{key}')}**")
            texts = [item.to_dict(language())["text"] for item in items]
            st.markdown("\n".join(f"- {numbers.plain(text)}" for text in texts))
    st.markdown(f"**{words('plan.bill')}**")
    st.table(bill(plan, language()), hide_index=True, border="horizontal")
    cost = plan.cost.to_dict(language())
    st.caption(
        words("plan.without", what=numbers.plain(", ".join(cost["exclusions"])))
        + " "
        + " ".join(numbers.plain(note["text"]) for note in cost["assumptions"])
    )
    st.caption(words("plan.sources", what=numbers.plain("; ".join(plan.cost.card.sources))))


def bill(plan: Plan, tongue: str) -> list[dict[str, str]]:
    """Return the bill of materials and the running costs, one row a line."""
    cost = plan.cost.to_dict(tongue)
    what, count = say("app.column.what", tongue), say("app.column.count", tongue)
    amount, day = say("app.column.amount", tongue), say("app.column.date", tongue)
    rows = [
        {
            what: line["text"],
            count: numbers.significant(line["quantity"] or 0, tongue, 6),
            amount: money_range(line["amount"], tongue),
            day: numbers.date(line["amount"]["price_date"], tongue),
        }
        for line in cost["lines"]
    ]
    total = say("app.cost.total", tongue, years=plan.terms.years)
    rows.append({what: total, count: "", amount: money_range(cost["total"], tongue), day: ""})
    return rows


def money_range(cost: Mapping[str, Any], tongue: str) -> str:
    """Return an amount with the range it lies in."""

    def shown(value: float) -> str:
        return numbers.money(value, cost["currency"], tongue)

    if cost["amount"] is None:
        return numbers.NONE
    low, high = cost["low"], cost["high"]
    if low is None or high is None or shown(low) == shown(high):
        return shown(cost["amount"])
    return f"{shown(cost['amount'])} ({shown(low)} – {shown(high)})"


def _other_plans(tier: str, plans: Sequence[Plan]) -> None:
    for place, plan in enumerate(plans):
        with st.container(horizontal=True, vertical_alignment="center"):
            price = _money(plan.cost.purchase, plan.request.currency)
            name = numbers.plain(plan_name(plan))
            st.markdown(f"**{name}** · {numbers.plain(price)}", width="stretch")
            st.button(
                words("card.use"), key=f"use_{tier}_{place}", on_click=_use_plan, args=(plan,)
            )


# --------------------------------------------------------------------------- pictures


def _meter(answer: Estimate) -> None:
    hardware = answer.scenario.hardware
    assert hardware is not None
    parts, limit, card, alt = views.meter(answer, language())
    name = numbers.plain(views.cards(hardware.gpu_count, hardware.gpu))
    st.markdown(f"**{words('meter.title', cards=name)}**")
    figure = charts.meter(parts, limit, card)
    st.plotly_chart(figure, key="meter", alt=alt, config=charts.CONFIG)


@lru_cache(maxsize=128)
def memory_curves(
    scenario_json: str, tongue: str, rule: bool = False
) -> tuple[tuple[charts.Curve, str], ...]:
    """Return the curves of a scenario and what each shows in words."""
    scenario = parse_scenario(json.loads(scenario_json))
    limit = architecture_of(scenario).context_length
    found = []
    for axis in curves.axes(scenario, limit, tongue):
        data = curves.curve(scenario, axis, tongue)
        if rule:
            data = curves.with_rule_of_thumb(data, scenario, axis, tongue)
        found.append((data, curves.curve_text(data, tongue)))
    return tuple(found)


def _drawn_curves(answer: Estimate) -> tuple[tuple[charts.Curve, str], ...]:
    text = answer.scenario.model_dump_json(exclude_none=True)
    return memory_curves(text, language(), bool(st.session_state.get("rule")))


def _curves(answer: Estimate) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words('curve.title')}**", width="content")
        st.space("stretch")
        st.toggle(words("curve.with_rule"), key="rule", help=words("help.rule"))
    for number, (column, (data, alt)) in enumerate(zip(st.columns(2), _drawn_curves(answer))):
        figure = charts.curve(data)
        column.plotly_chart(figure, key=f"curve_{number}", alt=alt, config=charts.CONFIG)
        column.caption(numbers.plain(alt))


def _speed(answer: Estimate) -> None:
    figures = views.speeds(answer.performance, language())
    if not figures:
        return
    st.markdown(f"**{words('speed.title')}**")
    if answer.memory.fits is False:
        st.caption(words("speed.not"))
        return
    for column, figure in zip(st.columns(len(figures)), figures):
        column.metric(figure.name, figure.value, help=figure.meaning)
        if figure.range:
            column.caption(words("speed.range", range=figure.range))
    bound = answer.performance.bound_by
    if bound:
        st.caption(words("speed.bound", what=views.option("bound_by", bound, language())))
    if not answer.scenario.is_training:
        _load_curve(answer)


@lru_cache(maxsize=128)
def load_curve(
    scenario_json: str, by: str, limits: views.Limits, tongue: str
) -> tuple[charts.LoadCurve, str]:
    """Return a scenario's load curve and what it shows in words."""
    data = curves.load_curve(parse_scenario(json.loads(scenario_json)), by, limits, tongue)
    return data, curves.load_text(data, limits, tongue)


def _drawn_load(answer: Estimate) -> tuple[charts.LoadCurve, str]:
    by = st.session_state.setdefault("_load_by", curves.LOAD_BY[0])
    text = answer.scenario.model_dump_json(exclude_none=True)
    return load_curve(text, by, _limits(answer.scenario), language())


def _load_curve(answer: Estimate) -> None:
    data, alt = _drawn_load(answer)
    seed("load_by", st.session_state["_load_by"])
    say_it = bound_words()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words('load_curve.title')}**", width="content")
        st.space("stretch")
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


def _notices(answer: Estimate) -> None:
    notices = sorted(answer.warnings, key=lambda n: SEVERITY[n.severity])
    if notices:
        st.markdown(f"**{words('warnings.title')}**")
        colour = {"error": "red", "warning": "orange", "info": "blue"}
        for notice in notices:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.badge(words(f"severity.{notice.severity}"), color=colour[notice.severity])
                st.markdown(numbers.plain(notice.text(language())), width="stretch")
                st.caption(numbers.plain(notice.code), width="content")
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
            st.markdown(f"**{said.name}: {said.result}**")
            if said.formula:
                st.code(f"{said.name} = {said.formula}", language=None, wrap_lines=True)
            if said.inputs:
                st.table(reason_rows(said, language()), hide_index=True, border="horizontal")
        st.markdown(f"**{words('sources')}**")
        for ref, origin in views.sources(answer, language()):
            st.markdown(f"- **{numbers.plain(ref)}**: {numbers.plain(origin)}")


def reason_rows(said: views.Reason, tongue: str) -> list[dict[str, str]]:
    """Return the figures of a formula; the source has a column where any is known."""
    known = any(origin for _, _, origin in said.inputs)
    what, value = say("app.column.what", tongue), say("app.column.value", tongue)
    return [
        {what: name, value: shown} | ({say("app.column.source", tongue): origin} if known else {})
        for name, shown, origin in said.inputs
    ]


# --------------------------------------------------------------------------- the link


def _link(asked: Scenario, shown: Mapping[str, str]) -> None:
    with st.expander(words("link_title"), key="link", icon=":material/link:"):
        st.caption(words("link_intro", date=numbers.date(catalog_version(), language())))
        st.code(share_url(st.context.url or "", shown), language=None, wrap_lines=True)
        if "up" in shown:
            st.warning(words("link_upload"), icon=":material/upload_file:")


def share_url(base: str, parameters: Mapping[str, str]) -> str:
    """Return the link as text, readable where the characters allow it."""
    from urllib.parse import urlencode

    return f"{base.split('?', 1)[0]}?{urlencode(parameters, safe='/:,')}"
