"""Measured figures of a card on the machine page, instead of the catalog's."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from configurator import link
from configurator.app import machine_measure as measure
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.scenario import CustomGpu
from configurator.words import say
from tests.app.conftest import healthy, said
from tests.app.test_machine import CARD, H100, LINK, machine_of, opened

PRINTED = {
    "gpu": {"name": "NVIDIA H100 80GB HBM3 (measured)", "memory_gib": 79.1,
            "bandwidth_gbps": 3200.0, "bf16_tflops": 900.0, "fp16_tflops": 905.0,
            "fp32_tflops": 60.0},
    "measured": {"copy_gbps": 2900.0}, "timestamp": "2026-11-28T10:00:00+00:00", "torch": "2.11",
}  # fmt: skip


def with_box_open(language: str) -> AppTest:
    at = opened(language, {**LINK, "g": "h100-sxm", "c": "1"})
    at.session_state["measure"] = True
    return healthy(at.run())


def test_a_printed_measurement_is_read_and_planned_with(language: str) -> None:
    with machine_of(H100):
        at = with_box_open(language)
        content = json.dumps(PRINTED).encode()
        at.file_uploader(key="measure_file").set_value(("card.json", content, "application/json"))
        healthy(at.run())
    table = at.table[-1].value.to_string()
    assert "3,200" in table
    assert "GB/s" in table
    ways = [way.proto for way in at.get("page_link")]
    way = next(w for w in ways if w.label == say("app.measure.use", language))
    query = dict(parse_qsl(way.query_string))
    scenario, problems = link.decode(query)
    assert problems == []
    assert scenario.hardware is not None
    gpu = scenario.hardware.gpu
    assert isinstance(gpu, CustomGpu)
    assert gpu.bandwidth_gbps == 3200.0
    assert estimate(scenario).performance.tpot_s


def test_what_was_not_timed_is_the_catalogs() -> None:
    h100 = load_catalog().gpu("h100-sxm")
    card = measure.completed(CustomGpu.model_validate(PRINTED["gpu"]), h100)
    assert card.domain_size == h100.domain_size
    assert card.link_gbps == pytest.approx((h100.link_bytes_per_s or 0) / 1e9)
    fp8, bf16 = h100.flops("fp8"), h100.flops("bf16")
    assert fp8 is not None
    assert bf16 is not None
    assert card.fp8_tflops == pytest.approx(900 * fp8 / bf16)
    assert measure.completed(card, None) == card


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", '{"gpu": {"memory_gib": -1}}', "[" * 5000, '{"gpu": 3}']
)
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="configurator measure"):
        measure.read_measured(text)


def test_a_refused_file_is_said_on_the_page(language: str) -> None:
    with machine_of(CARD):
        at = with_box_open(language)
        at.file_uploader(key="measure_file").set_value(("x.json", b"{}", "application/json"))
        healthy(at.run())
    assert at.error


@pytest.mark.skipif(
    measure.find_spec("torch") is not None, reason="with torch installed there is nothing to refuse"
)
def test_without_torch_the_page_and_the_command_say_so(language: str) -> None:
    with machine_of(H100):
        assert say("app.measure.no_torch", language)[:20] in said(with_box_open(language))
    with pytest.raises(InputError, match="torch"):
        measure.timed(0)
