"""The techniques page: each on the question of the session, in both languages, with its code."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from configurator import link, numbers
from configurator.app import techniques_charts
from configurator.app.presets import presets
from configurator.app.techniques_page import STATES, WITH_NUMBERS
from configurator.estimate import estimate
from configurator.scenario import Hardware, Scenario
from configurator.techniques import techniques
from configurator.words import say
from tests.app.conftest import LOCALES, SCRIPT, healthy, said, start

PAGE = "configurator/app/pages/techniques.py"
CARDS: dict[str, dict[str, Any]] = {
    "chat-10": {"gpu": "l40s", "gpu_count": 1},
    "qlora-8b": {"gpu": "rtx-4090", "gpu_count": 1},
    "pretrain-65b": {"gpu": "h100-sxm", "gpu_count": 64, "tensor_parallel": 8},
    "r1-671b": {"gpu": "h200-sxm", "gpu_count": 8},
}
NAMED = ("chat-10", "qlora-8b", "pretrain-65b")


def on_cards(preset: str) -> Scenario:
    scenario = next(p.scenario for p in presets() if p.id == preset)
    return scenario.model_copy(update={"hardware": Hardware(**CARDS[preset])})


def direct(language: str = "en", **query: str) -> AppTest:
    """Open the page by its own link, never having seen another."""
    at = AppTest.from_file(str(SCRIPT), default_timeout=30)
    at.context = {"locale": LOCALES[language], "url": "http://localhost:8501/techniques"}
    for name, value in query.items():
        at.query_params[name] = value
    at.switch_page(PAGE)
    return at.run()


def links(at: AppTest) -> list[str]:
    return [str(found.proto.query_string) for found in at.get("page_link")]


def open_details(at: AppTest, code: str) -> AppTest:
    at.session_state[f"technique_more_{code}"] = True
    return healthy(at.run())


@pytest.mark.parametrize("preset", NAMED)
def test_page_by_its_link(preset: str, language: str) -> None:
    scenario = on_cards(preset)
    at = healthy(direct(language, **link.encode(scenario)))
    text = said(at)
    found = techniques(estimate(scenario).scenario)
    for technique in found:
        assert technique.name(language) in text
        assert technique.what(language) in text
    assert not at.error
    assert not at.warning
    spec = json.loads(at.get("plotly_chart")[0].proto.spec)
    shown = [t for t in found if t.before is not None]
    assert [len(trace["x"]) for trace in spec["data"]] == [len(shown)] * 2
    # One link a technique with numbers, and the one that leads to the question itself.
    assert len(links(at)) == len(shown) + 1


@pytest.mark.parametrize("preset", NAMED)
def test_details_have_figures_parts_and_code(preset: str, language: str) -> None:
    scenario = on_cards(preset)
    at = direct(language, **link.encode(scenario))
    technique = next(t for t in techniques(scenario) if t.state == "available")
    open_details(at, technique.code)
    assert [tab.label.replace("\\", "") for tab in at.tabs] == [
        file.name for file in technique.code_files(language)
    ]
    assert [block.value for block in at.code] == [
        file.text.strip() for file in technique.code_files(language)
    ]
    drawn = ["overview", "parts"]
    if not scenario.is_training and technique.speed_ratio is not None:
        drawn.append("by load")
    assert len(at.get("plotly_chart")) == len(drawn)
    assert say("app.techniques.figure_required_gib", language) in said(at)


def test_link_applies_the_technique_in_the_planner() -> None:
    scenario = on_cards("chat-10")
    at = healthy(direct(**link.encode(scenario)))
    fp8 = next(t for t in techniques(scenario) if t.code == "weights_8bit")
    assert fp8.scenario is not None
    assert any("w=fp8" in query for query in links(at))
    again, problems = link.decode(parameters_with(at, "w=fp8"))
    assert not problems
    assert again == fp8.scenario


def parameters_with(at: AppTest, part: str) -> dict[str, str]:
    return dict(parse_qsl(next(query for query in links(at) if part in query)))


def test_technique_in_use_is_taken_away() -> None:
    at = healthy(direct(**link.encode(on_cards("qlora-8b"))))
    off = [query for query in links(at) if "ckpt=0" in query]
    assert len(off) == 1


def test_cards_left_open_are_chosen(language: str) -> None:
    at = start(language, page="techniques")
    assert say("app.techniques.intro_cheapest", language) in said(at)
    assert at.get("plotly_chart")


def test_question_of_the_session_is_kept() -> None:
    at = start(page="techniques", **link.encode(on_cards("r1-671b")))
    assert "DeepSeek-R1" in said(at)
    assert at.query_params["g"] in ("h200-sxm", ["h200-sxm"])


def test_language_switch_keeps_the_question() -> None:
    at = direct(**link.encode(on_cards("qlora-8b")))
    at.segmented_control(key="lang").set_value("zh").run()
    text = said(healthy(at))
    assert say("technique.name.checkpointing", "zh") in text
    assert "RTX 4090" in text


def test_bad_link_says_what_is_wrong(language: str) -> None:
    at = healthy(direct(language, v="1", m="[x](https://evil.example)", g="l40s", c="zz"))
    assert len(at.warning) == 1
    shown = at.warning[0].value
    assert "evil" in shown
    assert "](" not in shown.replace("\\]\\(", "")
    assert not re.search(r"https?://", shown)
    assert "L40S" in said(at)


def test_link_that_cannot_be_answered(language: str) -> None:
    at = healthy(direct(language, v="1", m="Qwen/Qwen3-8B", g="l40s", c="3", tp="7"))
    assert len(at.error) == 1
    assert not at.get("plotly_chart")
    assert len(links(at)) == 1


def test_no_plan_at_all(language: str) -> None:
    at = healthy(
        direct(
            language, v="1", b="2000", t="training", e="megatron", g="auto", seq="1000000", mb="512"
        )
    )
    assert len(at.error) == 1
    assert not at.get("plotly_chart")


def test_upload_that_no_link_holds_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configurator.link.codec.MAX_CONFIG_CHARACTERS", 10)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "torch_dtype": "bfloat16",
    }  # fmt: skip
    at = start(page="techniques", **link.encode(on_cards("chat-10")))
    form = {**at.session_state["_form"], "model_by": "config", "config": config}
    at.session_state["_form"] = {**form, "config_name": "mine"}
    healthy(at.run())
    at.button(key="apply_weights_8bit").click()
    healthy(at.run())
    assert at.session_state["_form"]["precision"] == "fp8"
    assert at.session_state["_form"]["config"] == config


@pytest.mark.parametrize(
    "text", ["http://e.example/x", "HTTPS://e.example", "www.e.example", "a@e.example"]
)
def test_addresses_are_no_links(text: str) -> None:
    shown = numbers.plain(text).replace("\\", "")
    assert not re.search(r"https?://|www\.|@\w", shown, re.IGNORECASE)
    assert shown.replace("\u2060", "") == text


@pytest.mark.parametrize("preset", sorted(CARDS))
def test_figures_are_valid(preset: str, language: str) -> None:
    answer = estimate(on_cards(preset))
    found = techniques(answer.scenario)
    shown = [t for state in WITH_NUMBERS
             for t in techniques_charts.order(found, state)]  # fmt: skip
    figures = [techniques_charts.overview(answer, shown, language)]
    figures += [
        techniques_charts.detail(technique, answer.memory.budget_gib, language)
        for technique in shown
    ]
    for figure in figures:
        go.Figure(figure.to_plotly_json())  # raises on a property that Plotly does not have
    overview = figures[0]
    edge = overview.layout.xaxis.range[1]
    assert all(size <= edge for trace in overview.data for size in trace.x)
    cut = any(side.required_gib > edge for t in shown for side in (t.before, t.after))
    assert techniques_charts.is_cut(answer, shown) == cut
    alt = techniques_charts.overview_text(answer, shown, language)
    assert all(technique.name(language) in alt for technique in shown)


def test_chart_by_load_meets_the_figures(language: str) -> None:
    scenario = on_cards("chat-10")
    for technique in techniques(scenario):
        if technique.state != "available" or technique.speed_ratio is None:
            continue
        assert technique.scenario is not None
        figure = techniques_charts.by_load(scenario, technique.scenario, language)
        go.Figure(figure.to_plotly_json())
        for trace, side in zip(figure.data, (technique.before, technique.after)):
            assert side is not None
            place = list(trace.x).index(scenario.serving.concurrency)
            assert trace.y[place] == pytest.approx(side.tokens_per_s)


@pytest.mark.parametrize("preset", sorted(CARDS))
def test_speed_is_said_where_something_runs(preset: str) -> None:
    for technique in techniques(on_cards(preset)):
        if technique.after is not None:
            text, _ = techniques_charts.speed_text(technique, "en")
            assert bool(text) == (technique.after.fits is not False or bool(technique.speed_ratio))


@pytest.mark.parametrize("preset", sorted(CARDS))
def test_parts_add_up_to_what_is_said(preset: str) -> None:
    for technique in techniques(on_cards(preset)):
        if technique.before is None:
            continue
        drawn = techniques_charts.detail(technique, 80.0, "en").data
        for index, side in enumerate((technique.before, technique.after)):
            total = sum(trace.x[index] for trace in drawn)
            assert total == pytest.approx(side.required_gib, rel=0.02, abs=0.3)


@pytest.mark.parametrize("preset", sorted(CARDS))
def test_savings_come_first_and_say_their_sign(preset: str) -> None:
    found = techniques(on_cards(preset))
    for state in WITH_NUMBERS:
        own = techniques_charts.order(found, state)
        saved = [technique.saved_gib for technique in own]
        assert saved == sorted(saved, reverse=True)
        for technique in own:
            text, colour = techniques_charts.memory_text(technique, "en")
            assert (colour == "green") == text.startswith("−")
            assert (colour == "orange") == text.startswith("+")
            assert "(−0 %)" not in text
    assert sum(len(techniques_charts.order(found, s)) for s in STATES) == len(found)


def test_nothing_is_fast_that_does_not_fit() -> None:
    for technique in techniques(on_cards("r1-671b")):
        if technique.before is None or technique.before.fits is not False:
            continue
        rows = {name: before for name, before, _ in techniques_charts.figures(technique, "en")}
        assert rows["All together, tokens/s"] == "–"
