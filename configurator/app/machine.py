"""This machine: the GPUs of the computer that the page runs on, live. Off until switched on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from configurator.app import charts, numbers, views
from configurator.app.form import scenario_of
from configurator.app.state import form, language, language_switch, open_session, words
from configurator.catalog import match_gpu
from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.gpu_readers import GpuReading, Problem
from configurator.live import Recorder, Snapshot, csv_header, csv_rows, shared_probe
from configurator.scenario import CustomGpu, Hardware, Scenario
from configurator.units import GIB

INTERVALS_S = (1, 2, 5)
KEPT_SAMPLES = 600
RECORDINGS = Path("recordings")
# Set to "any" to show the page to viewers on other machines as well.
AUDIENCE_VARIABLE = "CONFIGURATOR_LIVE_VIEWERS"


# --------------------------------------------------------------------------- pure


@dataclass(frozen=True)
class Tile:
    """One GPU as the page shows it; what the card does not report says so."""

    title: str
    memory: str
    share: float | None
    facts: tuple[tuple[str, str], ...]


def _said(value: float | None, unit: str, tongue: str, digits: int = 0) -> str:
    if value is None:
        return views.say("app.not_reported", tongue)
    return f"{numbers.decimal(float(value), tongue, digits)} {unit}".strip()


def tile(gpu: GpuReading, tongue: str) -> Tile:
    """Return what a card's tile says."""
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    missing = views.say("app.not_reported", tongue)
    memory = missing
    if used is not None and total is not None:
        memory = f"{numbers.gib(used / GIB, tongue)} / {numbers.gib(total / GIB, tongue)}"
    elif total is not None:
        memory = numbers.gib(total / GIB, tongue)
    link = missing
    if gpu.pcie_generation is not None and gpu.pcie_width is not None:
        link = f"{gpu.pcie_generation}.0 ×{gpu.pcie_width}"
    power = _said(gpu.power_w, "W", tongue)
    if gpu.power_w is not None and gpu.power_limit_w is not None:
        power = f"{numbers.decimal(gpu.power_w, tongue)} / {_said(gpu.power_limit_w, 'W', tongue)}"
    names = ("utilization", "temperature", "power", "clock", "pcie", "processes")
    values = (
        _said(gpu.utilization_percent, "%", tongue),
        _said(gpu.temperature_c, "°C", tongue),
        power,
        _said(gpu.sm_clock_mhz, "MHz", tongue),
        link,
        missing if gpu.processes is None else str(len(gpu.processes)),
    )
    return Tile(
        f"GPU {gpu.index} · {gpu.name}",
        memory,
        used / total if used is not None and total else None,
        tuple((views.say(f"app.live.{name}", tongue), value) for name, value in zip(names, values)),
    )


def problem_text(problem: Problem, snapshot: Snapshot, tongue: str) -> str:
    """Return a problem in a language; the reader's own English where there is no other."""
    name = next((g.name for g in snapshot.gpus if g.index == problem.gpu_index), "")
    if tongue == "en":
        return problem.message
    try:
        return views.say(
            f"app.live_problem.{problem.code}", tongue, index=problem.gpu_index, name=name
        )
    except KeyError:
        return problem.message


def here(gpu: GpuReading) -> str | CustomGpu | None:
    """Return the card as a scenario names it: from the catalog, else by the values read."""
    if gpu.catalog_id is not None:
        return gpu.catalog_id
    if gpu.memory_total_bytes is None or gpu.memory_bandwidth_gbps is None:
        return None
    return CustomGpu(
        name=gpu.name[:200],
        memory_gib=gpu.memory_total_bytes / GIB,
        bandwidth_gbps=gpu.memory_bandwidth_gbps,
    )


@dataclass(frozen=True)
class Fit:
    """Whether the planner's question fits this machine, alone and beside what runs."""

    answer: Estimate
    free_gib: float | None

    @property
    def beside(self) -> bool | None:
        """Whether it fits into what is free now on the fullest card; None if not reported."""
        if self.free_gib is None:
            return None
        return self.answer.memory.required_gib <= self.free_gib


