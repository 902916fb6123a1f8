"""What people do, in a real Chromium. Every visit ends with zero errors and foreign requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from configurator.catalog import load_catalog
from tests.browser.conftest import Visit

Begin = Callable[..., Visit]
PINNED = "/?v=1&m=Qwen/Qwen3-8B&t=inference&w=bf16&kv=auto&e=vllm&n=10&in=2048&out=512&g=l40s&c=1"


def test_first_look_answers_above_the_fold_and_stays(visit: Begin) -> None:
    v = visit()
    page = v.open()
    assert "Qwen3-8B" in v.verdict()
    for tier in ("individual", "sme", "enterprise"):
        assert page.locator(f".st-key-tier_{tier}").is_visible()
    meter = page.locator(".st-key-meter")
    expect(meter).to_be_visible()
    box = meter.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800
    # Complete although nothing was chosen: defaults, catalog date and all.
    for parameter in ("v=1", "m=", "t=", "w=", "kv=", "e=", "n=", "in=", "out=", "g=", "cat="):
        assert parameter in v.query()
    expect(page.locator(".st-key-curve .js-plotly-plot")).to_be_attached()
    assert v.axe() == []
    v.changed(lambda: v.slide("concurrency"))
    said = v.verdict()
    # Another page and back.
    page.get_by_test_id("stTopNavLink").filter(has_text="About").click()
    expect(page.get_by_text("What is counted")).to_be_visible()
    page.get_by_test_id("stTopNavLink").filter(has_text="Planner").click()
    v.settle()
    assert v.verdict() == said
    expect(page).to_have_url(re.compile("n=12"))
    # And a reload.
    page.reload()
    v.settle()
    assert v.verdict() == said


def test_sliders_by_keyboard_and_language_keep_choices(visit: Begin) -> None:
    v = visit()
    page = v.open(PINNED)
    for key, parameter in (
        ("size", "m"),
        ("concurrency", "n"),
        ("input_tokens", "in"),
        ("output_tokens", "out"),
        ("gpu_count", "c"),
    ):
        before = dict(p.split("=", 1) for p in v.query().split("&"))
        v.changed(lambda key=key: v.slide(key))
        after = dict(p.split("=", 1) for p in v.query().split("&"))
        changed = {k for k in before | after if before.get(k) != after.get(k)}
        assert parameter in changed, key
    v.changed(lambda: v.pick("precision", "INT4"))
    v.changed(lambda: page.locator(".st-key-lang").get_by_text("简体中文").click())
    expect(page.get_by_test_id("stAlert").first).to_contain_text("放得下")
    assert "w=int4" in v.query()
    assert "lang=zh" in v.query()
    expect(page.locator(".st-key-precision input")).to_have_value(re.compile("INT4"))
    v.changed(lambda: page.locator(".st-key-lang").get_by_text("English").click())
    expect(page.get_by_test_id("stAlert").first).to_contain_text("fits")
    assert "w=int4" in v.query()


def test_limits_of_speed(visit: Begin) -> None:
    v = visit()
    page = v.open(PINNED)

    def limit(key: str, value: str) -> None:
        box = page.locator(f".st-key-{key} input")
        box.fill(value)
        box.press("Enter")

    v.changed(lambda: limit("ttft_limit", "1.5"))
    v.changed(lambda: limit("tps_limit", "20"))
    assert "ttft=1.5&tps=20" in v.query()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("Within your limits")
    expect(page.locator(".st-key-tier_sme")).to_contain_text("at once within your limits")
    page.locator(".st-key-picture").get_by_text("Speed").click()
    expect(page.locator(".st-key-load_curve").first).to_contain_text("at least 20 tokens/s")
    page.locator(".st-key-load_by").get_by_text("First token").click()
    expect(page.locator(".st-key-load_curve").first).to_contain_text("first token within 1.5 s")
    v.changed(lambda: limit("tps_limit", "500"))
    expect(page.get_by_test_id("stAlert").first).to_contain_text("Too slow for your limits")
    page.go_back()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("Within your limits")


def test_preset_vendor_currency_and_back_to_preset(visit: Begin) -> None:
    v = visit()
    page = v.open()
    v.changed(lambda: page.locator(".st-key-vendors").get_by_text("NVIDIA").click())
    assert "by=NVIDIA" in v.query()
    v.changed(lambda: page.locator(".st-key-currency").get_by_text("CNY").click())
    assert "CN¥" in v.verdict()
    v.changed(lambda: v.pick("start_from", "Serve DeepSeek"))
    assert "DeepSeek-R1" in v.verdict()
    untouched = page.url
    v.changed(lambda: v.slide("concurrency"))
    v.changed(lambda: page.locator(".st-key-back_to_preset button").first.click())
    assert page.url == untouched


def test_everything_explains_itself(visit: Begin) -> None:
    v = visit()
    page = v.open(PINNED)
    # The tour, step by step; once it was opened its name is another.
    tour = page.locator(".st-key-tour button").first
    expect(tour).to_contain_text("New here?")
    tour.click()
    body = page.get_by_test_id("stPopoverBody")
    expect(body).to_contain_text("Say what you want")
    for _ in range(3):
        step = body.get_by_test_id("stCaptionContainer").inner_text()
        page.locator(".st-key-tour_next button").click()
        expect(body.get_by_test_id("stCaptionContainer")).not_to_have_text(step)
    expect(body).to_contain_text("Back undoes")
    page.keyboard.press("Escape")
    expect(tour).to_contain_text("How to read this")
    page.locator(".st-key-rule label").first.click()
    expect(page.locator(".st-key-curve").first).to_contain_text("rule of thumb")
    # The address as text opens the same question elsewhere.
    page.locator(".st-key-link summary").click()
    text = page.locator(".st-key-link code").inner_text()
    other = visit()
    other.open(text.removeprefix(v.url))
    assert unquote(other.query()) == unquote(v.query())
    assert other.verdict() == v.verdict()
    # A plan: why it, then taken over; why its numbers, of memory and of speed.
    page.locator(".st-key-why_sme button").click()
    expect(page.get_by_test_id("stPopoverBody")).to_contain_text("Bill and running costs")
    page.keyboard.press("Escape")
    v.changed(lambda: page.locator(".st-key-use_sme button").first.click())
    assert re.search(r"g=(?!auto)", v.query())
    page.locator(".st-key-why summary").click()
    expect(page.locator(".st-key-why")).to_contain_text("Parameters")
    expect(page.locator(".st-key-why")).to_contain_text("Share of the bandwidth reached")


def test_chinese_browser_in_the_dark_fine_tunes(visit: Begin) -> None:
    v = visit(locale="zh-CN", color_scheme="dark")
    page = v.open()
    assert "放得下" in v.verdict()
    assert "¥" in v.verdict()
    assert "lang=" not in v.query()
    expect(page.locator(".st-key-curve .js-plotly-plot")).to_be_attached()
    assert v.axe() == []
    v.changed(lambda: page.locator(".st-key-task").get_by_text("微调").click())
    v.changed(lambda: v.pick("method", "QLoRA"))
    assert "w=nf4" in v.query()
    v.changed(lambda: page.locator(".st-key-gradient_checkpointing label").first.click())
    v.changed(lambda: v.slide("sequence_length"))
    assert "seq=3072" in v.query()
    assert "QLoRA" in v.verdict()


def test_model_search_and_same_answer_in_a_new_browser(visit: Begin) -> None:
    first = visit()
    first.open(PINNED)
    first.changed(lambda: first.pick("model", "mistral-nemo", "Mistral-Nemo"))
    assert "Mistral-Nemo" in first.verdict()
    address = first.changed(lambda: first.slide("concurrency"))
    second = visit(fresh=True)
    second.open(address.removeprefix(second.url))
    assert second.verdict() == first.verdict()
    assert second.query() == first.query()


def test_back_undoes_and_forward_redoes(visit: Begin) -> None:
    v = visit()
    page = v.open()
    start, said = page.url, v.verdict()
    v.changed(lambda: v.slide("concurrency"))
    later = v.changed(lambda: v.slide("output_tokens"))
    page.go_back()
    page.go_back()
    expect(page).to_have_url(start)
    v.settle()
    expect(page.get_by_test_id("stAlert").first).to_have_text(re.compile(r"10 requests"))
    assert v.verdict() == said
    page.go_forward()
    page.go_forward()
    expect(page).to_have_url(later)
    expect(page.get_by_test_id("stAlert").first).to_have_text(re.compile(r"12 requests"))


def test_bad_link_is_said_and_the_rest_kept(visit: Begin) -> None:
    v = visit()
    page = v.open("/?v=1&m=Qwen/Qwen3-14B&n=-3&g=rtx-9999&zzz=1")
    alert = page.get_by_test_id("stAlert").first
    expect(alert).to_contain_text("n=-3")
    expect(alert).to_contain_text("rtx-9999")
    expect(alert).to_contain_text("zzz")
    expect(page.get_by_test_id("stAlert").nth(1)).to_contain_text("Qwen3-14B")
    # Back leads out of the page, not into a loop.
    page.goto("about:blank")
    v.open("/?m=Qwen/Qwen3-14B")
    page.go_back()
    page.wait_for_timeout(500)
    page.go_back()
    expect(page).to_have_url("about:blank")


def test_own_model_good_and_bad(visit: Begin, tmp_path: Path) -> None:
    v = visit()
    page = v.open()
    page.locator(".st-key-model_by").get_by_text("Upload").click()
    upload = page.locator(".st-key-upload input[type=file]")
    upload.set_input_files(
        {"name": "bad.json", "mimeType": "application/json", "buffer": b"[1, 2, 3]"}
    )
    expect(page.get_by_test_id("stSidebar").get_by_test_id("stAlert")).to_contain_text(
        "JSON object"
    )
    config = json.dumps(load_catalog().model_config("Qwen/Qwen3-4B")).encode()
    upload = page.locator(".st-key-upload input[type=file]")
    v.changed(
        lambda: upload.set_input_files(
            {"name": "mine.json", "mimeType": "application/json", "buffer": config}
        )
    )
    expect(page.get_by_test_id("stMain").get_by_test_id("stAlert").first).to_contain_text(
        "mine.json"
    )
    assert "cfg=" in v.query()
    # An id is not looked up unless asked; a folder on this machine is read.
    source = page.locator(".st-key-model_source input")
    source.fill("Qwen/Qwen3-4B")
    source.press("Enter")
    expect(page.get_by_test_id("stSidebar").get_by_test_id("stAlert")).to_contain_text(
        "does not call other services"
    )
    (tmp_path / "config.json").write_bytes(config)
    source.fill(str(tmp_path / "config.json"))
    v.changed(lambda: source.press("Enter"))
    expect(page.get_by_test_id("stSidebar").get_by_test_id("stAlert")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_has_no_sideways_scroll(visit: Begin, scheme: str) -> None:
    v = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True)
    page = v.open()
    expect(page.locator(".st-key-meter")).to_be_attached()
    for part in ("html", "[data-testid=stMain]"):
        assert page.locator(part).evaluate("part => part.scrollWidth") <= 390
    # Closed on a phone, so that the answer is what is seen; it opens.
    expect(page.locator(".st-key-concurrency")).not_to_be_in_viewport()
    page.get_by_test_id("stExpandSidebarButton").click()
    expect(page.locator(".st-key-task")).to_be_in_viewport()
    assert v.axe() == []


def test_machine_without_a_driver(visit: Begin) -> None:
    v = visit()
    page = v.open()
    page.get_by_test_id("stTopNavLink").filter(has_text="This machine").click()
    expect(page.get_by_text("Nothing is read until you switch it on")).to_be_visible()
    page.locator(".st-key-watch label").first.click()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("No NVIDIA driver library")


def test_a_fix_button_makes_it_fit(visit: Begin) -> None:
    v = visit()
    page = v.open(
        "/?v=1&m=Qwen/Qwen3-8B&t=inference&w=bf16&kv=auto&e=vllm&n=10&in=2048&out=512"
        "&g=rtx-4060-ti-16gb&c=1"
    )
    assert "does not fit" in v.verdict()
    v.changed(lambda: page.locator(".st-key-fixes button").first.click())
    assert "fits on" in v.verdict()


def test_the_article_opens_in_the_planner(visit: Begin) -> None:
    v = visit()
    page = v.open()
    page.get_by_test_id("stTopNavLink").filter(has_text="The article").click()
    expect(page.get_by_text("39 statements")).to_be_visible()
    page.get_by_test_id("stPageLink").nth(1).get_by_role("link").click()
    v.settle()
    expect(page).to_have_url(re.compile("m=deepseek-ai"))
    expect(page.get_by_test_id("stAlert").first).to_contain_text("deepseek-llm-7b-base")


def test_evidence_page(visit: Begin) -> None:
    v = visit(locale="zh-CN")
    page = v.open()
    page.get_by_test_id("stTopNavLink").filter(has_text="准确度").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
