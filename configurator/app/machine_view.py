"""What the machine page says of the cards: tiles, problems, who holds what. No Streamlit here."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from configurator import numbers
from configurator.app import views
from configurator.catalog import load_catalog
from configurator.gpu_readers import GpuReading, Problem
from configurator.live import Snapshot
from configurator.scenario import CustomGpu
from configurator.units import GIB
from configurator.words import say


def machine_say(key: str, tongue: str, **values: Any) -> str:
    """Return a sentence of the machine page."""
    return say(f"app.machine.{key}", tongue, **values)


# --------------------------------------------------------------------------- tiles and problems


@dataclass(frozen=True)
class Tile:
    """One GPU as the page shows it; what the card does not report says so."""

    title: str
    memory: str
    share: float | None
    facts: tuple[tuple[str, str], ...]


def _said(value: float | None, unit: str, tongue: str, digits: int = 0) -> str:
    if value is None:
        return say("app.not_reported", tongue)
    return f"{numbers.decimal(float(value), tongue, digits)} {unit}".strip()


def tile(gpu: GpuReading, tongue: str) -> Tile:
    """Return what a card's tile says."""
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    missing = say("app.not_reported", tongue)
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
        tuple((say(f"app.live.{name}", tongue), value) for name, value in zip(names, values)),
    )


def tiles(gpus: Iterable[GpuReading], tongue: str) -> str:
    """Return the tiles of cards as one piece of HTML; see ``page.css``."""
    label = say("app.live.memory", tongue)
    return (
        f'<div class="gpu-tiles">{"".join(_tile(tile(gpu, tongue), label) for gpu in gpus)}</div>'
    )


def _tile(said: Tile, label: str) -> str:
    bar = ""
    if said.share is not None:
        percent = f"{100 * min(1.0, said.share):.0f}"
        bar = (
            f'<div class="gpu-bar" role="meter" aria-valuemin="0" aria-valuemax="100"'
            f' aria-valuenow="{percent}" aria-label="{label}">'
            f'<div style="width:{percent}%"></div></div>'
        )
    rows = "".join(f"<dt>{escape(n)}</dt><dd>{escape(value)}</dd>" for n, value in said.facts)
    return (
        f'<div class="gpu-tile"><p>{escape(said.title)}</p>'
        f"<p>{label} <b>{escape(said.memory)}</b></p>{bar}<dl>{rows}</dl></div>"
    )


def stamp(snapshot: Snapshot, tongue: str) -> str:
    """Return when the cards were read, and under which driver."""
    time, unknown = snapshot.timestamp.strftime("%H:%M:%S"), say("app.not_reported", tongue)
    if not snapshot.gpus:
        return say("app.machine.read_at", tongue, time=time)
    driver, cuda = snapshot.driver or unknown, snapshot.cuda or unknown
    return say("app.live.stamp", tongue, time=time, driver=driver, cuda=cuda)


def below(snapshot: Snapshot, explained: Container[int], tongue: str) -> str:
    """Return what holds the cards and when they were read, as one piece of HTML.

    Args:
        snapshot: The reading.
        explained: Processes whose command is said elsewhere.
        tongue: Of the words.
    """
    unknown, found = say("app.not_reported", tongue), holders(snapshot.gpus)
    parts = []
    if found:
        heads = ("PID", "GPU", say("app.live.owner", tongue), say("app.live.memory", tongue))
        rows = [
            (str(h.pid), ", ".join(map(str, h.gpus)), h.owner or unknown,
             unknown if h.gib is None else numbers.gib(h.gib, tongue))
            for h in found
        ]  # fmt: skip
        parts.append(f"<p><b>{say('app.live.processes', tongue)}</b></p>")
        parts.append(f"<table><thead>{_row('th', heads)}</thead><tbody>")
        parts += [_row("td", row) for row in rows]
        parts.append("</tbody></table>")
        commands = [
            f"{h.pid}  {' '.join(h.command)}" for h in found if h.command and h.pid not in explained
        ]
        if commands:
            text = escape("\n".join(commands))
            parts.append(f"<small>{say('app.live.command', tongue)}</small><pre>{text}</pre>")
    parts.append(f"<small>{escape(stamp(snapshot, tongue))}</small>")
    return f'<div class="gpu-processes">{"".join(parts)}</div>'


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def problem_text(problem: Problem, snapshot: Snapshot, tongue: str) -> str:
    """Return a problem in a language; the reader's own English where there is no other."""
    name = next((g.name for g in snapshot.gpus if g.index == problem.gpu_index), "")
    if tongue == "en":
        return problem.message
    try:
        return say(f"app.live_problem.{problem.code}", tongue, index=problem.gpu_index, name=name)
    except KeyError:
        return problem.message


