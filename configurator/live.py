"""This machine's GPUs now: one snapshot for the page, the command line and a recording."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from configurator.errors import InputError
from configurator.gpu_readers import (
    NOT_REPORTED,
    Amd,
    GpuReading,
    Matcher,
    Nvml,
    Problem,
    Unavailable,
)
from configurator.processes import system_memory

REOPEN_PERIOD_S = 30.0  # after a GPU was lost: ask the driver again whether it is back
STOP_TIMEOUT_S = 5.0  # a driver that hangs must not hang the page
NO_GPU_STATUS = 3


@dataclass(frozen=True)
class Snapshot:
    """Everything read at one moment; ``system_*`` is this machine's own memory [bytes]."""

    timestamp: datetime
    gpus: tuple[GpuReading, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    problems: tuple[Problem, ...] = ()
    system_total_bytes: int | None = None
    system_available_bytes: int | None = None


class Probe:
    """Reads this machine's GPUs; safe to share between threads and sessions.

    Args:
        match: Finds a card in the catalog; without it every ``catalog_id`` is ``None``.
    """

    def __init__(self, match: Matcher | None = None) -> None:
        self._match = match
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._backend: Nvml | Amd | None = None
        self._opened_at = 0.0
        self._amd_problem: Problem | None = None
        self._amd_asked = False

    def snapshot(self, max_age_s: float = 0.5) -> Snapshot:
        """Return the last snapshot if it is at most ``max_age_s`` seconds old, else a new one.

        Never raises for a GPU, driver or library that does not answer: that is in ``problems``.
        """
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > max_age_s:
                snapshot = self._read()
                self._last = (time.monotonic(), snapshot)
            return self._last[1]

    def _read(self) -> Snapshot:
        now = time.monotonic()
        timestamp = datetime.now().astimezone()
        total, available = system_memory()
        try:
            backend = self._open(now)
        except Unavailable as missing:
            problems = [missing.problem, self._amd_problem]
            return Snapshot(
                timestamp,
                problems=tuple(problem for problem in problems if problem is not None),
                system_total_bytes=total,
                system_available_bytes=available,
            )
        gpus, found = backend.read(now)
        return Snapshot(timestamp, gpus, backend.driver, backend.cuda, found, total, available)

    def _open(self, now: float) -> Nvml | Amd:
        backend, known = self._backend, {}
        if isinstance(backend, Nvml):
            lost = any(device.handle is None for device in backend.devices)
            if not lost or now - self._opened_at < REOPEN_PERIOD_S:
                return backend
            known = {d.reading.index: d.reading.name for d in backend.devices}
            backend.close()
            self._backend = None
        elif backend is not None:
            return backend
        try:
            self._backend = Nvml(self._match, known)
        except Unavailable:
            self._backend = self._open_amd()  # once; NVML itself is cheap to ask again
            if self._backend is None:
                raise
        self._opened_at = now
        return self._backend

    def _open_amd(self) -> Amd | None:
        if self._amd_asked or importlib.util.find_spec("amdsmi") is None:
            return None
        self._amd_asked = True
        try:
            return Amd(self._match)
        except Unavailable as missing:
            self._amd_problem = missing.problem
            return None


_shared: Probe | None = None
_shared_lock = threading.Lock()


def shared_probe(match: Matcher | None = None) -> Probe:
    """Return this process's one probe; ``match`` counts on the first call."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Probe(match)
        return _shared


# --- as JSON, as CSV, as a recording -------------------------------------------------------------


def _gib(value: int | None) -> float | None:
    return None if value is None else round(value / 2**30, 4)


def _edge(name: str, value: Any) -> tuple[str, Any]:
    """Name and value of a field outside the engine: GiB for bytes, a list for a tuple."""
    if name.endswith("_bytes"):
        return name.removesuffix("_bytes") + "_gib", _gib(value)
    return name, list(value) if isinstance(value, tuple) else value


def snapshot_to_dict(snapshot: Snapshot) -> dict[str, Any]:
    """Return the contract's object: plain JSON values, ``None`` where a card is silent."""
    gpus = []
    for gpu in snapshot.gpus:
        row = dict(_edge(field.name, getattr(gpu, field.name)) for field in fields(gpu))
        if gpu.processes is not None:
            row["processes"] = [
                dict(_edge(field.name, getattr(process, field.name)) for field in fields(process))
                for process in gpu.processes
            ]
        gpus.append(row)
    return {
        "gpus": gpus,
        "driver": snapshot.driver,
        "cuda": snapshot.cuda,
        "timestamp": snapshot.timestamp.isoformat(timespec="milliseconds"),
        "problems": [
            {"code": p.code, "message": p.message, "gpu_index": p.gpu_index}
            for p in snapshot.problems
        ],
        "system_memory": {
            "total_gib": _gib(snapshot.system_total_bytes),
            "available_gib": _gib(snapshot.system_available_bytes),
        },
    }


def _mib(value: int | None) -> int | None:
    return None if value is None else value >> 20


# nvidia-smi's names and units (%, MiB, °C, W, MHz); the article's five columns first
CSV_COLUMNS: dict[str, Callable[[GpuReading], Any]] = {
    "name": lambda gpu: gpu.name,
    "utilization.gpu": lambda gpu: gpu.utilization_percent,
    "memory.used": lambda gpu: _mib(gpu.memory_used_bytes),
    "temperature.gpu": lambda gpu: gpu.temperature_c,
    "index": lambda gpu: gpu.index,
    "uuid": lambda gpu: gpu.uuid,
    "memory.total": lambda gpu: _mib(gpu.memory_total_bytes),
    "memory.reserved": lambda gpu: _mib(gpu.memory_reserved_bytes),
    "utilization.memory": lambda gpu: gpu.memory_utilization_percent,
    "power.draw": lambda gpu: gpu.power_w,
    "enforced.power.limit": lambda gpu: gpu.power_limit_w,
    "clocks.sm": lambda gpu: gpu.sm_clock_mhz,
    "clocks.mem": lambda gpu: gpu.memory_clock_mhz,
    "clocks_event_reasons": lambda gpu: "|".join(gpu.throttle_reasons or ()),
    "pcie.link.gen.current": lambda gpu: gpu.pcie_generation,
    "pcie.link.width.current": lambda gpu: gpu.pcie_width,
}
CSV_HEADER = ("timestamp", *CSV_COLUMNS, "problem")


def _csv_lines(rows: list[tuple[Any, ...]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def csv_header() -> str:
    """Return the header line."""
    return _csv_lines([CSV_HEADER])


def csv_rows(snapshot: Snapshot) -> str:
    """Return one line a GPU; an empty cell is "not reported"."""
    stamp = snapshot.timestamp.isoformat(timespec="milliseconds")
    return _csv_lines(
        [
            (
                stamp,
                *(read(gpu) for read in CSV_COLUMNS.values()),
                "|".join(p.code for p in snapshot.problems if p.gpu_index == gpu.index),
            )
            for gpu in snapshot.gpus
        ]
    )


class Recorder:
    """Appends a snapshot to a CSV file every ``interval_s`` seconds, in a thread of its own.

    Every sample is one write to the file, so what was sampled is there when a tab is closed or
    the process is killed. A file of an earlier recording is continued.

    Attributes:
        samples: How many snapshots this recorder has written.
        error: Why it stopped by itself (disk full, folder removed), or ``None``.
    """

    def __init__(self, probe: Probe, path: Path, interval_s: float = 1.0) -> None:
        self.probe = probe
        self.path = path
        self.interval_s = interval_s
        self.samples = 0
        self.error: InputError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._file: io.FileIO | None = None

    @property
    def running(self) -> bool:
        """Whether it is sampling now."""
        return self._thread is not None and self._thread.is_alive()

    def write(self, snapshot: Snapshot) -> None:
        """Append one snapshot; opens the file on the first.

        Raises:
            InputError: The file cannot be opened or holds another kind of table.
            OSError: The disk is full.
        """
        if self._file is None:
            self._file = _open_recording(self.path)
        self._file.write(csv_rows(snapshot).encode())
        self.samples += 1

    def start(self) -> None:
        """Write the first sample, then go on in the background; raises as `write` does."""
        if self.running:
            return
        self._stop.clear()
        self.error = None
        self.write(self.probe.snapshot(0))
        self._thread = threading.Thread(target=self._run, name="gpu-recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling and close the file."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _run(self) -> None:
        due = time.monotonic() + self.interval_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.interval_s, time.monotonic())
            try:
                self.write(self.probe.snapshot(self.interval_s / 2))
            except (OSError, ValueError) as error:  # ValueError: closed while the driver hung
                reason = getattr(error, "strerror", error)
                path = str(self.path)
                self.error = InputError("record", "record_unwritable", path, reason=reason)
                return


def _open_recording(path: Path) -> io.FileIO:
    """Open for appending; ends a half-written last line, writes the header of a new file."""
    header = csv_header().encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as closed:
            file = closed.enter_context(open(path, "ab+", buffering=0))
            file.seek(0)
            start = file.read(len(header))
            if start not in (b"", header):
                raise InputError("record", "other_table", str(path))
            if not start:
                file.write(header)
            else:
                file.seek(-1, io.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            closed.pop_all()  # the recorder closes it
            return file
    except OSError as error:
        raise InputError("record", "record_unwritable", str(path), reason=error.strerror) from None


# --- the command line ----------------------------------------------------------------------------


def run_live(
    *,
    as_json: bool = False,
    as_csv: bool = False,
    watch_s: float | None = None,
    record: Path | None = None,
    match: Matcher | None = None,
    out: TextIO | None = None,
    samples: int | None = None,
) -> int:
    """Print this machine's GPUs: a table, or one JSON object or CSV rows a sample.

    Args:
        as_json: One JSON object a line.
        as_csv: A header, then one row a GPU.
        watch_s: Seconds between samples, until Ctrl-C; once when ``None``.
        record: CSV file that every sample is appended to as well.
        match: Finds a card in the catalog.
        out: Where to print; standard output when ``None``.
        samples: Stop after so many; endless when ``None``.

    Returns:
        Exit status: 0, or 3 when no GPU was found.

    Raises:
        InputError: The file to record to cannot be used.
    """
    out = out or sys.stdout
    probe = shared_probe(match)
    recorder = Recorder(probe, record) if record else None
    show = _json_line if as_json else csv_rows if as_csv else _table
    done = 0
    try:
        if as_csv:
            out.write(csv_header())
        due = time.monotonic()
        while True:
            snapshot = probe.snapshot(0)
            if recorder is not None and snapshot.gpus:
                recorder.write(snapshot)
            if watch_s is not None and not (as_json or as_csv) and out.isatty():
                out.write("\x1b[2J\x1b[H")
            out.write(show(snapshot))
            out.flush()
            if as_csv:
                for problem in snapshot.problems if done == 0 else ():
                    print(problem.message, file=sys.stderr)
            if not snapshot.gpus and done == 0:
                return NO_GPU_STATUS
            done += 1
            if watch_s is None or done == samples:
                return 0
            due = max(due + watch_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `| head` has had enough; nothing more may be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 0
    finally:
        if recorder is not None:
            recorder.stop()


def _json_line(snapshot: Snapshot) -> str:
    return json.dumps(snapshot_to_dict(snapshot), ensure_ascii=False) + "\n"


def _said(*values: float | None, unit: str) -> str:
    if values[0] is None:
        return NOT_REPORTED
    return " / ".join(f"{value:.4g}" for value in values if value is not None) + f" {unit}"


def _table(snapshot: Snapshot) -> str:
    """Return the table a person reads, then each problem on a line."""
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    console = Console(file=text, width=110, highlight=False, markup=False)
    if snapshot.gpus:
        table = Table("#", "GPU", "Used", "Memory", "Temp.", "Power", "PCIe", "Processes", box=None)
        for gpu in snapshot.gpus:
            total = gpu.memory_total_bytes
            known = "" if gpu.catalog_id is None else f" ({gpu.catalog_id})"
            link = (gpu.pcie_generation, gpu.pcie_width)
            table.add_row(
                str(gpu.index),
                gpu.name + known,
                _said(gpu.utilization_percent, unit="%"),
                _said(_gib(gpu.memory_used_bytes), _gib(total), unit="GiB"),
                _said(gpu.temperature_c, unit="°C"),
                _said(gpu.power_w, gpu.power_limit_w, unit="W"),
                NOT_REPORTED if None in link else f"{link[0]}.0 ×{link[1]}",
                NOT_REPORTED if gpu.processes is None else str(len(gpu.processes)),
            )
        console.print(table)
        versions = (snapshot.driver or NOT_REPORTED, snapshot.cuda or NOT_REPORTED)
        console.print(f"Driver {versions[0]}, CUDA {versions[1]}")
    for problem in snapshot.problems:
        console.print(f"{problem.code}: {problem.message}")
    if not snapshot.gpus:
        available = _said(_gib(snapshot.system_available_bytes), unit="GiB")
        total_text = _said(_gib(snapshot.system_total_bytes), unit="GiB")
        console.print(f"This machine's memory: {total_text}, {available} of it available.")
    return text.getvalue()
