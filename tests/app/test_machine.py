"""The live page, without a driver and with GPUs made up by patching one method."""

from __future__ import annotations

from datetime import datetime
from unittest.mock import patch

import pytest

from configurator.app.machine import fit_here, is_loopback, problem_text, tile
from configurator.app.presets import presets
from configurator.gpu_readers import MESSAGES, GpuReading, Problem
from configurator.live import Probe, Snapshot
from configurator.words import messages
from tests.app.conftest import healthy, said, start

GIB = 2**30
CARD = GpuReading(
    index=0, name="NVIDIA GeForce RTX 4090", catalog_id="rtx-4090",
    memory_total_bytes=24564 << 20, memory_used_bytes=2 * GIB, utilization_percent=37,
    temperature_c=51, power_w=120.0, power_limit_w=450.0, processes=(),
)  # fmt: skip
SILENT = GpuReading(index=1, name="<b>[odd](card)</b>")


def test_off_by_default(language: str) -> None:
    with patch.object(Probe, "snapshot") as snapshot:
        at = start(language, page="machine")
    snapshot.assert_not_called()
    assert at.toggle(key="watch").value is False


def test_no_driver_is_said_plainly(language: str) -> None:
    missing = Snapshot(
        datetime.now().astimezone(),
        problems=(Problem("nvml_missing", MESSAGES["nvml_missing"]),),
        system_total_bytes=64 * GIB, system_available_bytes=32 * GIB,
    )  # fmt: skip
    with patch.object(Probe, "snapshot", return_value=missing):
        at = start(language, page="machine")
        at.toggle(key="watch").set_value(True)
        healthy(at.run())
    assert at.warning
    assert "NVIDIA" in said(at)
    assert "32.0 GiB" in said(at)


def test_cards_are_shown(language: str) -> None:
    seen = Snapshot(datetime.now().astimezone(), (CARD, SILENT), "580.1", "13.0")
    with patch.object(Probe, "snapshot", return_value=seen):
        at = start(language, page="machine")
        at.toggle(key="watch").set_value(True)
        healthy(at.run())
    text = said(at)
    assert "37 %" in text
    assert messages(language)["app.not_reported"] in text
    assert len(at.get("plotly_chart")) == 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_problem_has_words(language: str) -> None:
    snapshot = Snapshot(datetime.now().astimezone(), (CARD,))
    for code, message in MESSAGES.items():
        text = problem_text(Problem(code, message, 0), snapshot, language)
        assert text
        if language == "zh":
            assert any("\u4e00" <= c <= "\u9fff" for c in text), code


def test_silence_is_not_zero() -> None:
    said_ = tile(SILENT, "en")
    assert said_.share is None
    assert all("not reported" in value for _, value in said_.facts)


def test_fit_here() -> None:
    scenario = presets()[-3].scenario
    found = fit_here(scenario, [CARD])
    assert found is not None
    assert found.beside is True
    assert found.answer.scenario.hardware is not None
    assert found.answer.scenario.hardware.gpu_count == 1
    assert fit_here(scenario, [SILENT]) is None


def test_loopback() -> None:
    assert is_loopback(None)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("10.0.0.4")
