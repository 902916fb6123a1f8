"""The purchase page in a browser: plans side by side in the address, own cards, a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit

Begin = Callable[..., Visit]
CHIPS = ".st-key-purchase_compare [data-tag]"


def to_purchase(v: Visit) -> Page:
    """Open the planner, then the purchase page from its menu."""
    v.open()
    page = v.turn_to("Purchase")
    expect(page.locator(CHIPS).first).to_be_visible(timeout=30_000)
    v.rest()
    return page


def chips(page: Page) -> Any:
    """Return the plans laid side by side."""
    return page.locator(CHIPS)


def test_plans_side_by_side_are_in_the_address_and_back_undoes(visit: Begin) -> None:
    v = visit()
    page = to_purchase(v)
    expect(chips(page)).to_have_count(3)
    for left in (2, 1):
        before = page.url
        chips(page).last.get_by_role("button").click()
        expect(page).not_to_have_url(before)
        expect(chips(page)).to_have_count(left)
    assert "cmp=" in page.url
    page.go_back()
    expect(chips(page)).to_have_count(2)
    assert v.axe() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_own_cards_on_a_phone(visit: Begin, scheme: str) -> None:
    v = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True)
    v.open("/?own=rtx-4090:1,rtx-3090:2")
    page = v.turn_to("Purchase")
    expect(page.locator(".st-key-owned_cards")).to_be_visible(timeout=30_000)
    expect(page.locator(CHIPS).first).to_be_visible(timeout=30_000)
    v.rest()
    for part in ("html", "[data-testid=stMain]"):
        assert page.locator(part).evaluate("part => part.scrollWidth") <= 390
    assert v.axe() == []


def test_a_point_of_the_front_is_clicked_and_back_undoes(visit: Begin) -> None:
    v = visit()
    page = to_purchase(v)
    plan = page.locator(".st-key-purchase_plan input")
    shown = plan.input_value()
    before = page.url
    point = page.locator(".st-key-front .trace.scatter .points path").nth(8)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()  # Plotly takes clicks on the area above the points
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).not_to_have_url(before)
    v.rest()
    expect(plan).not_to_have_value(shown)
    expect(page.locator(".st-key-front_pick input")).not_to_have_value("")
    page.go_back()
    v.rest()
    expect(plan).to_have_value(shown)
