"""This machine: does the plan fit its GPUs now, what runs there, and the GPUs live.

Nothing is read until a link is opened, a check is asked for or the live view is switched on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import streamlit as st

from configurator import numbers
from configurator.app import charts, machine_jobs, views
from configurator.app import machine_view as view
from configurator.app.links import planner_link
from configurator.app.machine_measure import show_measure
from configurator.app.machine_reality import show_reality
from configurator.app.state import (
    language,
    language_switch,
    open_link,
    question,
    words,
)
from configurator.app.viewers import AUDIENCE_VARIABLE, sits_here
from configurator.catalog import match_gpu
from configurator.errors import InputError
from configurator.gpu_readers import GpuReading
from configurator.live import Recorder, Snapshot, csv_header, csv_rows, shared_probe
from configurator.processes import read_vllm_metrics
from configurator.units import GIB
from configurator.words import say

INTERVALS_S = (1, 2, 5)
SLOW_S = 5.0
KEPT_SAMPLES = 600
PAUSE_S = 30.0  # after so long without a reading the history begins anew
FRESH = 0.8  # of the interval: a reading younger than that is shared between tabs
RECORDINGS = Path("recordings")
LEAST_BETWEEN_S = 0.9  # two readings of a counter closer than this give no rate


# --------------------------------------------------------------------------- the page


@st.cache_resource
def _recorders() -> dict[str, Recorder]:
    """One recording a process: closing a tab does not stop it."""
    return {}


@st.cache_resource
def _kept() -> tuple[threading.Lock, deque[Snapshot]]:
    """What was read lately, by any tab."""
    return threading.Lock(), deque(maxlen=KEPT_SAMPLES)


def page() -> None:
    """Draw the page."""
    open_link()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.machine')}")
        st.space("stretch")
        language_switch()
    st.markdown(words("live.intro"))
    if not sits_here():
        st.info(words("live.remote", variable=AUDIENCE_VARIABLE), icon=":material/lock:")
        return
    _plan()
    with st.container(horizontal=True, vertical_alignment="bottom", key="live_controls"):
        watching = st.toggle(words("live.watch"), key="watch")
        every = None
        if watching:
            every = st.segmented_control(
                words("live.every"),
                INTERVALS_S,
                format_func=lambda s: f"{s} s",
                key="every",
                default=2,
                required=True,
            )
    if watching:
        st.fragment(_watch_plan, run_every=SLOW_S)()
        st.fragment(_watch, run_every=float(every or 2))()
        st.fragment(_watch_slowly, run_every=SLOW_S)()
        return
    snapshot = _shot()
    if snapshot is None:
        st.button(words("machine.check"), key="check", on_click=_check)
        st.caption(words("machine.off"))
        return
    _problems(snapshot)
    show_reality(snapshot)
    _jobs(view.answering(snapshot))
    if snapshot.gpus:
        show_measure(snapshot.gpus)
    with st.container(horizontal=True, vertical_alignment="center"):
        _stamp(snapshot)
        st.button(words("machine.again"), key="check", on_click=_check, icon=":material/refresh:")


def _plan() -> None:
    """Say what is asked, and what of the link could not be used."""
    problems = st.session_state.get("_problems") or ()
    if problems:
        with st.container(border=True, gap="xsmall"):
            st.caption(words("machine.link_problems"))
            for problem in problems:
                st.text(problem.text(language()))
    asked = question()
    if isinstance(asked, InputError):
        st.text(views.wrong(asked, language()))
        return
    tongue = language()
    values = {"model": views.model_name(asked, tongue), "load": views.load(asked, tongue)}
    if asked.hardware is None:
        text = words("machine.plan", **values)
    else:
        cards = views.cards(asked.hardware.gpu_count, asked.hardware.gpu)
        text = words("machine.plan_cards", cards=cards, **values)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(numbers.plain(text), width="content")
        planner_link(asked, words("machine.open_planner"), "open_plan", ":material/edit:")


# --------------------------------------------------------------------------- reading once


def _check() -> None:
    st.session_state["_shot"] = shared_probe(match_gpu).snapshot(0)


def _shot() -> Snapshot | None:
    """Return the snapshot of the last check; a link that was opened is one."""
    state = st.session_state
    query = {k: v for k, v in st.query_params.to_dict().items() if k != "lang"}
    if query and query != state.get("_shot_link"):
        state["_shot_link"] = query
        _check()
    found: Snapshot | None = state.get("_shot")
    return found


# --------------------------------------------------------------------------- live


def _watch_plan() -> None:
    show_reality(shared_probe(match_gpu).snapshot(FRESH * _every()))


def _every() -> float:
    return float(st.session_state.get("every") or 2)


def _watch() -> None:
    snapshot = shared_probe(match_gpu).snapshot(FRESH * _every())
    st.session_state["_shot"] = snapshot  # what stays when the view is switched off
    seen = _seen(snapshot)
    _problems(snapshot)
    if snapshot.gpus:
        _cards(seen)
    else:
        _stamp(snapshot)


def _seen(snapshot: Snapshot) -> tuple[Snapshot, ...]:
    """Return what any tab has read up to now, one history for all of them."""
    lock, kept = _kept()
    with lock:
        pause = (snapshot.timestamp - kept[-1].timestamp).total_seconds() if kept else PAUSE_S
        if pause >= PAUSE_S:
            kept.clear()
        if pause > 0:
            kept.append(snapshot)
        return tuple(kept)


def _watch_slowly() -> None:
    """Draw what does not change from second to second: what a job should hold, a recording."""
    snapshot = shared_probe(match_gpu).snapshot(SLOW_S / 2)
    _jobs(view.answering(snapshot))
    if snapshot.gpus:
        _keep()


def _problems(snapshot: Snapshot) -> None:
    for problem in snapshot.problems:
        box = st.info if snapshot.gpus else st.warning
        text = view.problem_text(problem, snapshot, language())
        box(numbers.plain(text), icon=":material/info:")


def _stamp(snapshot: Snapshot) -> None:
    st.caption(numbers.plain(view.stamp(snapshot, language())), width="content")


@st.cache_resource(max_entries=4, show_spinner=False)
def _drawn(
    last: datetime, tongue: str, explained: frozenset[int], _seen: Sequence[Snapshot]
) -> tuple[str, charts.Figure, str]:
    """Return the cards' tiles, what was seen of them and what holds them; made for all tabs."""
    gpus = _seen[-1].gpus
    memory, busy = [], []
    for position, gpu in enumerate(gpus):
        name = f"GPU {gpu.index}"
        past = [s.gpus[position] if position < len(s.gpus) else None for s in _seen]
        used = [r.memory_used_bytes if r else None for r in past]
        memory.append((name, tuple(None if held is None else held / GIB for held in used)))
        busy.append((name, tuple(r.utilization_percent if r else None for r in past)))
    totals = [g.memory_total_bytes / GIB for g in gpus if g.memory_total_bytes is not None]
    panels = (
        charts.Panel(say("app.live.memory_axis", tongue), max(totals, default=None), tuple(memory)),
        charts.Panel(say("app.live.busy_axis", tongue), 100, tuple(busy)),
    )
    figure = charts.history([snapshot.timestamp for snapshot in _seen], panels)
    return view.tiles(gpus, tongue), figure, view.below(_seen[-1], explained, tongue)


