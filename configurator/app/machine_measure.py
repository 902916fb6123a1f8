"""Measured figures of a card here, in place of the catalog's: timed now, or read from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import streamlit as st
from pydantic import ValidationError

from configurator import numbers
from configurator.app.links import planner_link
from configurator.app.problems import show_problem
from configurator.app.state import language, question, words
from configurator.catalog import Gpu, load_catalog
from configurator.device import from_catalog
from configurator.errors import InputError
from configurator.gpu_readers import GpuReading
from configurator.scenario import CustomGpu, Hardware

SECONDS = 60
PATIENCE_S = 240.0  # starting torch and a busy card come on top of the minute
RATES = ("bf16", "fp16", "fp32")
# Not measured: as fast against bf16 as the catalog has it.
SCALED = ("fp8", "int8", "fp4")


def read_measured(text: str) -> CustomGpu:
    """Return the card that ``configurator measure`` printed.

    Raises:
        InputError: It is not such a print.
    """
    try:
        found = json.loads(text)
        return CustomGpu.model_validate(found["gpu"])
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        raise InputError("measure", "measured_print", text) from None


def completed(card: CustomGpu, gpu: Gpu | None) -> CustomGpu:
    """Return a measured card with what was not measured from the catalog's card of its kind.

    Its links are the catalog's; precisions that were not timed keep their ratio to bf16.
    """
    if gpu is None:
        return card
    device = from_catalog(gpu)
    link = gpu.link_bytes_per_s
    added: dict[str, Any] = {"domain_size": gpu.domain_size}
    if link:
        added["link_gbps"] = link / 1e9
    bf16 = device.rate("bf16")
    if card.bf16_tflops and bf16 > 0:
        for name in SCALED:
            if device.rate(name) > 0:
                added[f"{name}_tflops"] = card.bf16_tflops * float(device.rate(name) / bf16)
    return card.model_copy(update={k: v for k, v in added.items() if getattr(card, k) is None})


def rows(card: CustomGpu, gpu: Gpu | None, tongue: str) -> list[tuple[str, str, str]]:
    """Return what was measured beside the catalog's figure, and what part of it that is."""
    device = None if gpu is None else from_catalog(gpu)
    found = [("bandwidth", card.bandwidth_gbps, "GB/s",
              float(device.bandwidth_bytes_per_s) / 1e9 if device else None)]  # fmt: skip
    for name in RATES:
        value = getattr(card, f"{name}_tflops")
        if value is not None:
            rate = float(device.rate(name)) / 1e12 if device else None
            found.append((name, value, "TFLOP/s", rate))
    out = []
    for name, value, unit, listed in found:
        label = words("measure.bandwidth") if name == "bandwidth" else name.upper()
        against = words("not_reported")
        if listed is not None and listed > 0:
            part = numbers.percent(value / listed, tongue)
            against = f"{numbers.significant(listed, tongue)} {unit} ({part})"
        out.append((label, f"{numbers.significant(value, tongue)} {unit}", against))
    return out


def timed(index: int) -> CustomGpu:
    """Measure a card in a process of its own, so that its memory is free again afterwards.

    Raises:
        InputError: With what the measurement said of itself.
    """
    command = [sys.executable, "-m", "configurator.cli", "measure", "--index", str(index),
               "--seconds", str(SECONDS)]  # fmt: skip
    # The driver's order of the cards, and all of them, so that its index means the same card.
    environ = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        raise InputError("measure", "measure_slow", seconds=PATIENCE_S) from None
    if done.returncode == 0:
        return read_measured(done.stdout)
    try:
        said = json.loads(done.stderr.strip().splitlines()[-1])["error"]["message"]
    except (ValueError, KeyError, TypeError, IndexError):
        said = done.stderr.strip()[-300:] or f"ended with status {done.returncode}"
    raise InputError("measure", "measure_failed", index, reason=said)


def show_measure(gpus: Sequence[GpuReading]) -> None:
    """Offer to measure a card, or to read a measurement, and to plan with what was measured."""
    box = st.expander(
        words("measure.title"), icon=":material/speed:", key="measure", on_change="rerun"
    )
    if not box.open:
        return
    with box:
        st.caption(words("measure.intro", seconds=SECONDS))
        names = {gpu.index: f"GPU {gpu.index} · {gpu.name}" for gpu in gpus}
        index = st.selectbox(
            words("measure.which"), list(names), format_func=lambda at: names.get(at, ""),
            key="measure_which",
        )  # fmt: skip
        reading = next(gpu for gpu in gpus if gpu.index == index)
        if reading.processes:
            st.caption(words("measure.busy"))
        if find_spec("torch") is None:
            st.caption(words("measure.no_torch"))
        elif st.button(words("measure.run"), key="measure_run"):
            with st.spinner(words("measure.running")):
                _keep(index, lambda: timed(index))
        file = st.file_uploader(words("measure.file"), type=["json"], key="measure_file")
        if file is not None:
            content = file.getvalue().decode("utf-8", "replace")
            _keep(index, lambda: read_measured(content))
        held = st.session_state.get("_measured")
        if held is not None and held[0] == index:
            _show(held[1], reading)


def _keep(index: int, read: Any) -> None:
    try:
        st.session_state["_measured"] = (index, read())
    except InputError as error:
        show_problem(error, "measure.unreadable")


def _show(card: CustomGpu, reading: GpuReading) -> None:
    gpu = load_catalog().gpus.get(reading.catalog_id or "")
    heads = (words("column.what"), words("measure.measured"), words("measure.catalog"))
    table = [dict(zip(heads, row)) for row in rows(card, gpu, language())]
    st.table(table, hide_index=True, border="horizontal")
    asked = question()
    if isinstance(asked, InputError):
        return
    count = asked.hardware.gpu_count if asked.hardware is not None else 1
    hardware = Hardware(gpu=completed(card, gpu), gpu_count=count)
    planner_link(
        asked.model_copy(update={"hardware": hardware}), words("measure.use"), "measure_use"
    )
