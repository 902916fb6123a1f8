"""The purchasing sheet: a plan, its files, own prices, plans side by side."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from configurator.app import purchase
from configurator.app.presets import presets
from configurator.errors import InputError
from configurator.link import encode
from configurator.recommend import recommend
from configurator.recommend.request import Request
from configurator.scenario import parse_scenario
from configurator.words import say
from tests.app.conftest import healthy, query, said, start


def names_of(**limits: float) -> list[str]:
    """Return the plans of the first preset's sheet by name."""
    return list(purchase.plans_of(recommend(Request(scenario=presets()[0].scenario, **limits))))


def test_sheet_of_every_preset(language: str) -> None:
    for preset in (presets()[0], presets()[4]):
        at = start(language, page="purchase", **encode(preset.scenario))
        assert at.metric
        assert len(at.get("download_button")) >= 3


def test_link_with_cards_opens_that_plan() -> None:
    found = recommend(Request(scenario=presets()[0].scenario))
    others = {plan.gpu for plan in found.tiers["individual"]}
    plan = next(plan for plan in found.tiers["sme"] if plan.gpu not in others)
    at = start("en", page="purchase", **encode(plan.scenario))
    assert at.selectbox(key="purchase_plan").value == f"sme:{plan.gpu}"


def test_choosing_a_plan_puts_its_cards_into_the_link() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    picker = at.selectbox(key="purchase_plan")
    wanted = next(name for name in names_of() if name.startswith("enterprise:"))
    picker.set_value(wanted).run()
    healthy(at)
    assert query(at)["g"] == wanted.partition(":")[2]
    assert at.selectbox(key="purchase_plan").value == wanted


def test_the_sheet_writes_dates_as_exact_as_they_are(language: str) -> None:
    at = start(language, "purchase", m="Qwen/Qwen3-8B", w="bf16", n="2", g="l40s")
    text = said(at) + "".join(table.value.to_string() for table in at.table)
    assert {"en": "undated, table of Aug 2026", "zh": "无日期，2026年8月价目表"}[language] in text
    assert {"en": "Dates of the rents: 2026, some undated", "zh": "租金的日期：2026年，部分无日期"}[
        language
    ] in text
    assert not re.search(r"Jan 1, 20|年1月1日", text)


def test_terms_change_the_total() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    before = at.metric[1].value
    at.segmented_control(key="purchase_years").set_value(5).run()
    assert healthy(at).metric[1].value != before


def test_plans_side_by_side(language: str) -> None:
    found = recommend(Request(scenario=presets()[0].scenario))
    table = purchase.compared([found.tiers["sme"][0], found.tiers["enterprise"][0]], language)
    assert len(table.columns) == 4
    assert (table[purchase.DIFFERS] == "≠").any()
    assert "★" in table.to_string()


def test_one_plan_is_not_compared() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    at.multiselect(key="purchase_compare").set_value(names_of()[:1]).run()
    assert "two plans" in said(healthy(at))


def test_plans_side_by_side_are_carried_by_the_link(language: str) -> None:
    at = start(language, page="purchase", **encode(presets()[0].scenario))
    chosen = names_of()[1:5]
    at.multiselect(key="purchase_compare").set_value(chosen).run()
    healthy(at)
    shared = query(at)
    assert shared["cmp"] == ",".join(chosen)
    # Another browser, or this one after a reload.
    other = start(language, page="purchase", **shared)
    assert other.multiselect(key="purchase_compare").value == chosen
    assert not other.warning
    # Back, which gives the address before.
    other.query_params["cmp"] = ",".join(chosen[:2])
    assert healthy(other.run()).multiselect(key="purchase_compare").value == chosen[:2]


def test_no_plan_side_by_side_stays_none() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    at.multiselect(key="purchase_compare").set_value([]).run()
    healthy(at)
    assert query(at)["cmp"] == "none"
    assert start("en", page="purchase", **query(at)).multiselect(key="purchase_compare").value == []


