"""What is asked of the market: inputs on two pages, in the link, in words, on paper."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from configurator.app.presets import presets
from configurator.catalog import load_catalog
from configurator.link import Buying, encode
from configurator.link.buying import BUYING
from configurator.recommend import Request, recommend
from configurator.words import say
from tests.app.conftest import healthy, query, said, start

ASKED = presets()[0].scenario


def opened(language: str, page: str | None, **asked: Any) -> AppTest:
    """Open a page with the box of market inputs open."""
    at = start(language, page=page, **encode(ASKED, currency="USD", buying=Buying(**asked)))
    at.session_state["more_market"] = True
    return healthy(at.run())


@pytest.mark.parametrize("page", [None, "purchase"])
def test_every_input_goes_into_the_link_and_back(page: str | None) -> None:
    at = opened("en", page)
    for key, value in (("objective", "energy"), ("region", "US"), ("condition", "any")):
        at.selectbox(key=f"buy_{key}").set_value(value)
    at.multiselect(key="buy_form_factors").set_value(["PCIe card", "PCIe passive"])
    for key, picked in (("segments", ["workstation", "datacenter"]), ("features", ["ecc"])):
        at.button_group(key=f"buy_{key}").set_value(picked)
    for key in ("sure_prices", "export_limits", "accept_tight", "spare_node"):
        at.toggle(key=f"buy_{key}").set_value(True)
    for key, number in (
        ("max_budget_sme", 300_000.0), ("other_purchase_enterprise", 90_000.0),
        ("max_power_w_individual", 1500.0),
        ("max_power_w_per_host", 9000.0), ("max_gpus", 64), ("max_rack_units", 42.0),
        ("spare_gpus", 1), ("cny_per_usd", 7.5),
        ("tariff_per_kwh", 0.2), ("hosting_per_kw_month", 150.0),
        ("pue", 1.3), ("staff_share", 10.0), ("support_share", 5.0), ("resale_share", 20.0),
    ):  # fmt: skip
        at.number_input(key=f"buy_{key}").set_value(number)
    healthy(at.run())
    wanted = {
        "obj": "energy", "reg": "US", "cond": "any", "form": "PCIe card,PCIe passive",
        "seg": "workstation,datacenter", "must": "ecc", "sure": "1", "exp": "1", "tight": "1",
        "sparebox": "1", "bud": "sme:300000", "more": "enterprise:90000",
        "watt": "individual:1500", "boxw": "9000",
        "most": "64", "ru": "42", "spare": "1", "fx": "7.5",
        "kwh": "0.2", "colo": "150", "pue": "1.3",
        "staff": "0.1", "sup": "0.05", "left": "0.2",
    }  # fmt: skip
    assert {name: query(at)[name] for name in wanted} == wanted
    again = start("en", page=page, **query(at))
    again.session_state["more_market"] = True
    healthy(again.run())
    assert again.number_input(key="buy_resale_share").value == 20.0
    assert again.selectbox(key="buy_objective").value == "energy"
    assert {name: query(again)[name] for name in wanted} == wanted


def test_what_differs_is_said_and_taken_back(language: str) -> None:
    at = opened(language, None, objective="latency", condition="used", staff_share=0.25, years=4)
    text = said(at)
    for field, value in (("objective", "latency"), ("condition", "used")):
        assert say(f"app.field.{field}", language) in text
        assert say(f"app.option.{field}.{value}", language) in text
    assert say("app.field.staff_share", language) in text
    at.button(key="usual_terms").click()
    healthy(at.run())
    assert say("app.field.staff_share", language) not in said(at)
    assert "obj" not in query(at)
    assert query(at)["yrs"] == "4"


def test_an_emptied_number_is_as_usual_again() -> None:
    at = opened("en", None, pue=1.5, budgets={"sme": 1000.0, "enterprise": 2000.0})
    at.number_input(key="buy_pue").set_value(None)
    at.number_input(key="buy_max_budget_sme").set_value(None)
    healthy(at.run())
    assert "pue" not in query(at)
    assert query(at)["bud"] == "enterprise:2000"


def test_rates_of_money_keep_their_worth_in_another_currency() -> None:
    at = opened("en", None, tariff_per_kwh=0.2, hosting_per_kw_month=100.0)
    at.session_state["_currency"] = "CNY"
    healthy(at.run())
    assert 1 < float(query(at)["kwh"]) < 2
    assert 500 < float(query(at)["colo"]) < 1000
    assert at.number_input(key="buy_tariff_per_kwh").value == float(query(at)["kwh"])


def test_another_goal_is_not_called_the_cheapest(language: str) -> None:
    at = start(language, **encode(ASKED, buying=Buying(objective="latency")))
    first = say("app.verdict.first", language).split("{")[0]
    assert first in said(at)
    assert say("app.verdict.cheapest", language).split("{")[0] not in said(at)


def test_a_point_of_the_front_becomes_the_plan(language: str) -> None:
    at = start(language, page="purchase", **encode(ASKED))
    points = at.selectbox(key="front_pick").options
    assert len(points) > 10
    at.selectbox(key="front_pick").select_index(len(points) - 1)
    healthy(at.run())
    count, card = points[-1].split(" · ")[0].split(" × ")
    assert query(at)["c"] == count
    assert load_catalog().gpu(query(at)["g"]).name == card
    assert at.session_state["purchase_plan"].endswith(f":{query(at)['g']}")
    assert not at.info
    assert at.selectbox(key="front_pick").value == len(points) - 1


TRAINED = next(p.scenario for p in presets() if p.id == "pretrain-65b")


def test_days_of_a_training_run_and_by_when(language: str) -> None:
    at = start(language, **encode(TRAINED))
    assert not any(say("app.speed.train_days", language) == m.label for m in at.metric)
    at.number_input(key="buy_train_tokens_b").set_value(1000.0)
    healthy(at.run())
    days = next(m for m in at.metric if m.label == say("app.speed.train_days", language))
    rate = next(m for m in at.metric if m.label == say("app.speed.train_tokens_per_s", language))
    per_s = Decimal(rate.value.replace(",", "").replace("万", "e4"))
    taken = Decimal(days.value.replace(",", ""))
    assert float(taken * per_s * 86_400) == pytest.approx(1e12, rel=0.05)
    cards = query(at)["tok"], said(at)
    at.number_input(key="buy_train_days_limit").set_value(float(taken) / 4)
    healthy(at.run())
    assert query(at)["tok"] == "1000"
    faster = next(m for m in at.metric if m.label == days.label)
    assert Decimal(faster.value.replace(",", "")) <= taken / 4
    assert said(at) != cards[1]


def test_a_training_run_is_left_out_of_serving() -> None:
    at = start("en", **encode(ASKED, buying=Buying(train_tokens_b=10.0, train_days_limit=1.0)))
    assert at.success
    assert query(at)["tok"] == "10"


def test_a_second_load_is_kept_carried_and_dropped(language: str) -> None:
    at = opened(language, None)
    at.button(key="also_keep").click()
    healthy(at.run())
    assert dict(parse_qsl(query(at)["also"]))["m"] == query(at)["m"]
    both = recommend(Request(scenario=ASKED, also=ASKED, currency="USD"))
    plan = next(plans[0] for plans in both.tiers.values() if plans)
    assert plan.beside is not None
    assert say("app.card.beside", language, count=plan.beside.gpu_count) in said(at)
    sheet = start(language, page="purchase", **query(at))
    more = say("app.purchase.beside", language, count=plan.beside.gpu_count, load="")
    assert more[:12] in said(sheet)
    at.session_state["more_market"] = True
    healthy(at.run())
    at.button(key="also_drop").click()
    healthy(at.run())
    assert "also" not in query(at)


@pytest.mark.parametrize("text", ["", "m=no-such-model", "t=sleep", "v=1&zz=1", "x" * 9000])
def test_a_second_load_that_cannot_be_read_is_said(text: str) -> None:
    at = start("en", **encode(ASKED), also=text)
    assert "also" in at.warning[0].value
    assert at.success


LEAST = {
    "ttft": "0.000001", "tps": "0.000001", "bud": "sme:0.000001", "watt": "sme:0.000001",
    "more": "sme:0.000001", "most": "1", "ru": "0.000001", "boxw": "0.000001", "spare": "0",
    "fx": "0.01", "kwh": "0", "pue": "1", "colo": "0", "staff": "0", "sup": "0", "left": "0",
    "all": "0.000001",
}  # fmt: skip
MOST = {
    "ttft": "1e6", "tps": "1e6", "bud": "sme:1e11", "watt": "sme:1e11", "more": "sme:1e11",
    "most": "100000", "ru": "1e11", "boxw": "1e11", "spare": "100000", "fx": "1000",
    "kwh": "100", "pue": "5", "colo": "1e11", "staff": "0.95", "sup": "0.95", "left": "0.95",
    "all": "1e11",
}  # fmt: skip


@pytest.mark.parametrize("page", [None, "purchase"])
@pytest.mark.parametrize("ends", [LEAST, MOST], ids=["least", "most"])
def test_every_value_that_a_link_may_hold_can_be_shown(
    page: str | None, ends: dict[str, str]
) -> None:
    at = start("en", page=page, **{**encode(ASKED), **ends})
    at.session_state["more_market"] = True
    healthy(at.run())
    for parameter, (name, _) in BUYING.items():
        if parameter not in ends:
            continue
        key = {"budgets": "max_budget_sme", "powers": "max_power_w_sme",
               "others": "other_purchase_sme"}.get(name, name)  # fmt: skip
        scale = 100 if name.endswith("_share") else 1
        value = float(ends[parameter].removeprefix("sme:"))
        assert at.number_input(key=f"buy_{key}").value == pytest.approx(scale * value), name
    if page is None:
        assert at.number_input(key="ttft_limit").value == float(ends["ttft"])


@pytest.mark.parametrize("value", ["0.000001", "1e11"])
def test_every_training_run_that_a_link_may_hold_can_be_shown(value: str) -> None:
    at = start("en", **encode(TRAINED), tok=value, days=value)
    assert at.number_input(key="buy_train_tokens_b").value == float(value)
    assert at.number_input(key="buy_train_days_limit").value == float(value)


def test_the_dearest_tariff_in_another_currency_is_still_one() -> None:
    at = opened("en", None, tariff_per_kwh=100.0)
    at.session_state["_currency"] = "CNY"
    healthy(at.run())
    assert query(at)["kwh"] == "100"
