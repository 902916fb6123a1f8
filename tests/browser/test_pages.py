"""Every page as it looks and reads: both languages, both themes, wide and narrow; its downloads."""

from __future__ import annotations

import io
import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit

Begin = Callable[..., Visit]
PAGES = {
    "Purchase": "采购",
    "This machine": "本机",
    "How right it is": "准确度",
    "Techniques": "省显存与提速",
    "The article": "文章",
    "About": "说明",
}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
LOOKS = {
    "light": {},
    "dark-zh": {"locale": "zh-CN", "color_scheme": "dark"},
    "phone-dark": {"color_scheme": "dark", **PHONE},
    "phone-zh": {"locale": "zh-CN", **PHONE},
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_in_every_look(visit: Begin, look: str) -> None:
    v = visit(**LOOKS[look])
    v.open()
    for english, chinese in PAGES.items():
        page = v.turn_to(chinese if look.endswith("zh") else english)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        for part in ("html", "[data-testid=stMain]"):
            wide = page.locator(part).evaluate("part => part.scrollWidth - part.clientWidth")
            assert wide <= 0, (english, part)
        for chart in page.locator(".js-plotly-plot").all():
            named = chart.evaluate("c => c.closest('[aria-label],[role=img],figure') !== null")
            assert named, english
        assert v.axe() == [], english


def _download(page: Page, key: str) -> bytes:
    with page.expect_download() as download:
        page.locator(f".st-key-{key} button").first.click()
    return download.value.path().read_bytes()


def test_no_other_site_may_steer_the_page(server: str) -> None:
    with urllib.request.urlopen(f"{server}/_stcore/host-config", timeout=10) as answer:
        assert json.load(answer)["allowedOrigins"] == []


def test_purchasing_takes_the_papers_home(visit: Begin, tmp_path: Path) -> None:
    v = visit()
    v.open()
    page = v.turn_to("Purchase")
    book = openpyxl.load_workbook(io.BytesIO(_download(page, "get_excel")))
    formulas = [
        cell.value
        for sheet in book
        for row in sheet.iter_rows()
        for cell in row
        if isinstance(cell.value, str) and cell.value.startswith("=")
    ]
    assert len(formulas) > 10
    paper = json.loads(_download(page, "get_json"))
    assert paper["plan"]["gpu_count"] >= 1
    page.locator(".st-key-make_pdf button").first.click()
    pdf = tmp_path / "paper.pdf"
    expect(page.locator(".st-key-get_pdf button").first).to_be_visible(timeout=30_000)
    pdf.write_bytes(_download(page, "get_pdf"))
    text = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
    assert "not a quotation" in text.stdout


def test_own_prices_change_the_sheet(visit: Begin) -> None:
    v = visit()
    v.open()
    page = v.turn_to("Purchase")
    total = page.get_by_test_id("stMetricValue").first
    before = total.inner_text()
    page.locator(".st-key-own_prices input[type=file]").set_input_files(
        {
            "name": "prices.csv",
            "mimeType": "text/csv",
            "buffer": b"gpu,price,currency,date,condition,vendor\n"
            b"rx-9060-xt-16gb,100,USD,2026-11-01,new,us\nno-such-card,1,USD,2026-11-01,new,us\n",
        }
    )
    expect(total).not_to_have_text(before)
    expect(page.get_by_test_id("stMain")).to_contain_text("no-such-card")


def test_plans_side_by_side_travel_in_the_link(visit: Begin) -> None:
    v = visit()
    v.open()
    page = v.turn_to("Purchase")
    box = page.locator(".st-key-purchase_compare")
    box.scroll_into_view_if_needed()
    before = page.url
    v.pick("purchase_compare", "Gaudi 3")
    expect(page).not_to_have_url(before)
    page.keyboard.press("Escape")
    chosen = box.locator("[data-tag]").all_inner_texts()
    assert len(chosen) == 4
    other = visit(fresh=True)
    other.open("/?" + v.query())
    again = other.turn_to("Purchase").locator(".st-key-purchase_compare")
    expect(again.locator("[data-tag]")).to_have_text(chosen)


def test_a_technique_shows_its_code_and_is_applied(visit: Begin) -> None:
    v = visit()
    v.open()
    page = v.turn_to("Techniques")
    box = page.locator(".st-key-technique_kv_8bit")
    box.locator("summary").click()
    expect(box).to_contain_text("--kv-cache-dtype fp8")
    expect(box.locator(".js-plotly-plot").first).to_be_visible()
    v.changed(lambda: box.get_by_test_id("stPageLink").get_by_role("link").click())
    assert "kv=fp8" in v.query()


def test_the_keyboard_alone_gets_to_an_answer(visit: Begin) -> None:
    v = visit(fresh=True)
    page = v.open(
        "/?v=1&m=Qwen/Qwen3-8B&t=inference&w=bf16&kv=auto&e=vllm&n=10&in=2048&out=512&g=l40s&c=1"
    )
    # On a first visit the widgets' own scripts may still be on their way.
    expect(page.locator(".st-key-concurrency input[type=range]").first).to_be_attached()
    reached = False
    for _ in range(80):
        page.keyboard.press("Tab")
        reached = page.evaluate(
            "document.activeElement.closest('.st-key-concurrency') !== null"
            " && document.activeElement.type === 'range'"
        )
        if reached:
            break
    assert reached
    v.changed(lambda: page.keyboard.press("ArrowRight"))
    assert "n=12" in v.query()
