"""Near misses: what each lacks, and a button for every change that makes it fit."""

from configurator.app import nearest
from configurator.app.presets import presets
from configurator.link import encode
from configurator.recommend import Change, Fix, recommend
from configurator.recommend.request import Request
from configurator.scenario import parse_scenario
from tests.app.conftest import healthy, query, said, start

R1 = {
    "model": "deepseek-ai/DeepSeek-R1",
    "precision": "q4_k_m",
    "engine": "llama_cpp",
    "inference": {"concurrency": 4, "input_tokens": 3072, "output_tokens": 1024},
}


def asked(**changes: object) -> dict[str, str]:
    return encode(parse_scenario({**R1, **changes}), currency="USD")


def buttons(at, prefix: str) -> list:
    return [b for b in at.button if b.key and b.key.startswith(prefix)]


def test_a_button_accepts_what_is_inside_the_error_and_the_link_carries_it(language: str) -> None:
    at = start(language, **asked(model="Qwen/Qwen3-235B-A22B"), by="Apple", cond="any")
    assert at.error
    buttons(at, "fix_")[0].click()
    healthy(at.run())
    assert not at.error
    shared = query(at)
    assert shared["tight"] == "1"
    assert shared["g"] == "apple-m2-ultra"
    other = start(language, **shared)
    assert not other.error
    buttons(other, "usual_terms")[0].click()
    healthy(other.run())
    assert "tight" not in query(other)


def test_every_near_miss_has_a_button(language: str) -> None:
    at = start(language, **asked(), by="Intel")
    found = recommend(Request(scenario=parse_scenario(R1), vendors=("Intel",)))
    for place, _ in enumerate(found.nearest):
        key = f"fix_{place}_0"
        again = start(language, **asked(), by="Intel")
        again.button(key=key).click()
        healthy(again.run())
        assert not again.error, key
    assert len(found.nearest) > 1
    assert at.error


def test_a_smaller_model_is_offered_where_nothing_else_helps() -> None:
    found = recommend(Request(scenario=parse_scenario(R1), vendors=("Intel",)))
    hopeless = next(plan for plan in found.nearest if not plan.fixes)
    (fix,) = nearest.fixes_of(hopeless)
    assert fix.changes[0].field == "scenario.model"
    assert "DeepSeek-R1" not in nearest.fix_text(fix, "en").replace("Distill", "")
    assert nearest.fix_text(fix, "zh") != nearest.fix_text(fix, "en")


def test_what_to_allow_where_no_card_comes_into_question(language: str) -> None:
    link = asked(engine="tensorrt_llm", precision="fp8")
    for number in range(2):
        at = start(language, **link, by="AMD")
        assert at.error
        assert len(buttons(at, "opening_")) == 2
        buttons(at, "opening_")[number].click()
        healthy(at.run())
        assert not at.error


def test_a_budget_in_the_link_holds_for_its_class_of_buyer_and_is_said(language: str) -> None:
    link = encode(presets()[0].scenario, currency="USD")
    at = start(language, **link, bud="individual:300")
    assert not buttons(at, "use_individual")
    assert buttons(at, "use_sme")
    assert "300" in said(at)
    buttons(at, "usual_terms")[0].click()
    healthy(at.run())
    assert buttons(at, "use_individual")
    assert "bud" not in query(at)


def test_only_changes_that_the_page_can_make_are_offered() -> None:
    scenario = presets()[0].scenario
    assert nearest.takes(Fix((Change("tiers.sme.max_budget", 5.0),), scenario))
    assert nearest.takes(Fix((Change("scenario.training.offload", "optimizer"),), scenario))
    assert nearest.takes(Fix((Change("max_rack_units", 5.0),), scenario))
    assert not nearest.takes(Fix((Change("gpus", ()),), scenario))
    assert not nearest.takes(Fix((Change("ttft_s_limit", 0.0),), scenario))
    assert not nearest.takes(Fix((Change("vendors", ()),)))