def fit_here(scenario: Scenario, gpus: Sequence[GpuReading]) -> Fit | None:
    """Return how the scenario does on this machine's like cards; None without a usable card.

    Raises:
        InputError: The scenario cannot be split over these cards.
    """
    cards = [gpu for gpu in gpus if here(gpu) is not None]
    if not cards:
        return None
    first = here(cards[0])
    like = [gpu for gpu in cards if here(gpu) == first]
    assert first is not None
    on = scenario.model_copy(update={"hardware": Hardware(gpu=first, gpu_count=len(like))})
    frees = [
        (gpu.memory_total_bytes - gpu.memory_used_bytes) / GIB
        for gpu in like
        if gpu.memory_total_bytes is not None and gpu.memory_used_bytes is not None
    ]
    return Fit(estimate(on), min(frees) if len(frees) == len(like) else None)


# --------------------------------------------------------------------------- the page


def is_loopback(address: str | None) -> bool:
    """Whether a viewer's address is this machine's own; Streamlit gives none on loopback."""
    return not address or address == "::1" or address.startswith("127.")


def _allowed() -> bool:
    """Whether the viewer sits at this machine, or all may look. Not a lock: a courtesy."""
    return os.environ.get(AUDIENCE_VARIABLE) == "any" or is_loopback(st.context.ip_address)


@st.cache_resource
def _recorders() -> dict[str, Recorder]:
    """One recording a process: closing a tab does not stop it."""
    return {}


