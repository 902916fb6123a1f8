"""The planner's limits and presets: what is asked of speed, of days and of the market, and said."""

from __future__ import annotations

import re

from configurator import link
from configurator.app.market import TIERS, recommended
from configurator.app.plan_cards import plan_facts
from configurator.capacity import users_within
from configurator.estimate import estimate
from configurator.recommend import Request, parse_request, recommend
from configurator.scenario import parse_scenario
from configurator.words import say
from tests.app.conftest import healthy, query, said, scenario, start, verdict

ARTICLE_65B = {
    "version": 1, "model": {"parameters_b": 65}, "task": "training", "precision": "bf16",
    "engine": "megatron",
    "training": {"mixed_precision": "bf16_master", "gradient_checkpointing": True,
                 "gradient_accumulation": 16, "sharding": "zero1"},
}  # fmt: skip


def test_limits_of_speed(language: str) -> None:
    at = start(language, m="Qwen/Qwen3-8B", w="bf16", n="24", g="l40s", c="1")
    assert at.number_input(key="ttft_limit").value is None
    assert at.number_input(key="tps_limit").value is None
    assert not {"ttft", "tps"} & query(at).keys()
    at.number_input(key="ttft_limit").set_value(2.0)
    at.number_input(key="tps_limit").set_value(20.0)
    healthy(at.run())
    got = query(at)
    assert (got["ttft"], got["tps"]) == ("2", "20")
    most = users_within(scenario(at), 2.0, 20.0)
    assert most >= 24
    assert f"**{most}**" in verdict(at)
    assert at.success
    # Every plan shown holds them and says for how many.
    facts = [c.value for c in at.markdown if ("free per GPU" in c.value or "每卡空闲" in c.value)]
    assert len(facts) == 3
    said_so = re.compile(r"up to \d+ at once|最多同时 \d+ 个请求")
    assert all(said_so.search(fact.replace("\\", "")) for fact in facts)
    # The same from the link, in the other language's page too.
    again = start(language, **got)
    assert query(again) == got
    assert verdict(again) == verdict(at)
    # Too much for the card: said, though it fits.
    again.number_input(key="tps_limit").set_value(500.0)
    healthy(again.run())
    assert again.warning
    assert "20" not in query(again)["tps"]
    again.number_input(key="tps_limit").set_value(None)
    again.number_input(key="ttft_limit").set_value(None)
    healthy(again.run())
    assert not {"ttft", "tps"} & query(again).keys()


def test_limits_choose_the_plans() -> None:
    slow, fast = start(), start(tps="60")
    before = [c.value for c in slow.markdown if "\n\n##### " in c.value]
    after = [c.value for c in fast.markdown if "\n\n##### " in c.value]
    assert before != after
    assert "60" in verdict(fast)


def test_limits_that_nothing_holds(language: str) -> None:
    at = start(language, tps="5000")
    assert at.error
    assert "5000" in verdict(at).replace(",", "")
    # The near misses say what would do, and a button does it.
    fixes = [b for b in at.button if b.key and b.key.startswith("fix_")]
    assert fixes
    fixes[-1].click()
    healthy(at.run())
    assert float(query(at)["tps"]) < 5000
    assert not at.error


def test_limits_stay_out_of_training(language: str) -> None:
    at = start(language, ttft="2")
    at.segmented_control(key="task").set_value("training")
    healthy(at.run())
    assert "ttft" not in query(at)
    drawn = at.segmented_control(key="picture").options
    assert say("app.option.picture.speed", language) not in drawn
    assert say("app.option.picture.sequence", language) in drawn
    at.segmented_control(key="task").set_value("inference")
    healthy(at.run())
    assert query(at)["ttft"] == "2"


def test_a_preset_asks_for_a_pace_that_people_read_at() -> None:
    at = start("en")
    assert (query(at)["ttft"], query(at)["tps"]) == ("5", "10")
    at.number_input(key="tps_limit").set_value(30.0)
    healthy(at.run())
    assert at.button(key="back_to_preset").label == "Undo changes (1)"
    at.button(key="back_to_preset").click()
    healthy(at.run())
    assert query(at)["tps"] == "10"
    at.selectbox(key="start_from").set_value("article-7b")  # the article asks for no speed
    healthy(at.run())
    assert not {"ttft", "tps"} & query(at).keys()
    at.selectbox(key="start_from").set_value("rag-200")
    healthy(at.run())
    plans = recommended(Request(scenario=scenario(at), ttft_s_limit=5, user_tokens_per_s_limit=10))
    assert plans.tiers["sme"][0].name in said(at)


def test_a_preset_to_train_says_how_much_and_by_when(language: str) -> None:
    at = start(language)
    at.selectbox(key="start_from").set_value("pretrain-65b")
    healthy(at.run())
    assert (query(at)["tok"], query(at)["days"]) == ("1400", "180")
    asked = Request(scenario=scenario(at), train_tokens_b=1400, train_days_limit=180)
    large = recommended(asked).tiers["enterprise"][0]
    assert large.train_days is not None
    assert large.train_days <= 180
    assert large.name in said(at)
    at.selectbox(key="start_from").set_value("qlora-8b")
    healthy(at.run())
    assert not {"tok", "days"} & query(at).keys()
    assert say("app.speed.billion_days", language) in [m.label for m in at.metric]


