"""What all pages share: words in both languages, pure helpers, valid figures."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator import numbers
from configurator.app import charts, curves, views
from configurator.app.form import changed_fields, default_form, form_of, scenario_of
from configurator.app.own_model import clean_name
from configurator.app.presets import ladder, ladder_sizes, nearest_step, presets
from configurator.catalog import load_catalog
from configurator.estimate import estimate
from configurator.scenario import Hardware, Inference, Scenario, Training
from configurator.words import messages
from tests.app.conftest import said, start

APP = Path(__file__).parents[2] / "configurator" / "app"


def on(scenario: Scenario, gpu: str = "h100-sxm", count: int = 8) -> Scenario:
    return scenario.model_copy(update={"hardware": Hardware(gpu=gpu, gpu_count=count)})


def test_about(language: str) -> None:
    text = said(start(language, page="about"))
    assert str(len(load_catalog().gpus)) in text


def test_languages_have_the_same_keys_and_placeholders() -> None:
    english, chinese = messages("en"), messages("zh")
    own = {key for key in chinese if key.startswith("app.live_problem.")}
    assert set(english) - set(chinese) == set()
    assert set(chinese) - set(english) - own == set()
    for key, text in english.items():
        names = re.findall(r"\{(\w+)", text)
        assert sorted(set(names)) == sorted(set(re.findall(r"\{(\w+)", chinese[key]))), key


def test_no_chinese_outside_the_messages() -> None:
    allowed = {"Language / 语言", "简体中文"}
    for path in APP.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for piece in allowed:
            text = text.replace(piece, "")
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", text)
        assert not re.search(r"[\u4e00-\u9fff]", code), path


def test_every_message_of_the_page_is_used() -> None:
    files = [*APP.rglob("*.py"), *(APP.parent / "export").rglob("*.py")]
    source = "\n".join(p.read_text(encoding="utf-8") for p in files).replace("'", '"')
    families = re.findall(r'"(?:app\.)?([a-z_.-]+)\{', source)
    prefixes = {f"app.{family}" for family in families if family}
    for key in messages("en"):
        if not key.startswith("app."):
            continue
        name = key.removeprefix("app.")
        used = f'"{name}"' in source or f'"{key}"' in source
        assert used or any(key.startswith(prefix) for prefix in prefixes), key


def test_every_field_of_a_scenario_has_a_name(language: str) -> None:
    names = {*Inference.model_fields, *Training.model_fields, *Hardware.model_fields}
    for name in names:
        assert messages(language)[f"app.field.{name}"]


def test_nothing_unsafe() -> None:
    for path in APP.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "unsafe_allow" not in text, path
        assert "plotly.express" not in text, path
        assert "http://" not in text, path


@pytest.mark.parametrize("preset", presets(), ids=lambda p: p.id)
def test_presets_round_trip_through_the_form(preset) -> None:  # type: ignore[no-untyped-def]
    form = form_of(preset.scenario)
    assert scenario_of(form) == preset.scenario
    assert changed_fields(form, preset.scenario) == ()
    assert changed_fields({**form, "gpu": "l4"}, preset.scenario)[0] == "gpu"
    with_cards = on(preset.scenario)
    assert scenario_of(form_of(with_cards)) == with_cards


def test_default_form_is_a_question() -> None:
    assert scenario_of(default_form()).model == "Qwen/Qwen3-8B"


def test_ladder_climbs() -> None:
    assert list(ladder_sizes()) == sorted(ladder_sizes())
    assert nearest_step(7.9) == "Qwen/Qwen3-8B"
    assert nearest_step(1e6) == ladder()[-1]
    steps = [b / a for a, b in zip(ladder_sizes(), ladder_sizes()[1:])]
    assert max(steps) < 2.1


@pytest.mark.parametrize("preset", presets(), ids=lambda p: p.id)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_figures_are_valid_and_whole(preset, language: str) -> None:  # type: ignore[no-untyped-def]
    answer = estimate(on(preset.scenario))
    parts, limit, card, alt = views.meter(answer, language)
    drawn = sum(part.gib for part in parts if part.kind != "headroom")
    assert drawn == pytest.approx(answer.memory.required_gib, rel=0.02)
    assert all(part.text in alt for part in parts)
    figures = [charts.meter(parts, limit, card)]
    for axis in curves.axes(answer.scenario, answer.architecture.context_length, language):
        data = curves.curve(answer.scenario, axis, language)
        assert list(data.x) == sorted(data.x)
        at = data.x.index(data.now.value)
        assert data.y[at] == pytest.approx(answer.memory.required_gib)
        assert all(low <= y <= high for low, y, high in zip(data.low, data.y, data.high))
        assert curves.curve_text(data, language)
        figures.append(charts.curve(data))
    now, panel = datetime.now(), charts.Panel("GiB", 24.0, (("a", (1.0, None)),))
    figures.append(charts.history([now, now], (panel, panel)))
    for figure in figures:
        go.Figure(figure.to_plotly_json())  # raises on a property that Plotly does not have


def test_break_points_are_where_it_stops_fitting() -> None:
    scenario = on(presets()[0].scenario, "rtx-4090", 1)
    axis = curves.axes(scenario, 40960, "en")[0]
    first, *_ = curves.breaks(scenario, axis, "en")
    most = int(first.value)
    assert curves.need(curves.at(scenario, axis.path, most)).fits
    assert not curves.need(curves.at(scenario, axis.path, most + 1)).fits


def test_memory_alone_agrees_with_the_estimate() -> None:
    for preset in presets():
        scenario = on(preset.scenario)
        memory = estimate(scenario).memory
        need = curves.need(scenario)
        assert need.required == pytest.approx(memory.required_gib)
        assert need.budget == pytest.approx(memory.budget_gib)
        assert need.high == pytest.approx(memory.required_high_gib)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4375, "0.44 GiB"), (14.184523, "14.2 GiB"), (640.2, "640 GiB"), (1285.4, "1,285 GiB")],
)
def test_sizes(value: float, text: str) -> None:
    assert numbers.gib(value) == text


def test_numbers_by_language() -> None:
    assert numbers.money(12000, "CNY", "zh") == "¥1.2万"
    assert numbers.money(285000, "USD", "en") == "$285,000"
    assert numbers.count(123_000_000, "zh") == "1.23亿"
    assert numbers.date("20261124", "zh") == "2026年11月24日"
    assert numbers.date("2026-11-24", "en") == "Nov 24, 2026"
    assert numbers.seconds(0.0123, "en") == "12 ms"
    assert numbers.tokens(8192) == "8K"
    assert numbers.tokens_about(25856) == "25K"
    assert numbers.billions(1026.4) == "1.03T"
    assert numbers.rate(None, "en") == numbers.NONE


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_plain_text_stays_plain(text: str) -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark").enable("linkify", True).render(numbers.plain(text))
    assert "<a" not in html
    assert "<img" not in html
    assert "<strong" not in html
    assert "<h1" not in html


@pytest.mark.parametrize("name", ["../../etc/passwd", "<b>.json", "[x](y).json", "", "长.json"])
def test_file_names_are_cleaned(name: str) -> None:
    cleaned = clean_name(name)
    assert cleaned
    assert re.fullmatch(r"[A-Za-z0-9 ._-]{1,64}", cleaned)


@pytest.mark.parametrize("engine", ["vllm", "transformers", "llama_cpp"])
@pytest.mark.parametrize("path", ["inference__concurrency", "inference__context"])
def test_the_edge_of_what_fits_is_met(engine: str, path: str) -> None:
    precision = "q4_k_m" if engine == "llama_cpp" else "bf16"
    scenario = Scenario(
        model="Qwen/Qwen3-8B", precision=precision, engine=engine, inference=Inference(),
        hardware=Hardware(gpu="rtx-4090"),
    )  # fmt: skip
    axis = next(a for a in curves.axes(scenario, 40960, "en") if a.path == path)
    axis = replace(axis, high=1 << 20)
    edge = curves.largest(scenario, axis)
    assert edge > axis.low
    assert curves.need(curves.at(scenario, path, edge)).fits
    assert edge % axis.snap == 0
    assert not curves.need(curves.at(scenario, path, edge + axis.snap)).fits


def test_a_curve_above_its_limit_does_not_say_that_all_fits() -> None:
    scenario = Scenario(
        model="Qwen/Qwen3-32B", precision="bf16", engine="vllm",
        inference=Inference(concurrency=1), hardware=Hardware(gpu="rtx-4090"),
    )  # fmt: skip
    for axis in curves.axes(scenario, 40960, "en"):
        text = curves.curve_text(curves.curve(scenario, axis, "en"), "en")
        assert "fits everywhere" not in text