def test_a_links_plans_that_cannot_be_shown_are_said(language: str) -> None:
    asked = encode(presets()[0].scenario)
    at = start(language, page="purchase", **asked, cmp="sme:nosuch")
    assert "cmp=sme:nosuch" in said(at)
    assert len(at.multiselect(key="purchase_compare").value) > 1
    # A card that no class of buyer would take for this question.
    at = start(language, page="purchase", **asked, cmp="individual:gb300")
    assert "GB300" in said(at)
    assert at.multiselect(key="purchase_compare").value == []


def test_terms_are_carried_by_the_link() -> None:
    at = start("en", page="purchase", **encode(presets()[0].scenario))
    at.segmented_control(key="purchase_years").set_value(5).run()
    at.segmented_control(key="purchase_utilisation").set_value(0.25).run()
    shared, total = query(healthy(at)), at.metric[1].value
    other = start("en", page="purchase", **shared)
    assert other.metric[1].value == total
    assert other.segmented_control(key="purchase_utilisation").value == 0.25
    odd = start("en", page="purchase", **{**shared, "busy": "0.33"})
    assert odd.segmented_control(key="purchase_utilisation").value == 0.33


def test_limits_of_speed_hold_on_the_sheet_too() -> None:
    slow = next(n for n in names_of() if n not in names_of(user_tokens_per_s_limit=60))
    at = start("en", page="purchase", **encode(presets()[0].scenario), tps="60", cmp=slow)
    assert at.multiselect(key="purchase_compare").value == []


def test_a_budget_keeps_its_worth_in_another_currency() -> None:
    asked = encode(presets()[0].scenario, currency="USD")
    at = start("en", page="purchase", **asked, bud="individual:20000")
    at.session_state["_currency"] = "CNY"
    healthy(at.run())
    kind, _, budget = query(at)["bud"].partition(":")
    assert kind == "individual"
    assert 100_000 < float(budget) < 200_000


def test_an_unusable_question_is_said_plainly(language: str, monkeypatch) -> None:
    def refuse(_request: str) -> None:
        raise InputError("hardware.gpu_count", "at_least", 0, least=1)

    monkeypatch.setattr(purchase, "recommended", refuse)
    at = start(language, page="purchase", **encode(presets()[0].scenario))
    assert at.error
    assert say("app.field.gpu_count", language) in said(at)
    assert say("error.at_least", language, least=1) in said(at)


def test_ends_of_an_assumption_have_their_unit(language: str) -> None:
    money = purchase.swing_end("card_price", 3999, "USD", language)
    assert "$3,999" in money
    assert purchase.swing_end("resale", 0.3, "USD", language) == "30%"
    assert purchase.swing_end("years", 5, "USD", language) == "5"


@given(st.floats(1, 1e9), st.floats(1.001, 100))
def test_an_axis_has_a_few_round_sums(low: float, factor: float) -> None:
    ticks = purchase.money_ticks(low, low * factor, "USD", "en")
    assert 1 <= len(ticks["tickvals"]) <= purchase.MOST_TICKS + 1
    assert all(low * 0.999 <= value <= low * factor * 1.001 for value in ticks["tickvals"])
    assert len(ticks["ticktext"]) == len(ticks["tickvals"])


def test_the_tornado_says_what_its_colours_and_sums_are(language: str) -> None:
    at = start(language, page="purchase", **encode(presets()[0].scenario, currency="USD"))
    specs = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    drawn = next(spec for spec in specs if spec["data"][0]["type"] == "bar")
    assert all("$" in text for text in drawn["layout"]["xaxis"]["ticktext"])
    assert any("%" in name for name in drawn["data"][0]["y"])
    assert say("app.purchase.tornado_note", language, total="")[:10] in said(at)