# --------------------------------------------------------------------------- the cards


def here(gpu: GpuReading) -> str | CustomGpu | None:
    """Return the card as a scenario names it: from the catalog, else by the values read.

    A MIG slice has its share of the whole card's bandwidth, as it has of its memory.
    """
    if gpu.catalog_id is not None:
        return gpu.catalog_id
    total, bandwidth = gpu.memory_total_bytes, gpu.memory_bandwidth_gbps
    parent = load_catalog().gpus.get(gpu.parent_catalog_id or "")
    if total is not None and parent is not None and parent.bandwidth_gb_s is not None:
        bandwidth = parent.bandwidth_gb_s.value * min(1.0, total / parent.memory_bytes)
    if total is None or bandwidth is None:
        return None
    return CustomGpu(
        name=gpu.name[:200],
        memory_gib=round(total / GIB, 3),
        bandwidth_gbps=round(bandwidth, 1),
    )


def free_gib(gpu: GpuReading) -> float | None:
    """Return what nobody holds of a card now; ``None`` if it is not reported."""
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    held = gpu.memory_used_bytes + (gpu.memory_reserved_bytes or 0)
    return max(0.0, (gpu.memory_total_bytes - held) / GIB)


def answering(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the GPUs that still answer."""
    lost = {p.gpu_index for p in snapshot.problems if p.code == "gpu_lost"}
    return tuple(gpu for gpu in snapshot.gpus if gpu.index not in lost)


def shares_memory(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the GPUs whose memory is the machine's (GB10, Jetson).

    A card that the catalog knows to have its own is not one, whatever it keeps silent about.
    """
    shared = {p.gpu_index for p in snapshot.problems if p.code == "unified_memory"}
    catalog = load_catalog().gpus
    return tuple(
        gpu
        for gpu in answering(snapshot)
        if gpu.index in shared
        and (gpu.catalog_id is None or catalog[gpu.catalog_id].usable_gib is not None)
    )


def with_system_memory(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the cards that share the machine's memory with that memory as theirs.

    Without any such card: one stand-in that is the machine's memory itself. It has no known
    bandwidth, so nothing but its memory may be spoken of (see `is_system_memory`).
    """
    total, free = snapshot.system_total_bytes, snapshot.system_available_bytes
    if total is None:
        return ()
    used = None if free is None else total - free
    shared = [g for g in shares_memory(snapshot) if here(g)]
    if shared:
        return tuple(replace(g, memory_total_bytes=total, memory_used_bytes=used) for g in shared)
    return (
        GpuReading(
            index=0, name=SYSTEM_MEMORY, memory_total_bytes=total, memory_used_bytes=used,
            memory_bandwidth_gbps=1.0,
        ),
    )  # fmt: skip


SYSTEM_MEMORY = "system memory"


def is_system_memory(gpu: str | CustomGpu) -> bool:
    """Whether a scenario's card is the stand-in for the machine's memory."""
    return isinstance(gpu, CustomGpu) and gpu.name == SYSTEM_MEMORY


def card_name(gpu: str | CustomGpu, tongue: str) -> str:
    """Return what a card of this machine is called."""
    return machine_say("system_memory", tongue) if is_system_memory(gpu) else views.gpu_name(gpu)


# --------------------------------------------------------------------------- who holds what


@dataclass(frozen=True)
class Holder:
    """A process on cards of this machine, with what it holds on all of them."""

    pid: int
    gib: float | None
    owner: str | None
    command: tuple[str, ...] | None
    gpus: tuple[int, ...]


def holders(gpus: Iterable[GpuReading]) -> list[Holder]:
    """Return the processes on cards, largest first, those of unknown size last."""
    found: dict[int, Holder] = {}
    for gpu in gpus:
        for process in gpu.processes or ():
            held = None if process.memory_bytes is None else process.memory_bytes / GIB
            known = found.get(process.pid)
            if known is None:
                found[process.pid] = Holder(
                    process.pid, held, process.owner, process.command, (gpu.index,)
                )
                continue
            sum_ = None if known.gib is None and held is None else (known.gib or 0) + (held or 0)
            places = tuple(dict.fromkeys((*known.gpus, gpu.index)))
            found[process.pid] = replace(known, gib=sum_, gpus=places)
    return sorted(found.values(), key=lambda h: (h.gib is None, -(h.gib or 0.0)))