def test_days_of_a_run_count_for_cards_of_ones_own_choice_too(language: str) -> None:
    asked = parse_scenario({**ARTICLE_65B, "model": "huggyllama/llama-65b", "hardware": {
        "gpu": "a100-sxm4-80", "gpu_count": 24, "tensor_parallel": 8, "pipeline_parallel": 3,
    }})  # fmt: skip
    late = start(language, **link.encode(asked), tok="1400", days="180")
    assert late.warning
    assert re.search(r"\*\*(Takes too long|时间太长)", verdict(late))
    assert start(language, **link.encode(asked), tok="10", days="180").success


def test_a_preset_leaves_nothing_of_another_behind() -> None:
    at = start("en")
    for preset in ("pretrain-65b", "chat-10"):
        at.selectbox(key="start_from").set_value(preset)
        healthy(at.run())
    assert not {"tok", "days"} & query(at).keys()
    # A link of training brings no limits of speed along.
    other = start("en", **link.encode(parse_scenario(ARTICLE_65B)))
    other.segmented_control(key="task").set_value("inference")
    healthy(other.run())
    assert not {"ttft", "tps"} & query(other).keys()


def test_who_reads_chinese_is_asked_whether_they_buy_in_china(language: str) -> None:
    at = start(language)
    asked = [b for b in at.button if b.key == "in_china"]
    assert bool(asked) == (language == "zh")
    for button in asked:
        button.click()
        healthy(at.run())
        assert query(at)["reg"] == "China"
        assert "in_china" not in [b.key for b in at.button]


def test_a_class_says_what_a_buyer_must_know_of_the_cards(language: str) -> None:
    asked = {"model": "deepseek-ai/DeepSeek-R1", "precision": "fp8"}
    at = start(language, **link.encode(parse_scenario(asked)), cond="used", by="NVIDIA")
    plans = [m.value for m in at.markdown if "\n\n##### " in m.value]
    used = say("app.card.used", language)
    found = recommended(Request(scenario=scenario(at), condition="used", vendors=("NVIDIA",))).tiers
    for tier, text in zip([t for t in TIERS if found[t]], plans, strict=True):
        assert (used in text) == (found[tier][0].price.condition == "used")
    for gpu, there in (("h20-96", True), ("h200-sxm", False)):
        plan = recommended(Request(scenario=scenario(at), gpus=(gpu,))).tiers["enterprise"][0]
        place = say("app.option.region.China", language)
        assert (
            say("app.card.sold_in", language, region=place) in plan_facts(plan, language)
        ) == there


def test_a_class_without_a_plan_says_what_comes_nearest(language: str) -> None:
    at = start(language, **link.encode(parse_scenario(ARTICLE_65B), currency="USD"))
    cards = [m.value for m in at.markdown if say("app.tier_none", language) in m.value]
    assert len(cards) == 2
    near = recommended(Request(scenario=scenario(at))).nearest
    for tier, card in zip(TIERS, cards):
        plan = next(p for p in near if p.tier == tier)
        assert plan.name in card.replace("\\", "")
    assert "\\$" in cards[1]  # over the budget; a bare one would begin a formula


def test_what_all_get_together_counts_for_cards_of_ones_own_choice_too(language: str) -> None:
    one = {"m": "Qwen/Qwen3-8B", "w": "bf16", "n": "24", "g": "l40s", "c": "1"}
    short = start(language, **one, all="5000")
    assert short.warning
    assert re.search(r"\*\*(Too little for all|总吞吐不足)", verdict(short))
    assert start(language, **one, all="10").success
    # Beside a limit of each user that holds, the broken one decides.
    both = start(language, **one, all="5000", tps="5")
    assert both.warning
    assert re.search(r"Within your limits|在你的限制内", verdict(both))
    # And where nothing gives so much, it is named.
    none = start(language, **{"m": "Qwen/Qwen3-8B", "n": "1"}, all="900000")
    assert none.error
    assert re.search(r"900,000|90万", verdict(none))


def test_a_card_says_that_its_price_is_of_low_confidence(language: str) -> None:
    words = say("app.card.low_confidence", language)
    plans = recommend(parse_request({"model": "Qwen/Qwen3-8B"})).plans
    assert {plan.price.confidence for plan in plans} >= {"low", "medium"}
    for plan in plans:
        assert (words in plan_facts(plan, language)) == (plan.price.confidence == "low")


def test_limits_that_only_the_middle_keeps_are_likely(language: str) -> None:
    one = {"m": "Qwen/Qwen3-8B", "w": "bf16", "n": "24", "g": "l40s", "c": "1"}
    speed = estimate(scenario(start(language, **one))).performance
    assert speed.ttft_s is not None
    assert speed.ttft_s_high is not None
    between = (speed.ttft_s + speed.ttft_s_high) / 2
    likely = re.compile(r"Likely within|很可能在你的限制内")
    assert likely.search(verdict(start(language, **one, ttft=f"{between:.3f}")))
    assert not likely.search(verdict(start(language, **one, ttft=f"{2 * speed.ttft_s_high:.3f}")))


def test_a_context_that_the_model_does_not_know_is_no_good_answer(language: str) -> None:
    long = {"m": "Qwen/Qwen3-8B", "n": "1", "in": "200000", "g": "h200-sxm", "c": "8"}
    at = start(language, **long)
    assert at.warning
    assert "40,960" in verdict(at)


def test_a_licence_stands_on_the_card_of_a_class(language: str) -> None:
    asked = {"m": "Qwen/Qwen3-235B-A22B", "n": "4", "reg": "China", "by": "NVIDIA"}
    word = say("app.card.licence", language)
    assert word in said(start(language, **asked))
    assert word not in said(start(language, **asked, exp="1"))