def test_cards_of_the_link_beyond_the_first_plans_are_shown(language: str) -> None:
    asked = presets()[0].scenario
    first = {name.partition(":")[2] for name in names_of()}
    other = "b200-sxm"
    assert other not in first
    plan = recommend(Request(scenario=asked, gpus=(other,))).plans[0]
    at = start(language, page="purchase", **encode(plan.scenario))
    assert at.selectbox(key="purchase_plan").value == f"{plan.tier}:{other}"
    assert not at.info
    # A number of them that no plan has is said; the kind of card is kept.
    at = start(language, page="purchase", **{**encode(plan.scenario), "c": "999"})
    assert at.selectbox(key="purchase_plan").value.endswith(f":{other}")
    assert "999" in said(at)


def test_a_plan_to_compare_beyond_the_first_ones_is_shown() -> None:
    asked = encode(presets()[0].scenario)
    at = start("en", page="purchase", **asked, cmp="enterprise:b200-sxm,individual:rtx-4090")
    assert at.multiselect(key="purchase_compare").value == [
        "enterprise:b200-sxm", "individual:rtx-4090",
    ]  # fmt: skip


def test_plans_beyond_the_first_keep_their_rank() -> None:
    asked = presets()[0].scenario
    request = Request(scenario=asked)
    found = recommend(request)
    plans = purchase.plans_of(found)
    more = purchase.with_wanted(found, asked, ("enterprise:b200-sxm",), request)
    assert set(more) - set(plans) == {"enterprise:b200-sxm"}
    assert more["enterprise:b200-sxm"].rank > purchase.SHOWN_PLANS


def test_what_was_filled_in_is_not_said_to_be_missing(language: str) -> None:
    asked = encode(presets()[0].scenario)
    named = say("cost.exclusion.storage", language)
    for more, sentence in (({}, "without"), ({"more": "individual:5000"}, "without_given")):
        text = said(start(language, page="purchase", **asked, **more))
        start_of_it = say(f"app.plan.{sentence}", language, what="").rstrip("。.")
        assert start_of_it in text
        assert named in text


def test_a_plan_that_splits_otherwise_than_the_link_says_so(language: str) -> None:
    asked = {
        "model": "Qwen/Qwen3-8B", "precision": "bf16", "engine": "vllm",
        "inference": {"concurrency": 100, "input_tokens": 2048, "output_tokens": 512},
        "hardware": {"gpu": "h100-sxm", "gpu_count": 4, "tensor_parallel": 1, "data_parallel": 4},
    }  # fmt: skip
    at = start(language, page="purchase", **encode(parse_scenario(asked)))
    assert say("app.purchase.other_split", language) in [item.value for item in at.info]


def test_training_makes_no_tokens() -> None:
    preset = next(p for p in presets() if p.scenario.is_training)
    at = start("en", page="purchase", **encode(preset.scenario))
    labels = {item.label for item in at.metric}
    assert "Per million tokens out" not in labels


def test_renting_says_what_it_compares(language: str) -> None:
    """Hours, cards and staff of the two sides; and the one run that was asked for."""
    at = start(
        language, "purchase", m="Qwen/Qwen3-8B", t="training", e="fsdp", sh="fsdp", ckpt="1",
        g="h100-sxm", c="8", tok="300", days="90", busy="0.5",
    )  # fmt: skip
    texts = (c.value.replace("\\", "") for c in at.caption)
    note = next(text for text in texts if re.search(r"^(Rented:|租用：)", text))
    assert re.search(r"50 ?%", note)
    assert re.search(r"takes [\d.,]+ days|需要 [\d.,]+ 天", note)
    table = next(t.value for t in at.table if say("app.purchase.cloud_spot", language) in t.value)
    facts = table.set_index(say("app.purchase.cloud_how", language)).T
    assert facts[say("app.purchase.cloud_share", language)].iloc[0].count("%") == 2
    assert (facts[say("app.purchase.cloud_run", language)] != "–").sum() == 2