def _cards(seen: Sequence[Snapshot]) -> None:
    """Draw the cards in three pieces: each piece costs at every tick of every tab."""
    # A job's own box says its command; it need not be worked out anew at every reading.
    held = st.session_state.get("_known_jobs")
    jobs = held[1] if held else _known_jobs(view.answering(seen[-1]))
    explained = frozenset(pid for job in jobs for pid in job.pids)
    tiles, figure, below = _drawn(seen[-1].timestamp, language(), explained, seen)
    st.html(tiles)
    alt = f"{words('live.memory_axis')}; {words('live.busy_axis')}"
    st.plotly_chart(figure, key="live_history", alt=alt, config=charts.CONFIG)
    st.html(below)


# --------------------------------------------------------------------------- what runs here


def _known_jobs(gpus: Sequence[GpuReading]) -> list[machine_jobs.Job]:
    """Return the jobs on cards; estimated anew only when a process came, went or grew."""
    key = tuple(
        (gpu.index, gpu.memory_used_bytes, tuple((p.pid, p.memory_bytes) for p in gpu.processes))
        for gpu in gpus
        if gpu.processes
    )
    held = st.session_state.get("_known_jobs")
    if held is None or held[0] != key:
        held = st.session_state["_known_jobs"] = (key, machine_jobs.jobs(gpus))
    found: list[machine_jobs.Job] = held[1]
    return found


