"""What purchasing needs: one plan's sheet, its files, own prices, and plans side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from configurator import numbers
from configurator.app import charts, state, views
from configurator.app.form import SPLITS, form_of
from configurator.app.front import show_front
from configurator.app.header import link_notices
from configurator.app.market import TIERS, best_plan, recommended
from configurator.app.market_inputs import market
from configurator.app.nearest import show_nearest, show_terms
from configurator.app.owned import show_owned
from configurator.app.plan_cards import bill, money_range, plan_name
from configurator.app.problems import problem_text, show_problem
from configurator.app.state import (
    buy,
    buying,
    form,
    language,
    language_switch,
    open_link,
    question,
    request_of,
    seed,
    words,
    write_link,
)
from configurator.cost.dates import When
from configurator.errors import InputError
from configurator.export.compare import MAX_PLANS, compare
from configurator.export.paper import paper_html, paper_json, paper_pdf
from configurator.export.prices import XLSX, prices_template, read_prices
from configurator.export.sheets import workbook
from configurator.link import share_url
from configurator.recommend import Plan, Recommendation, break_points, tornado
from configurator.recommend.request import Request
from configurator.scenario import Scenario
from configurator.words import bracketed, clauses, labelled, listed, say, sentences

SHOWN_PLANS = 5
YEARS = (1, 2, 3, 4, 5)
UTILISATIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
MAX_PROBLEMS = 12
MAX_STEPS = 6
MOST_TICKS = 5
MOST_PLANS = 100
DIFFERS = "≠"


def asked_of(scenario: Scenario, prices: Sequence[Any] = ()) -> Request:
    """Return what is asked for: the scenario without its cards, this session's terms, prices."""
    bare = scenario.model_copy(update={"hardware": None})
    return request_of(bare).model_copy(update={"prices": tuple(prices)})


def plans_of(found: Recommendation) -> dict[str, Plan]:
    """Return the plans to choose from by a name that stays: class of buyer and card."""
    return {
        f"{tier}:{plan.gpu}": plan
        for tier in TIERS
        for plan in found.tiers.get(tier, ())[:SHOWN_PLANS]
    }


def with_wanted(
    found: Recommendation, asked: Scenario, compared: Sequence[str], request: Request
) -> dict[str, Plan]:
    """Return the first plans and those that a link names though they are not among them.

    These are its own cards, in every class of buyer, in just that number where a class has such a
    plan, and the plans it lays side by side.
    """
    plans = plans_of(found)
    hardware = asked.hardware
    own = hardware.gpu if hardware is not None else None
    if hardware is not None and isinstance(own, str):
        exact = {f"{plan.tier}:{own}": plan for plan in found.exactly(own, hardware.gpu_count)}
        if not any(plan.gpu_count == hardware.gpu_count for plan in plans.values()
                   if plan.gpu == own):  # fmt: skip
            plans |= exact
    names = {name for name in compared if name not in plans}
    known = own is None or any(plan.gpu == own for plan in plans.values())
    if known and not names:
        return plans
    # All of them, so that their ranks are those among every card.
    every = request.model_copy(update={"plans": MOST_PLANS})
    more = recommended(every)
    return plans | {
        name: plan
        for tier in TIERS
        for plan in more.tiers.get(tier, ())
        if (name := f"{tier}:{plan.gpu}") not in plans and (plan.gpu == own or name in names)
    }


def plan_of(
    asked: Scenario, plans: Mapping[str, Plan], found: Recommendation
) -> tuple[str | None, bool]:
    """Return the name of the plan that a link means, and whether it is exactly what it asks.

    Its cards in that number, else its kind of card, else the cheapest plan.
    """
    best = best_plan(found)
    cheapest = next((name for name, plan in plans.items() if plan is best), None)
    if asked.hardware is None:
        return cheapest, True
    same = [name for name, plan in plans.items() if plan.gpu == asked.hardware.gpu]
    exact = (name for name in same if plans[name].gpu_count == asked.hardware.gpu_count)
    name = next(exact, None)
    return (name, True) if name else (same[0] if same else cheapest, False)


def label(name: str, plans: Mapping[str, Plan], tongue: str, tiers: Mapping[str, str]) -> str:
    """Return a plan's line in a list: class of buyer, cards, price. Never fails."""
    plan = plans.get(name)
    if plan is None:
        return name
    price = numbers.money(plan.cost.purchase.value, plan.request.currency, tongue)
    return f"{tiers[name.split(':')[0]]} · {plan_name(plan)} · {price}"


