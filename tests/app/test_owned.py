"""Own cards on the purchase page: named, carried by the link, answered."""

from configurator.app import owned
from configurator.app.presets import presets
from configurator.link import encode
from configurator.recommend import ways
from configurator.scenario import parse_scenario
from configurator.words import say
from tests.app.conftest import healthy, query, said, start

MIXED = "rtx-4090:1,rtx-3090:2"


def test_cards_are_named_and_carried_by_the_link(language: str) -> None:
    at = start(language, page="purchase", **encode(presets()[0].scenario))
    assert "own" not in query(at)
    at.session_state["owned"] = True
    at.run()
    at.multiselect(key="owned_cards").set_value(["rtx-4090", "rtx-3090"])
    healthy(at.run())
    at.number_input(key="owned_count_rtx-3090").set_value(2)
    healthy(at.run())
    assert query(at)["own"] == MIXED
    other = start(language, page="purchase", **query(at))
    assert other.multiselect(key="owned_cards").value == ["rtx-4090", "rtx-3090"]
    assert other.number_input(key="owned_count_rtx-3090").value == 2


def test_mixed_cards_are_answered(language: str) -> None:
    scenario = parse_scenario({"model": "Qwen/Qwen2.5-Coder-32B", "precision": "bf16"})
    at = start(language, page="purchase", **encode(scenario), own=MIXED)
    text = said(at)
    assert "--tensor-split" in text or "tensor-split" in text
    assert any("RTX 3090" in frame.value.to_string() for frame in at.dataframe)
    # 70B at 16 bit takes more than 72 GB: cards to add, with a price of its day.
    scenario = parse_scenario({"model": "meta-llama/Llama-3.1-70B", "precision": "bf16"})
    at = start(language, page="purchase", **encode(scenario), own=MIXED)
    assert at.error
    assert "+ " in said(at)
    assert "202" in said(at)


def test_training_on_own_cards_is_said(language: str) -> None:
    scenario = parse_scenario({"model": "Qwen/Qwen3-8B", "task": "training"})
    at = start(language, page="purchase", **encode(scenario), own="a100-sxm4-80:8")
    assert say("app.owned.training", language) in said(at)
    assert not at.error


def test_every_split_has_its_words(language: str) -> None:
    load = {"concurrency": 4, "input_tokens": 4096, "output_tokens": 512}
    texts = set()
    for model in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-14B", "Qwen/Qwen2.5-Coder-32B"):
        scenario = parse_scenario({"model": model, "inference": load})
        small = {"rtx-4090": 1, "rtx-3060-12gb": 1}
        for cards in ({"rtx-4090": 1}, {"rtx-4090": 1, "rtx-3090": 2}, small):
            for way in ways(cards, scenario):
                texts.add((way.split, way.scenario.engine))
                line = owned._line(way, language)
                assert "{" not in line
    assert {split for split, _ in texts} == {"alone", "equal", "layers"}
    assert {engine for split, engine in texts if split == "layers"} == {"vllm", "llama_cpp"}