def page() -> None:
    """Draw the page."""
    open_session()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.machine')}")
        st.space("stretch")
        language_switch()
    st.markdown(words("live.intro"))
    if not _allowed():
        st.info(words("live.remote", variable=AUDIENCE_VARIABLE), icon=":material/lock:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        watching = st.toggle(words("live.watch"), key="watch")
        every = st.segmented_control(
            words("live.every"),
            INTERVALS_S,
            format_func=lambda s: f"{s} s",
            key="every",
            default=2,
            required=True,
            disabled=not watching,
        )
    if not watching:
        st.caption(words("live.off"))
        return
    st.fragment(_watch, run_every=float(every or 2))()


def _watch() -> None:
    every = float(st.session_state.get("every") or 2)
    snapshot = shared_probe(match_gpu).snapshot(every / 2)
    seen: deque[Snapshot] = st.session_state.setdefault("_seen_gpus", deque(maxlen=KEPT_SAMPLES))
    if not seen or seen[-1].timestamp != snapshot.timestamp:
        seen.append(snapshot)
    tongue = language()
    for problem in snapshot.problems:
        box = st.info if snapshot.gpus else st.warning
        box(numbers.plain(problem_text(problem, snapshot, tongue)), icon=":material/info:")
    if not snapshot.gpus:
        _system_memory(snapshot)
        return
    for row in range(0, len(snapshot.gpus), 4):
        for column, gpu in zip(st.columns(4), snapshot.gpus[row : row + 4]):
            _tile(column, tile(gpu, tongue))
    _history(list(seen))
    _fit(snapshot)
    _processes(snapshot)
    _keep(list(seen))
    st.caption(
        words(
            "live.stamp",
            time=snapshot.timestamp.strftime("%H:%M:%S"),
            driver=snapshot.driver or words("not_reported"),
            cuda=snapshot.cuda or words("not_reported"),
        )
    )


def _system_memory(snapshot: Snapshot) -> None:
    total, free = snapshot.system_total_bytes, snapshot.system_available_bytes
    if total is not None and free is not None:
        st.markdown(
            words(
                "live.system",
                total=numbers.gib(total / GIB, language()),
                free=numbers.gib(free / GIB, language()),
            )
        )


def _tile(column: Any, said: Tile) -> None:
    with column.container(border=True):
        st.text(said.title)
        st.markdown(f"**{numbers.plain(said.memory)}**")
        if said.share is not None:
            st.progress(min(1.0, said.share))
        st.caption("  \n".join(f"{name}: {numbers.plain(value)}" for name, value in said.facts))


def _history(seen: Sequence[Snapshot]) -> None:
    times: list[datetime] = [snapshot.timestamp for snapshot in seen]
    last = seen[-1].gpus
    memory, busy = [], []
    for position, gpu in enumerate(last):
        name = f"GPU {gpu.index}"
        rows = [s.gpus[position] if position < len(s.gpus) else None for s in seen]
        memory.append(
            (name, [None if r is None or r.memory_used_bytes is None else r.memory_used_bytes / GIB
                    for r in rows])
        )  # fmt: skip
        busy.append((name, [None if r is None else r.utilization_percent for r in rows]))
    totals = [g.memory_total_bytes / GIB for g in last if g.memory_total_bytes is not None]
    left, right = st.columns(2)
    left.plotly_chart(
        charts.history(times, memory, words("live.memory_axis"), max(totals, default=None)),
        key="live_memory", alt=words("live.memory_axis"), config=charts.CONFIG,
    )  # fmt: skip
    right.plotly_chart(
        charts.history(times, busy, words("live.busy_axis"), 100),
        key="live_busy", alt=words("live.busy_axis"), config=charts.CONFIG,
    )  # fmt: skip


def _fit(snapshot: Snapshot) -> None:
    st.markdown(f"**{words('live.fit_title')}**")
    try:
        scenario = scenario_of(form())
        found = fit_here(scenario, snapshot.gpus)
    except InputError as error:
        st.text(f"{error.field}: {error.message}")
        return
    if found is None:
        st.caption(words("live.fit_unknown"))
        return
    said = views.verdict(found.answer, language())
    text = said.text
    if found.beside is not None and said.state != "bad":
        key = "live.beside_yes" if found.beside else "live.beside_no"
        need = numbers.gib(found.answer.memory.required_gib, language())
        free = numbers.gib(found.free_gib or 0.0, language())
        text += " " + words(key, need=need, free=free)
    {"good": st.success, "tight": st.warning, "bad": st.error}[said.state](text)


def _processes(snapshot: Snapshot) -> None:
    rows = []
    for gpu in snapshot.gpus:
        for process in gpu.processes or ():
            held = process.memory_bytes
            command = " ".join(process.command or ()) or words("not_reported")
            rows.append(
                {
                    "GPU": gpu.index,
                    "PID": process.pid,
                    words("live.owner"): process.owner or words("not_reported"),
                    words("live.memory"): words("not_reported")
                    if held is None
                    else numbers.gib(held / GIB, language()),
                    words("live.command"): command[:200],
                }
            )
    if rows:
        st.markdown(f"**{words('live.processes')}**")
        st.dataframe(rows, hide_index=True, alt=words("live.processes"))


def _keep(seen: Sequence[Snapshot]) -> None:
    recorders = _recorders()
    running = recorders.get("one")
    with st.container(horizontal=True, vertical_alignment="center"):
        text = csv_header() + "".join(csv_rows(snapshot) for snapshot in seen)
        st.download_button(
            words("live.csv", count=len(seen)),
            text,
            file_name="gpus.csv",
            mime="text/csv",
            key="live_csv",
            icon=":material/download:",
            on_click="ignore",
        )
        if running is not None and running.running:
            st.button(words("live.stop"), key="record_stop", on_click=_stop, icon=":material/stop:")
            st.caption(words("live.recording", file=str(running.path), count=running.samples))
        else:
            st.button(
                words("live.record"),
                key="record_start",
                on_click=_start,
                icon=":material/fiber_manual_record:",
            )
            if running is not None and running.samples:
                st.caption(words("live.recorded", file=str(running.path), count=running.samples))
    if running is not None and running.error:
        st.error(numbers.plain(running.error))
    problem = st.session_state.pop("_record_problem", None)
    if problem:
        st.error(numbers.plain(problem))


def _start() -> None:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    every = float(st.session_state.get("every") or 2)
    recorder = Recorder(shared_probe(match_gpu), RECORDINGS / f"gpus-{stamp}.csv", every)
    try:
        recorder.start()
    except (InputError, OSError) as error:
        st.session_state["_record_problem"] = str(error)
        return
    _recorders()["one"] = recorder


def _stop() -> None:
    running = _recorders().get("one")
    if running is not None:
        running.stop()