def page() -> None:
    """Draw the page."""
    open_link()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.purchase')}")
        st.space("stretch")
        language_switch()
    link_notices()
    asked = question()
    if isinstance(asked, InputError):
        show_problem(asked)
        return
    shown = write_link(asked)
    try:
        _sheet(asked, shown)
    except InputError as error:
        show_problem(error)


def _terms() -> None:
    """Show for how long and how busily; a link's own share of the time is offered as well."""
    left, right = st.columns(2)
    held = buying()
    seed("purchase_years", held.years or state.YEARS)
    left.segmented_control(
        words("purchase.years"), YEARS, key="purchase_years", required=True, on_change=_terms_chosen
    )
    use = held.utilisation or state.UTILISATION
    seed("purchase_utilisation", use)
    right.segmented_control(
        words("purchase.utilisation"),
        sorted({*UTILISATIONS, use}),
        format_func=lambda share: f"{share:.0%}",
        key="purchase_utilisation",
        required=True,
        on_change=_terms_chosen,
        help=words("purchase.utilisation_help"),
    )


def _terms_chosen() -> None:
    years, use = st.session_state["purchase_years"], st.session_state["purchase_utilisation"]
    if years in YEARS:
        buy(years=years)
    if use is not None:
        buy(utilisation=use)


def _market() -> None:
    box = st.expander(
        words("more_market"), icon=":material/tune:", key="more_market", on_change="rerun"
    )
    if box.open:
        with box:
            market(st.columns(3, gap="medium"))


def _own_prices() -> tuple[Any, ...]:
    with st.expander(words("purchase.own_prices"), icon=":material/request_quote:"):
        st.caption(words("purchase.own_prices_intro"))
        st.download_button(
            words("purchase.template"),
            partial(prices_template, language()),
            "prices.xlsx",
            XLSX,
            on_click="ignore",
        )
        file = st.file_uploader(words("purchase.upload"), type=["csv", "xlsx"], key="own_prices")
        if file is None:
            return ()
        try:
            prices, problems = read_prices(file.name, file.getvalue())
        except InputError as error:
            show_problem(error, "purchase.unreadable")
            return ()
        st.caption(words("purchase.read", count=len(prices), wrong=len(problems)))
        for problem in problems[:MAX_PROBLEMS]:
            line = words("purchase.line", line=problem.line, problem=problem_text(problem.error))
            st.text(line)
        return prices


def _sheet(asked: Scenario, shown: Mapping[str, str]) -> None:
    tongue = language()
    _terms()
    _market()
    prices = _own_prices()
    request = asked_of(asked, prices)
    show_owned(request)
    show_terms()
    found = recommended(request)
    plans = with_wanted(found, asked, buying().compared or (), request)
    if not plans:
        st.error(words("purchase.no_plan"), icon=":material/error:")
        show_nearest(found, open_it=True)
        return
    names, tiers = list(plans), {tier: words(f"tier.{tier}") for tier in TIERS}
    meant, exact = plan_of(asked, plans, found)
    st.session_state["purchase_plan"] = meant or names[0]
    chosen = st.selectbox(
        words("purchase.plan"),
        names,
        format_func=lambda name: label(name, plans, tongue, tiers),
        key="purchase_plan",
        on_change=_take_plan,
        args=(plans,),
    )
    plan = plans[chosen]
    if asked.hardware is not None and not exact:
        cards = views.cards(asked.hardware.gpu_count, asked.hardware.gpu)
        text = words(
            "purchase.other_cards",
            cards=numbers.plain(cards),
            plan=numbers.plain(plan_name(plan)),
        )
        st.info(text, icon=":material/info:")
    elif _splits_otherwise(asked, plan):
        st.info(words("purchase.other_split"), icon=":material/info:")
    _paper(plan, tongue)
    _files(plan, request, tongue)
    _cloud(plan, tongue)
    show_front(found, plan)
    _sensitivity(plan, tongue)
    st.caption(words("link_title"))
    st.code(share_url(st.context.url or "", shown), language=None, wrap_lines=True)
    _compare(plans, names, chosen, tongue, tiers)


