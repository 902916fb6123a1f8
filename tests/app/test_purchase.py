"""The purchasing sheet: a plan, its files, own prices, plans side by side."""

from configurator.app import purchase
from configurator.app.presets import presets
from configurator.errors import InputError
from configurator.link import encode
from configurator.recommend import recommend
from configurator.recommend.request import Request
from tests.app.conftest import healthy, said, start


def test_sheet_of_every_preset(language: str) -> None:
    for preset in (presets()[0], presets()[4]):
        at = start(language, page="purchase", **encode(preset.scenario))
        assert at.metric
        assert len(at.get("download_button")) >= 3


def test_link_with_cards_opens_that_plan() -> None:
    found = recommend(Request(scenario=presets()[0].scenario))
    plan = found.tiers["sme"][0]
    at = start("en", page="purchase", **encode(plan.scenario))
    assert at.selectbox(key="purchase_plan").value == "sme:0"


def test_choosing_a_plan_puts_its_cards_into_the_link() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    at.selectbox(key="purchase_plan").set_value("enterprise:0").run()
    healthy(at)
    assert at.query_params["g"] != ["auto"]
    assert at.selectbox(key="purchase_plan").value == "enterprise:0"


def test_terms_change_the_total() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    before = at.metric[1].value
    at.segmented_control(key="purchase_years").set_value(5).run()
    assert healthy(at).metric[1].value != before


def test_plans_side_by_side(language: str) -> None:
    found = recommend(Request(scenario=presets()[0].scenario))
    table = purchase.compared([found.tiers["sme"][0], found.tiers["enterprise"][0]], language)
    assert len(table.columns) == 4
    assert (table[""] == "≠").any()
    assert "★" in table.to_string()


def test_one_plan_is_not_compared() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    at.multiselect(key="purchase_compare").set_value(["sme:0"]).run()
    assert "two plans" in said(healthy(at))


def test_an_unusable_question_is_said_plainly(language: str, monkeypatch) -> None:
    def refuse(_request: str) -> None:
        raise InputError("hardware.gpu_count", "must be at least 1", 0)

    monkeypatch.setattr(purchase, "_recommended", refuse)
    at = start(language, page="purchase", **encode(presets()[0].scenario))
    assert at.error
    assert "hardware.gpu_count" in said(at)
