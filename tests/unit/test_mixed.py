"""Cards of several kinds: what the rules of each split say, and the cheapest cards to add."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.catalog import load_catalog
from configurator.cost.prices import card_price
from configurator.errors import InputError
from configurator.estimate import architecture_of, estimate
from configurator.memory.weights import weight_table
from configurator.recommend import own_models, parse_request, upgrades, ways
from configurator.scenario import Scenario, parse_scenario

CATALOG = load_catalog()
GIB = 2**30
MIXED = {"rtx-4090": 1, "rtx-3090": 2}
CODER = "Qwen/Qwen2.5-Coder-32B"
SEVENTY = "meta-llama/Llama-3.1-70B"


def load(model: str = CODER, **changes: object) -> Scenario:
    inference = {"concurrency": 2, "input_tokens": 4096, "output_tokens": 512}
    return parse_scenario({"model": model, "inference": inference, **changes})


def best_of(cards: dict[str, int], scenario: Scenario, precision: str, engine: str):
    found = ways(cards, scenario, (engine,), (precision,))
    return found[0] if found else None


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama_cpp"])
@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen2.5-32B-Instruct"])
def test_cards_of_one_kind_agree_with_the_ordinary_estimate(model: str, engine: str) -> None:
    (way,) = ways({"rtx-4090": 2}, load(model), (engine,))
    answer = estimate(way.scenario)
    assert answer.memory.fits is True
    assert way.precision == answer.precision
    assert way.headroom_gib == pytest.approx(answer.memory.headroom_gib, rel=1e-6)
    speed = answer.performance
    assert way.user_tokens_per_s == pytest.approx(1 / speed.tpot_s, rel=1e-6)
    assert way.output_tokens_per_s == pytest.approx(speed.output_tokens_per_s, rel=1e-6)
    assert way.ttft_s == pytest.approx(speed.ttft_s, rel=1e-6)
    beyond = way.max_users + 9 + way.max_users // 8
    for users, fits in ((way.max_users, True), (beyond, False)):
        more = way.scenario.serving.model_copy(update={"concurrency": users})
        asked = way.scenario.model_copy(update={"inference": more})
        assert (estimate(asked).memory.fits is True) is fits


def test_the_first_precision_that_fits_is_taken() -> None:
    for engine, smaller in (("vllm", ("fp8", "int8", "int4")), ("llama_cpp", ("q8_0", "q4_k_m"))):
        (small,) = ways({"rtx-4090": 2}, load("Qwen/Qwen3-8B"), (engine,))
        (large,) = ways({"rtx-4090": 2}, load("Qwen/Qwen2.5-32B-Instruct"), (engine,))
        assert small.precision == "bf16"
        assert large.precision in smaller
    assert not ways({"rtx-4090": 2}, load("deepseek-ai/DeepSeek-R1"))


MANY = {"concurrency": 64, "input_tokens": 512, "output_tokens": 256}


@pytest.mark.parametrize("engine", ["vllm", "transformers", "llama_cpp"])
def test_memory_that_is_held_already_is_not_given_out(engine: str) -> None:
    """The fastest are two whole copies; where they lack room, each card holds a part of one."""
    scenario = load("Qwen/Qwen3-4B", inference=MANY)
    copies = best_of({"rtx-4090": 2}, scenario, "bf16", engine)
    whole = estimate(copies.scenario).memory.required_high_gib
    free = 0.9 * whole * GIB
    (shared,) = ways({"rtx-4090": 2}, scenario, (engine,), ("bf16",), free_bytes=free)
    assert copies.data == 2
    assert shared.data == 1
    answer = estimate(shared.scenario)
    assert answer.memory.required_high_gib <= free / GIB
    assert shared.headroom_gib == pytest.approx(free / GIB - answer.memory.required_gib)
    assert shared.output_tokens_per_s == pytest.approx(answer.performance.output_tokens_per_s)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["vllm", "sglang", "llama_cpp"]), st.sampled_from([1, 2, 4]),
    st.sampled_from(["Qwen/Qwen3-8B", CODER]), st.floats(0.5, 24), st.floats(0.5, 24),
)  # fmt: skip
def test_laws_of_free_memory(engine: str, count: int, model: str, one: float, other: float) -> None:
    cards, scenario = {"rtx-4090": count}, load(model)
    little, much = sorted((one, other))
    for precision in ("bf16", "int4"):
        for way in ways(cards, scenario, (engine,), (precision,), free_bytes=little * GIB):
            assert estimate(way.scenario).memory.required_high_gib <= little * (1 + 1e-9)
            # More that is free never does less.
            (more,) = ways(cards, scenario, (engine,), (precision,), free_bytes=much * GIB)
            assert more.output_tokens_per_s >= way.output_tokens_per_s
            (empty,) = ways(cards, scenario, (engine,), (precision,))
            assert empty.output_tokens_per_s >= more.output_tokens_per_s


def test_fewer_bits_are_taken_where_little_is_free() -> None:
    cards, scenario = {"rtx-4090": 1}, load("Qwen/Qwen3-8B")
    found = [ways(cards, scenario, free_bytes=gib * GIB) for gib in (23, 13, 9, 2)]
    assert [[way.precision for way in here] for here in found] == [
        ["bf16", "bf16"], ["fp8", "q8_0"], ["int4", "q4_k_m"], [],
    ]  # fmt: skip


def test_layers_by_memory_lie_in_what_is_free() -> None:
    """Three times 12 GB of 32: layers go by what is free, which is the same on every card."""
    cards, scenario = {"rtx-5090": 1, "rtx-4090": 2}, load("Qwen/Qwen3-14B")
    (way,) = ways(cards, scenario, ("llama_cpp",), ("bf16",), free_bytes=13 * GIB)
    assert way.split == "layers"
    assert max(way.layers) - min(way.layers) <= 1
    assert 0 <= way.headroom_gib < 13


def test_layers_by_memory_carry_what_equal_shares_do_not() -> None:
    """32 + 12 GB: 30 GB of weights do not lie in two equal parts, but do by memory."""
    cards = {"rtx-5090": 1, "rtx-3060-12gb": 1}
    users = {"concurrency": 4, "input_tokens": 4096, "output_tokens": 512}
    scenario = load("Qwen/Qwen3-14B", inference=users)
    assert best_of(cards, scenario, "bf16", "sglang") is None
    for engine in ("llama_cpp", "vllm"):
        way = best_of(cards, scenario, "bf16", engine)
        assert way.split == "layers"
        arch = architecture_of(scenario)
        assert sum(way.layers) == arch.num_layers
        big, small = way.layers
        # No card holds more than it has: weights of its layers alone already bound that.
        table = weight_table(arch, "bf16", engine)
        for gpu, layers in zip(way.cards, way.layers, strict=True):
            held = table.layer_total * layers / arch.num_layers
            assert held < CATALOG.gpu(gpu).memory_bytes
        assert 2 < big / small < 5


def test_equal_shares_are_bound_by_the_smallest_and_the_slowest() -> None:
    scenario = load("Qwen/Qwen3-8B", precision="bf16")
    fast = best_of({"rtx-4090": 2}, scenario, "bf16", "sglang")
    slow = best_of({"rtx-3060-12gb": 2}, scenario, "bf16", "sglang")
    both = best_of({"rtx-4090": 1, "rtx-3060-12gb": 1}, scenario, "bf16", "sglang")
    # Beside the small one the large one is worth no more than another small one, or used alone.
    assert both.max_users <= fast.max_users
    if both.split == "equal":
        assert both.output_tokens_per_s <= slow.output_tokens_per_s * (1 + 1e-9)
    else:
        assert both.cards == {"rtx-4090": 1}


def test_layers_take_the_time_of_their_own_card() -> None:
    """Between all on the slow kind and all on the fast kind, and nearer to where the layers are."""
    scenario = load(precision="q8_0", engine="llama_cpp")
    mixed = best_of({"rtx-3090": 1, "rtx-5090": 1}, scenario, "q8_0", "llama_cpp")
    fast = best_of({"rtx-5090": 2}, scenario, "q8_0", "llama_cpp")
    slow = best_of({"rtx-3090": 2}, scenario, "q8_0", "llama_cpp")
    assert mixed.split == "layers"
    assert slow.user_tokens_per_s < mixed.user_tokens_per_s < fast.user_tokens_per_s
    share = mixed.layers[0] / sum(mixed.layers)
    expected = 1 / (share / fast.user_tokens_per_s + (1 - share) / slow.user_tokens_per_s)
    assert mixed.user_tokens_per_s == pytest.approx(expected, rel=0.1)


CARDS = st.dictionaries(
    st.sampled_from(["rtx-4090", "rtx-3090", "rtx-3060-12gb", "rtx-5090", "l40s"]),
    st.integers(1, 3), min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(CARDS, st.sampled_from(["Qwen/Qwen3-8B", CODER, SEVENTY]), st.integers(1, 32))
def test_laws_of_mixed_cards(cards: dict[str, int], model: str, users: int) -> None:
    inference = {"concurrency": users, "input_tokens": 2048, "output_tokens": 256}
    scenario = load(model, inference=inference)
    for way in ways(cards, scenario):
        # Only own cards, all requests in, room left, and layers that sum up.
        assert all(0 < n <= cards[gpu] for gpu, n in way.cards.items())
        assert way.max_users >= users
        assert way.headroom_gib >= 0
        assert way.user_tokens_per_s > 0
        layers = architecture_of(scenario).num_layers
        assert sum(way.layers) == (layers if way.split == "layers" else 0)
        assert len(way.layers) in (0, sum(way.cards.values()))
    # More cards never do less.
    more = {**cards, "rtx-4090": cards.get("rtx-4090", 0) + 1}
    for engine in ("vllm", "llama_cpp"):
        if sum(more.values()) <= 8 and ways(cards, scenario, (engine,), ("int4",)):
            assert ways(more, scenario, (engine,), ("int4",))


def test_models_that_run_here() -> None:
    found = {way.model: way for way in own_models(MIXED, load(), ["Qwen/Qwen3-8B", CODER, SEVENTY])}
    assert found[CODER].precision in ("bf16", "fp8")
    assert found[SEVENTY].precision in ("int4", "q4_k_m")
    assert "Qwen/Qwen3-8B" in found
    assert not list(own_models({"rtx-3060-12gb": 1}, load(), ["deepseek-ai/DeepSeek-R1"]))


@pytest.mark.parametrize("currency", ["USD", "CNY"])
def test_the_cheapest_cards_to_add(currency: str) -> None:
    scenario = load(SEVENTY, precision="bf16")
    assert not ways(MIXED, scenario, precisions=("bf16",))
    found = upgrades(MIXED, parse_request({"scenario": scenario, "currency": currency}))
    assert found
    assert [item.price for item in found] == sorted(item.price for item in found)
    for item in found:
        price = card_price(CATALOG, item.gpu).amount.value
        rate = CATALOG.currencies[currency].per_usd.value
        assert item.price == pytest.approx(price * item.count * rate, abs=0.01)
        together = {**MIXED, item.gpu: MIXED.get(item.gpu, 0) + item.count}
        assert item.way.cards[item.gpu] == together[item.gpu]
        engine = item.way.scenario.engine
        assert ways(together, scenario, (engine,), ("bf16",))


def test_cards_to_add_keep_the_limits_of_speed() -> None:
    asked = {"scenario": load(SEVENTY, precision="bf16")}
    free = upgrades(MIXED, parse_request(asked))
    fast = upgrades(MIXED, parse_request({**asked, "user_tokens_per_s_limit": 20}))
    assert all(item.way.user_tokens_per_s >= 20 for item in fast)
    assert not fast or fast[0].price >= free[0].price


@pytest.mark.parametrize(
    ("cards", "field"),
    [
        ({}, "owned"),
        ({"nosuch": 1}, "owned"),
        ({"rtx-4090": 0}, "owned.rtx-4090"),
        ({"rtx-4090": 1.5}, "owned.rtx-4090"),
        ({"rtx-4090": True}, "owned.rtx-4090"),
    ],
)
def test_bad_cards_are_named(cards: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as error:
        ways(cards, load())
    assert error.value.field == field


def test_training_needs_equal_cards() -> None:
    with pytest.raises(InputError) as error:
        ways(MIXED, parse_scenario({"model": CODER, "task": "training"}))
    assert error.value.field == "task"


def test_makers_are_not_mixed() -> None:
    for way in ways({"rtx-4090": 1, "rx-7900-xtx": 1}, load("Qwen/Qwen3-8B")):
        assert len({CATALOG.gpu(gpu).vendor for gpu in way.cards}) == 1


def test_answers_are_plain_json() -> None:
    import json

    way = ways(MIXED, load())[0]
    assert json.loads(json.dumps(way.to_dict()))["cards"]
    scenario = load(SEVENTY, precision="bf16")
    item = upgrades(MIXED, parse_request({"scenario": scenario}))[0]
    assert json.loads(json.dumps(item.to_dict()))["price_date"]