def _splits_otherwise(asked: Scenario, plan: Plan) -> bool:
    """Whether a plan has the cards asked for but lays the model over them in another way."""
    own, taken = asked.hardware, plan.scenario.hardware
    if own is None or taken is None:
        return False
    return any(getattr(own, name) not in (None, getattr(taken, name)) for name in SPLITS)


def _take_plan(plans: Mapping[str, Plan]) -> None:
    plan = plans.get(st.session_state["purchase_plan"])
    if plan is not None:
        st.session_state["_form"] = form_of(plan.scenario, form())


def _paper(plan: Plan, tongue: str) -> None:
    said = views.verdict(plan.estimate, tongue)
    text = said.text
    if plan.beside is not None:
        load = numbers.plain(views.question(plan.beside.scenario, tongue))
        more = words("purchase.beside", count=plan.beside.gpu_count, load=load)
        text = sentences(tongue, text, more)
    st.markdown(text)
    cost = plan.cost.to_dict(tongue)
    per_million = "per_million_training" if plan.scenario.is_training else "per_million"
    figures = {
        words("purchase.purchase"): cost["purchase"],
        words("purchase.total", years=plan.terms.years): cost["total"],
        words(f"purchase.{per_million}"): cost.get("per_million_tokens"),
    }
    for column, (name, amount) in zip(st.columns(3), figures.items(), strict=True):
        if amount and amount["amount"] is not None:
            column.metric(name, numbers.money(amount["amount"], amount["currency"], tongue))
            low, high = amount["low"], amount["high"]
            if low is not None and high is not None and low < high:
                ends = [numbers.money(end, amount["currency"], tongue) for end in (low, high)]
                column.caption(numbers.plain(words("purchase.between", low=ends[0], high=ends[1])))
    st.table(bill(plan, tongue), hide_index=True, border="horizontal")
    without = views.not_included(cost, tongue)
    notes = (numbers.plain(note["text"]) for note in cost["assumptions"])
    st.caption(sentences(tongue, words("purchase.not_a_quotation"), without, *notes))


def _files(plan: Plan, request: Request, tongue: str) -> None:
    address = (st.context.url or "").split("?", 1)[0].removesuffix("purchase")
    made: tuple[tuple[str, str, str, Callable[[], bytes | str]], ...] = (
        ("excel", "plan.xlsx", XLSX, partial(workbook, plan, request, tongue, address)),
        ("html", "plan.html", "text/html", partial(paper_html, plan, request, tongue, address)),
        (
            "json", "plan.json", "application/json",
            lambda: json.dumps(paper_json(plan, request, tongue, address), ensure_ascii=False),
        ),
    )  # fmt: skip
    with st.container(horizontal=True):
        for name, file, mime, data in made:
            st.download_button(
                words(f"purchase.{name}"), data, file, mime, key=f"get_{name}", on_click="ignore"
            )
        if st.button(words("purchase.pdf"), key="make_pdf", help=words("purchase.pdf_help")):
            try:
                pdf = paper_pdf(plan, request, tongue, address)
            except InputError as error:
                st.warning(numbers.plain(error.text(tongue)), icon=":material/picture_as_pdf:")
            else:
                st.download_button(
                    words("purchase.pdf_ready"), pdf, "plan.pdf", "application/pdf",
                    key="get_pdf", on_click="ignore",
                )  # fmt: skip


