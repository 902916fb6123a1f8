"""The plan against this machine's cards: does it fit now, what to stop, what else to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import streamlit as st

from configurator import numbers
from configurator.app import machine_fit as fit
from configurator.app import machine_view as view
from configurator.app import views
from configurator.app.links import planner_link
from configurator.app.state import language, question, request_of, words
from configurator.errors import InputError
from configurator.gpu_readers import GpuReading
from configurator.live import Snapshot
from configurator.recommend import Plan, recommend
from configurator.recommend.request import parse_request
from configurator.scenario import Scenario
from configurator.units import GIB
from configurator.words import sentences

ICONS = {
    "good": ":material/check_circle:",
    "tight": ":material/warning:",
    "bad": ":material/cancel:",
}
SHOWN_PROCESSES = 6


def show_reality(snapshot: Snapshot) -> None:
    """Say whether the plan fits here now."""
    gpus: Sequence[GpuReading] = view.answering(snapshot)
    if _use_system(snapshot, gpus):
        gpus = view.with_system_memory(snapshot)
    if not gpus:
        return
    with st.container(border=True, key="reality"):
        st.markdown(f"**{words('machine.title')}**")
        asked = question()
        if isinstance(asked, InputError):
            st.text(views.wrong(asked, language()))
        else:
            _fit(asked, gpus, snapshot)


def _use_system(snapshot: Snapshot, gpus: Sequence[GpuReading]) -> bool:
    """Offer the machine's memory where no card has memory of its own; say whether it is chosen."""
    total, free = snapshot.system_total_bytes, snapshot.system_available_bytes
    if total is None or (gpus and not view.shares_memory(snapshot)):
        return False
    free_text = words("not_reported") if free is None else numbers.gib(free / GIB, language())
    return st.toggle(
        words(
            "machine.use_system",
            total=numbers.gib(total / GIB, language()),
            free=free_text,
        ),
        key="use_system",
    )


def _answered(
    asked: Scenario, gpus: Sequence[GpuReading], main_memory: int | None
) -> tuple[Any, list[fit.Instead]]:
    """Return the placing and what fits instead; worked out anew only when something moved."""
    cards = tuple(
        (
            gpu.uuid or gpu.index, gpu.catalog_id, gpu.memory_total_bytes,
            gpu.memory_reserved_bytes, (gpu.memory_used_bytes or 0) >> 24,
            tuple((p.pid, p.memory_bytes) for p in gpu.processes or ()),
        )
        for gpu in gpus
    )  # fmt: skip
    key = (asked.model_dump_json(), cards, main_memory)
    held = st.session_state.get("_placed")
    if held is None or held[0] != key:
        placing = fit.place(asked, gpus)
        less = []
        if placing is not None and placing.state in ("stop", "bad", "tight"):
            less = fit.instead(placing, None if main_memory is None else main_memory / GIB)
        held = st.session_state["_placed"] = (key, placing, less)
    return held[1], held[2]


def _fit(asked: Scenario, gpus: Sequence[GpuReading], snapshot: Snapshot) -> None:
    try:
        placing, less = _answered(asked, gpus, snapshot.system_total_bytes)
    except InputError as error:
        st.text(views.wrong(error, language()))
        return
    if placing is None:
        st.caption(words("machine.fit_unknown"))
        return
    said = fit.verdict(placing, asked, language())
    text, state = said.text, said.state
    hardware = placing.answer.scenario.hardware
    stand_in = hardware is not None and view.is_system_memory(hardware.gpu)
    if not stand_in:
        kept = views.kept(placing.answer, request_of(asked), language())
        if kept is not None:
            text = sentences(language(), text, kept.text)
            state = kept.state if state == "good" else state
    box = {"good": st.success, "tight": st.warning, "bad": st.error}[state]
    box(text, icon=ICONS[state])
    if stand_in:
        st.caption(words("machine.system_note"))
    own_memory = all(gpu in view.answering(snapshot) for gpu in placing.cards)
    if placing.state == "stop" and (own_memory or view.holders(placing.cards)):
        _stop_list(placing)
    if placing.state in ("stop", "bad", "tight"):
        _instead(placing, less, stand_in)
    if placing.state in ("stop", "bad") and not stand_in:
        _upgrade(placing)


def _stop_list(placing: fit.Placing) -> None:
    found = fit.to_stop(placing)
    short = numbers.gib(found.short_gib, language())
    if not found.processes:
        st.markdown(words("machine.stop_none", short=short))
        return
    st.markdown(f"**{words('machine.stop_title')}**")
    for holder in found.processes[:SHOWN_PROCESSES]:
        _holder(holder)
    more = len(found.processes) - SHOWN_PROCESSES
    if more > 0:
        st.text(f"+ {more}")
    if found.short_gib > 0:
        st.markdown(words("machine.stop_short", short=short))


def _holder(holder: view.Holder) -> None:
    held = words("not_reported") if holder.gib is None else numbers.gib(holder.gib, language())
    places = ", ".join(map(str, holder.gpus))
    st.text(
        f"PID {holder.pid} · {held} · {words('live.owner')} "
        f"{holder.owner or words('not_reported')} · {words('machine.where')} {places}"
    )
    if holder.command:
        st.code(" ".join(holder.command), language=None, wrap_lines=True)


def _instead(placing: fit.Placing, less: Sequence[fit.Instead], stand_in: bool) -> None:
    if placing.state == "tight" and not less:
        return
    title = "instead_tight" if placing.state == "tight" else "instead_title"
    st.markdown(f"**{words(f'machine.{title}')}**")
    if not less:
        st.caption(words("machine.instead_none"))
    for at, found in enumerate(less):
        text = fit.instead_text(found, language())
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(numbers.plain(text), width="content")
            if not stand_in:
                planner_link(found.scenario, words("machine.open_this"), f"open_instead_{at}")


@lru_cache(maxsize=32)
def _cheapest(request_json: str) -> tuple[Plan, ...]:
    """Return the plan with the least to pay now, and the one that keeps cards if it is another."""
    found = recommend(parse_request(json.loads(request_json)))
    bought = sorted(
        (plan for plan in found.plans if plan.bought), key=lambda plan: plan.cost.purchase.value
    )
    keeping = [plan for plan in bought if plan.owned]
    return (*bought[:1], *(plan for plan in keeping[:1] if plan is not bought[0]))


def _upgrade(placing: fit.Placing) -> None:
    bare = placing.answer.scenario.model_copy(update={"hardware": None})
    request = request_of(bare).model_copy(
        update={"owned": fit.owned(placing), "objective": "purchase"}
    )
    st.markdown(f"**{words('machine.upgrade_title')}**")
    try:
        plans = _cheapest(request.model_dump_json(exclude_none=True))
    except InputError:
        plans = ()
    if not plans:
        st.caption(words("machine.upgrade_none"))
    for at, plan in enumerate(plans):
        _offer(at, plan)


def _offer(at: int, plan: Plan) -> None:
    price = numbers.money(plan.cost.purchase.value, plan.request.currency, language())
    text = words(
        "machine.upgrade_keeps" if plan.owned else "machine.upgrade",
        bought=plan.bought,
        owned=plan.owned,
        card=numbers.plain(plan.name),
        price=numbers.plain(price),
        dates=plan.cost.dates_text(language()),
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(text, width="content")
        label = words("machine.upgrade_purchase")
        planner_link(plan.scenario, label, f"open_offer_{at}", ":material/shopping_cart:")