def _jobs(gpus: Sequence[GpuReading]) -> None:
    if not any(gpu.processes for gpu in gpus):
        return
    with st.container(border=True, key="jobs"):
        st.markdown(f"**{words('machine.jobs_title')}**")
        found = _known_jobs(gpus)
        if not found:
            st.caption(words("machine.jobs_none"))
        for at, job in enumerate(found):
            _job(at, job)


def _job(at: int, job: machine_jobs.Job) -> None:
    tongue = language()
    model = str(job.stated.get("model") or words("machine.job.unnamed"))
    cards = ", ".join(f"GPU {index}" for index in job.held)
    engine = views.option("engine", job.stated.get("engine", ""), tongue)
    st.text(words("machine.job_line", engine=engine, model=model, cards=cards))
    pids = ", ".join(map(str, job.pids))
    st.text(f"PID {pids} · {words('live.owner')} {job.owner or words('not_reported')}")
    if job.command:
        st.code(" ".join(job.command), language=None, wrap_lines=True)
    compared = machine_jobs.compare(job, tongue)
    if job.answer is None:
        st.text(words(f"machine.job.{job.problem}", model=model))
    elif compared is None:
        st.text(words("machine.job.no_actual"))
    else:
        st.markdown(compared.sentence)
        st.plotly_chart(
            charts.meter(compared.parts, compared.mark, compared.edge),
            key=f"job_{at}", alt=compared.sentence, config=charts.CONFIG,
        )  # fmt: skip
        _table((words("machine.part"), words("machine.size")), compared.rows)
        names = machine_jobs.assumed(job)
        if names:
            fields = [say(f"app.field.{name}", tongue) for name in names]
            said = words("machine.separator").join(fields)
            st.caption(words("machine.assumed", names=said))
    _metrics(job)
    if job.answer is not None:
        planner_link(job.answer.scenario, words("machine.open_this"), f"open_job_{at}")


@st.cache_data(ttl=1.0, max_entries=64, show_spinner=False)
def _figures(port: int) -> tuple[float, dict[str, float | None]]:
    """Return when a port was read and its figures; once a second for all tabs."""
    return time.monotonic(), read_vllm_metrics(port)


def _metrics(job: machine_jobs.Job) -> None:
    """Show what a server says of itself. Only ports of processes seen on a GPU are asked."""
    if job.port is None or job.stated.get("engine") != "vllm":
        return
    when, figures = _figures(job.port)
    if not figures:
        st.caption(words("machine.metrics_none", port=str(job.port)))
        return
    held: dict[int, list[tuple[float, Mapping[str, float | None]]]] = st.session_state.setdefault(
        "_figures_seen", {}
    )
    seen = held.setdefault(job.port, [])
    if not seen or when - seen[-1][0] >= LEAST_BETWEEN_S:
        seen.append((when, figures))
        del seen[:-2]
    before = seen[0] if len(seen) == 2 else None
    then, old = before if before is not None else (when, None)
    now, latest = seen[-1]
    st.markdown(machine_jobs.metrics_text(latest, old, now - then, language()))


# --------------------------------------------------------------------------- keeping


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a small table."""
    lines = [head, ["---"] * len(head), *(map(numbers.plain, row) for row in rows)]
    st.markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _csv() -> str:
    return csv_header() + "".join(csv_rows(snapshot) for snapshot in tuple(_kept()[1]))


def _keep() -> None:
    recorders = _recorders()
    running = recorders.get("one")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            words("live.csv"),
            _csv,
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
        st.error(numbers.plain(views.wrong(running.error, language())))
    problem = st.session_state.pop("_record_problem", None)
    if problem:
        st.error(numbers.plain(views.wrong(problem, language())))


_RECORDING = threading.Lock()


def _start() -> None:
    """Start the recording, unless another tab has started one."""
    with _RECORDING:
        running = _recorders().get("one")
        if running is None or not running.running:
            _record()


def _record() -> None:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    every = float(st.session_state.get("every") or 2)
    recorder = Recorder(shared_probe(match_gpu), RECORDINGS / f"gpus-{stamp}.csv", every)
    try:
        recorder.start()
    except InputError as error:
        st.session_state["_record_problem"] = error
        return
    _recorders()["one"] = recorder


def _stop() -> None:
    running = _recorders().get("one")
    if running is not None:
        running.stop()