def _cloud(plan: Plan, tongue: str) -> None:
    """Say what renting the same cards costs, and from when owning is cheaper."""
    cost, rented = plan.cost, plan.cost.to_dict(tongue)["cloud"]
    st.markdown(f"#### {words('purchase.cloud')}")
    if not cost.rents:
        st.caption(words("purchase.cloud_none"))
        return
    run = next((rent for rent in cost.rents if rent.run is not None), None)
    facts = ["hour", *(["run"] if run is not None else []), "rent", "share", "even", "use"]
    columns = {words("purchase.cloud_how"): [
        words(f"purchase.cloud_{fact}", years=cost.terms.years) for fact in facts
    ]}  # fmt: skip
    for rent in cost.rents:
        amounts = rented[rent.rental]
        month, use = rent.break_even_month, rent.break_even_utilisation
        share = numbers.percent(rent.own_share, tongue)
        if float(cost.staff.value):
            without = numbers.percent(rent.own_share_without_staff, tongue)
            share = bracketed(tongue, share, words("purchase.cloud_unstaffed", share=without))
        by_hour = rent.rental != "reserved"
        said = {
            "hour": money_range(amounts["per_gpu_hour"], tongue),
            "run": money_range(amounts["run"], tongue) if amounts["run"] else numbers.NONE,
            "rent": money_range(amounts, tongue),
            "share": share,
            "even": numbers.decimal(month, tongue, 1) if math.isfinite(month) else numbers.NONE,
            "use": numbers.percent(use if by_hour else None, tongue),
        }
        columns[words(f"purchase.cloud_{rent.rental}")] = [said[fact] for fact in facts]
    st.table(pd.DataFrame(columns), hide_index=True, border="horizontal")
    note = words(
        "purchase.cloud_note",
        cards=views.cards(plan.gpu_count, plan.gpu),
        busy=numbers.percent(cost.terms.utilisation, tongue),
        dates=When.together(rent.price.date for rent in cost.rents).text(tongue),
    )
    parts = [note]
    if run is not None and run.run is not None and plan.train_days is not None:
        text = words(
            "purchase.cloud_run_note",
            days=numbers.significant(plan.train_days, tongue, 2),
            how=words(f"purchase.cloud_{run.rental}"),
            rent=numbers.money(run.run.value, cost.terms.currency, tongue),
            years=cost.terms.years,
            times=numbers.significant(cost.total.value / run.run.value, tongue, 2),
        )
        parts.append(text)
    st.caption(numbers.plain(sentences(tongue, *parts)))


# How an assumption's ends are written: as money, as a share, else as a number.
_MONEY_SWINGS = ("card_price", "host_price", "tariff")
_SHARE_SWINGS = ("utilisation", "staff", "resale", "support")


def swing_end(code: str, value: float, currency: str, tongue: str) -> str:
    """Return one end of an assumption in its own unit."""
    if code in _MONEY_SWINGS:
        return numbers.money(value, currency, tongue)
    return f"{value:.0%}" if code in _SHARE_SWINGS else numbers.significant(value, tongue)


def money_ticks(low: float, high: float, currency: str, tongue: str) -> dict[str, Any]:
    """Return an axis's few round sums, written as money."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9)))
    step = next(s for s in (step / 2, step, 2 * step, 5 * step) if (high - low) / s <= MOST_TICKS)
    first = math.ceil(low / step)
    values = [step * n for n in range(first, math.floor(high / step) + 1)]
    return {
        "tickvals": values,
        "ticktext": [numbers.money(value, currency, tongue) for value in values],
    }


def tornado_figure(
    swings: Sequence[Any], now: float, names: Sequence[str], texts: Any, ticks: Any
) -> Any:
    """Return a bar for each assumption: the total at its lower and at its upper end."""
    data = []
    for end, colour in (("total_low", charts.COLOURS["weights"]), ("total_high", charts.LIMIT)):
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": list(names),
                "x": [getattr(swing, end) - now for swing in swings],
                "base": [now] * len(swings),
                "text": [texts(swing, end) for swing in swings],
                "textposition": "none",
                "hovertemplate": "%{y}: %{text}<extra></extra>",
                "marker": {"color": colour, "line": {"color": charts.OUTLINE, "width": 1}},
                "showlegend": False,
            }
        )
    layout = {
        "template": {},
        "barmode": "overlay",
        "height": 60 + 44 * len(names),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "yaxis": {"autorange": "reversed", "fixedrange": True, "automargin": True},
        "xaxis": {"gridcolor": charts.GRID, "fixedrange": True, "automargin": True, **ticks},
        "shapes": [
            {
                "type": "line", "x0": now, "x1": now, "y0": 0, "y1": 1, "yref": "paper",
                "line": {"color": charts.OUTLINE, "width": 2},
            }
        ],
    }  # fmt: skip
    return go.Figure({"data": data, "layout": layout}, _validate=False)


def _sensitivity(plan: Plan, tongue: str) -> None:
    swings = tornado(plan)
    if swings:
        st.markdown(f"#### {words('purchase.tornado', years=plan.terms.years)}")
        money = plan.request.currency
        now = plan.cost.total.value or 0.0

        def ends(swing: Any) -> list[str]:
            return [swing_end(swing.code, at, money, tongue) for at in (swing.low, swing.high)]

        plain = [say(f"cost.swing.{swing.code}", tongue) for swing in swings]
        names = [
            f"{name}<br>{' – '.join(ends(swing))}"
            for name, swing in zip(plain, swings, strict=True)
        ]

        def text(swing: Any, end: str) -> str:
            at = ends(swing)[0 if end == "total_low" else 1]
            return f"{at} → {numbers.money(getattr(swing, end), money, tongue)}"

        totals = [total for swing in swings for total in (swing.total_low, swing.total_high)]
        ticks = money_ticks(min(totals), max(totals), money, tongue)
        figure = tornado_figure(swings, now, names, text, ticks)
        ends_said = (text(swings[0], end) for end in ("total_low", "total_high"))
        widest = labelled(tongue, plain[0], clauses(tongue, ends_said))
        st.plotly_chart(
            figure,
            key="tornado",
            alt=words("purchase.tornado_alt", widest=widest),
            config=charts.CONFIG,
        )
        total = numbers.plain(numbers.money(now, money, tongue))
        st.caption(words("purchase.tornado_note", total=total))
    if plan.scenario.is_training:
        return
    box = st.expander(words("purchase.steps"), key="purchase_steps", on_change="rerun")
    if box.open:
        box.caption(words("purchase.steps_intro", card=numbers.plain(plan.name)))
        for axis in ("users", "context"):
            for step in break_points(plan, axis)[1:MAX_STEPS]:
                box.markdown(
                    words(
                        f"purchase.step_{axis}",
                        value=numbers.count(step.value, tongue),
                        cards=numbers.plain(views.cards(step.gpu_count, plan.gpu))
                        if step.gpu_count
                        else words("purchase.step_none"),
                    )
                )


def compared_plans(
    wanted: Sequence[str] | None, names: Sequence[str], chosen: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the plans to lay side by side, and what was wanted but is not among the plans.

    Args:
        wanted: As the link says; None for the plan chosen beside the first of every class of buyer.
        names: Of the plans there are, class by class, the best first.
        chosen: Plan of the sheet.
    """
    if wanted is None:
        first = {name.split(":")[0]: name for name in reversed(names)}
        return list(dict.fromkeys([chosen, *reversed(first.values())]))[:MAX_PLANS], []
    gone = [name for name in wanted if name not in names]
    return [name for name in wanted if name in names], [
        (tier, gpu) for tier, _, gpu in (name.partition(":") for name in gone)
    ]


def _compare_chosen() -> None:
    buy(compared=tuple(st.session_state["purchase_compare"] or ())[:MAX_PLANS])


def _compare(
    plans: Mapping[str, Plan], names: Sequence[str], chosen: str, tongue: str,
    tiers: Mapping[str, str],
) -> None:  # fmt: skip
    st.markdown(f"#### {words('purchase.compare')}")
    picked, gone = compared_plans(buying().compared, names, chosen)
    seed("purchase_compare", picked)
    st.multiselect(
        words("purchase.compare_what"),
        names,
        format_func=lambda name: label(name, plans, tongue, tiers),
        max_selections=MAX_PLANS,
        key="purchase_compare",
        on_change=_compare_chosen,
    )
    if gone:
        missing = listed(tongue, (f"{tiers[tier]} · {views.gpu_name(gpu)}" for tier, gpu in gone))
        st.info(words("purchase.compare_gone", plans=numbers.plain(missing)),
                icon=":material/info:")  # fmt: skip
    if len(picked) < 2:
        st.caption(words("purchase.compare_more"))
        return
    table = compared([plans[name] for name in picked], tongue)
    widths = {DIFFERS: 40, table.columns[1]: 210}
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height="content",
        column_config={c: st.column_config.TextColumn(width=w) for c, w in widths.items()},
    )
    st.caption(words("purchase.compare_note"))


def compared(plans: Sequence[Plan], tongue: str) -> pd.DataFrame:
    """Return plans side by side: ≠ marks rows that differ, ★ the best of a row."""
    heads = [f"{say(f'app.tier.{plan.tier}', tongue)} · {plan_name(plan)}" for plan in plans]
    rows, what = [], say("app.column.what", tongue)
    for row in compare(plans, tongue):
        cells = {
            head: f"★ {text}" if place in row.best else text
            for place, (head, text) in enumerate(zip(heads, row.texts, strict=True))
        }
        rows.append({DIFFERS: "≠" if row.differs else "", what: row.label, **cells})
    return pd.DataFrame(rows)
