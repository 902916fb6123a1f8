"""Scenario → link → scenario is the identity; a bad parameter costs only itself."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configurator import link
from configurator.architecture import read_architecture
from configurator.catalog import load_catalog
from configurator.cost.prices import Condition, Region
from configurator.link.codec import essential_config
from configurator.recommend.request import Objective, Segment
from configurator.scenario import (
    CustomGpu,
    InferenceEngine,
    KvPrecision,
    Method,
    MixedPrecision,
    Offload,
    Optimizer,
    Precision,
    SampleLengths,
    Scenario,
    Sharding,
    TrainingEngine,
    parse_scenario,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "links.txt"
MODELS = sorted(load_catalog().models)
GPUS = sorted(load_catalog().gpus)

counts = st.integers(1, 1_000_000)
tokens = st.integers(1, 100_000_000)
splits = st.none() | st.integers(1, 100_000)
positive = st.floats(1e-6, 10_000, allow_nan=False, exclude_min=True)


def choice(kind: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(kind))


inference = st.fixed_dictionaries(
    {"concurrency": counts, "input_tokens": st.integers(0, 10**8), "output_tokens": tokens},
    optional={
        "max_model_len": tokens,
        "gpu_memory_utilization": st.floats(0, 1, exclude_min=True, allow_subnormal=False),
        "max_num_batched_tokens": tokens,
        "max_num_seqs": counts,
    },
)
training = st.fixed_dictionaries(
    {},
    optional={
        "method": choice(Method),
        "mixed_precision": choice(MixedPrecision),
        "micro_batch_size": counts,
        "sequence_length": tokens,
        "gradient_accumulation": counts,
        "optimizer": choice(Optimizer),
        "gradient_checkpointing": st.booleans(),
        "lora_rank": st.integers(1, 4096),
        "lora_targets": st.sampled_from(["all_linear", "attention"]) | st.lists(st.text()),
        "sharding": choice(Sharding),
        "offload": choice(Offload),
        "sample_lengths": choice(SampleLengths),
    },
)
custom_gpu = st.fixed_dictionaries(
    {"name": st.text(max_size=200), "memory_gib": positive, "bandwidth_gbps": positive},
    optional={"bf16_tflops": positive, "link_gbps": positive, "domain_size": splits},
)
hardware = st.none() | st.fixed_dictionaries(
    {"gpu": st.sampled_from(GPUS) | custom_gpu, "gpu_count": st.integers(1, 100_000)},
    optional={
        "tensor_parallel": splits,
        "pipeline_parallel": splits,
        "expert_parallel": splits,
        "data_parallel": splits,
        "allow_cpu_offload": st.booleans(),
    },
)
sizes = st.fixed_dictionaries({"parameters_b": st.floats(0.1, 2000)})


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    task = draw(st.sampled_from(["inference", "fine_tuning", "training"]))
    engine = InferenceEngine if task == "inference" else TrainingEngine
    data: dict[str, Any] = {
        "version": 1,
        "model": draw(st.sampled_from(MODELS) | sizes),
        "task": task,
        "precision": draw(choice(Precision)),
        "kv_cache_precision": draw(choice(KvPrecision)),
        "engine": draw(choice(engine)),
        "hardware": draw(hardware),
    }
    if task == "inference" or draw(st.booleans()):
        data["inference"] = draw(inference)
    if task != "inference" or draw(st.booleans()):
        data["training"] = draw(training)
    if draw(st.booleans()):
        data["engine_version"] = draw(st.text(max_size=200))
    return parse_scenario(data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_round_trip(scenario: Scenario) -> None:
    parameters = link.encode(scenario, catalog="20261124", currency="CNY")
    # Through a real query string, as the address bar does.
    query = dict(parse_qsl(urlencode(parameters), keep_blank_values=True))
    again, problems = link.decode(query)
    assert again == scenario
    assert problems == []
    assert link.encode(again, catalog="20261124", currency="CNY") == parameters


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(link.PARAMETERS)) | st.text(max_size=8),
        st.text(max_size=30) | st.integers().map(str) | st.floats().map(str),
        max_size=8,
    )
)
def test_never_raises(query: dict[str, str]) -> None:
    scenario, problems = link.decode(query)
    assert isinstance(scenario, Scenario)
    for problem in problems:
        assert problem.text("en")
        assert problem.text("zh")


def test_is_complete_and_short() -> None:
    scenario = parse_scenario({"model": "deepseek-ai/DeepSeek-R1"})
    parameters = link.encode(scenario, catalog="20261124", currency="USD")
    assert parameters == {
        "v": "1", "m": "deepseek-ai/DeepSeek-R1", "t": "inference", "w": "auto", "kv": "auto",
        "e": "vllm", "n": "1", "in": "1024", "out": "512", "g": "auto", "cur": "USD",
        "cat": "20261124",
    }  # fmt: skip
    assert link.decode(parameters)[1] == []


BASE = link.encode(
    parse_scenario({"model": "Qwen/Qwen3-8B", "hardware": {"gpu": "rtx-4090", "gpu_count": 2}})
)


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        ("lora", "[" * 20_000, "bad_value"),
        ("n", "-1", "bad_value"),
        ("n", "0", "bad_value"),
        ("n", "1e3", "bad_value"),
        ("n", "abc", "bad_value"),
        ("n", "nan", "bad_value"),
        ("n", "９", "bad_value"),
        ("n", "9" * 400, "bad_value"),
        ("in", "1.5", "bad_value"),
        ("out", "99999999999", "bad_value"),
        ("w", "fp13", "bad_value"),
        ("w", "BF16 · 16 bit", "bad_value"),
        ("kv", "", "bad_value"),
        ("t", "LoRA 微调", "bad_value"),
        ("e", "deepspeed", "bad_value"),
        ("c", "1000000000000", "bad_value"),
        ("tp", "inf", "bad_value"),
        ("host", "yes", "bad_value"),
        ("util", "2", "bad_value"),
        ("util", "-0.5", "bad_value"),
        ("m", "nobody/nothing", "unknown_model"),
        ("m", "[Pay](https://evil)", "unknown_model"),
        ("g", "rtx-9999", "unknown_gpu"),
        ("gj", "[1]", "bad_gpu"),
        ("gj", '{"name":"x","memory_gib":-4,"bandwidth_gbps":1}', "bad_gpu"),
        ("cfg", "[]", "bad_config"),
        ("cfg", '{"a":', "bad_config"),
        ("cfg", "[" * 5000, "bad_config"),
        ("b", "7", None),
        ("b", "many", "bad_size"),
        ("b", "1e9", "unusable_size"),
        ("up", "x", "upload_again"),
        ("v", "99", "newer_version"),
        ("v", "x", "bad_version"),
        ("zzz", "1", "unknown_parameter"),
    ],
)
def test_one_bad_parameter(parameter: str, value: str, code: str | None) -> None:
    if code == "unusable_size":
        code = "bad_size"
    query = {**BASE, parameter: value}
    scenario, problems = link.decode(query)
    assert [p.code for p in problems] == ([] if code is None else [code])
    # The rest is kept: without the bad parameter the same scenario comes out.
    kept = {k: v for k, v in query.items() if k != parameter}
    expected, _ = link.decode(kept)
    changed = {"cfg": {"model"}, "b": {"model"}, "m": {"model"}, "g": {"hardware"},
               "gj": {"hardware"}, "up": {"model"}}.get(parameter, set())  # fmt: skip
    for name in Scenario.model_fields:
        if name not in changed:
            assert getattr(scenario, name) == getattr(expected, name), name


def test_missing_fields_are_said() -> None:
    scenario, problems = link.decode({"m": "Qwen3-8B", "g": "rtx-4090"})
    assert scenario.model == "Qwen/Qwen3-8B"
    assert [p.code for p in problems] == ["missing"]
    assert problems[0].parameter == "t, w, kv, e, n, in, out"
    assert link.decode({})[1] == []
    assert link.decode({"lang": "zh", "utm_source": "mail"})[1] == []


def test_uploaded_config_travels_by_its_essentials() -> None:
    config = load_catalog().model_config("Qwen/Qwen3-8B") | {"note": "x" * 3000}
    scenario = parse_scenario({"model": {"config": config, "name": "mine.json"}})
    parameters = link.encode(scenario)
    assert len(parameters["cfg"]) <= link.MAX_CONFIG_CHARACTERS
    again, problems = link.decode(parameters)
    assert problems == []
    assert read_architecture(again.model.config) == read_architecture(config)  # type: ignore[union-attr]
    assert again.model.name == "mine.json"  # type: ignore[union-attr]
    assert link.encode(again) == parameters


def test_config_too_long_for_a_link_says_so() -> None:
    config = load_catalog().model_config("Qwen/Qwen3-8B")
    config["num_hidden_layers"] = 400
    config["layer_types"] = ["full_attention", "sliding_attention"] * 200
    config["sliding_window"] = 512
    parameters = link.encode(parse_scenario({"model": {"config": config, "name": "[x](y)"}}))
    assert "cfg" not in parameters
    assert "name" not in parameters
    again, problems = link.decode(parameters)
    assert [p.code for p in problems] == ["upload_again"]
    assert again.model.parameters_b == pytest.approx(  # type: ignore[union-attr]
        read_architecture(config).parameters / 1e9, abs=0.001
    )


def test_reads_currency_and_catalog() -> None:
    assert link.catalog_of({"cat": "20261124"}) == "20261124"
    assert link.catalog_of({"cat": "<script>"}) == ""
    assert link.currency_of({"cur": "CNY"}) == "CNY"
    assert link.currency_of({"cur": "XXX"}) == ""


def test_limits_of_speed_round_trip() -> None:
    scenario = parse_scenario({"model": "Qwen/Qwen3-8B"})
    parameters = link.encode(scenario, ttft_s=1.5, tokens_per_s=20.0)
    assert (parameters["ttft"], parameters["tps"]) == ("1.5", "20")
    assert link.limits_of(parameters) == (1.5, 20.0)
    assert link.decode(parameters) == (scenario, [])
    assert not {"ttft", "tps"} & link.encode(scenario).keys()
    assert link.limits_of({}) == (None, None)


@given(st.none() | st.floats(1e-3, 1e6), st.none() | st.floats(1e-3, 1e6))
def test_any_limit_round_trips(ttft: float | None, tps: float | None) -> None:
    scenario = parse_scenario({"model": "Qwen/Qwen3-8B"})
    parameters = link.encode(scenario, ttft_s=ttft, tokens_per_s=tps)
    assert link.limits_of(parameters) == (ttft, tps)
    assert link.decode(parameters)[1] == []


@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e9", "soon", "", "２"])
def test_bad_limit_is_said(value: str) -> None:
    scenario, problems = link.decode({**BASE, "ttft": value, "tps": "20"})
    assert [(p.parameter, p.code) for p in problems] == [("ttft", "bad_value")]
    assert link.limits_of({"ttft": value, "tps": "20"}) == (None, 20.0)
    assert scenario == link.decode(BASE)[0]


sums = st.dictionaries(st.sampled_from(link.BUYERS), st.floats(0.01, link.MAX_SUM), max_size=3)
limits = st.none() | st.floats(0.01, link.MAX_SUM)
shares = st.none() | st.floats(0, link.MOST_SHARE)


def subsets(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    picked = st.lists(st.sampled_from(names), unique=True)
    return picked.map(lambda some: tuple(name for name in names if name in some))


purchases = st.builds(
    link.Buying,
    years=st.none() | st.integers(1, 5),
    utilisation=st.none() | st.floats(0.001, 1),
    owned=st.dictionaries(st.sampled_from(GPUS), st.integers(1, 100), max_size=8),
    compared=st.none()
    | st.lists(
        st.builds("{}:{}".format, st.sampled_from(link.BUYERS), st.sampled_from(GPUS)),
        max_size=4, unique=True,
    ).map(tuple),
    budgets=sums,
    powers=sums,
    others=sums,
    accept_tight=st.booleans(),
    objective=st.sampled_from(get_args(Objective)),
    region=st.sampled_from(get_args(Region)),
    condition=st.sampled_from(get_args(Condition)),
    segments=subsets(get_args(Segment)),
    form_factors=subsets(link.form_factors()),
    features=subsets(link.FEATURES),
    max_gpus=st.none() | st.integers(1, link.MAX_COUNT),
    max_rack_units=limits,
    max_power_w_per_host=limits,
    spare_gpus=st.none() | st.integers(0, link.MAX_COUNT),
    spare_node=st.booleans(),
    sure_prices=st.booleans(),
    export_limits=st.booleans(),
    cny_per_usd=st.none() | st.floats(0.01, 1000),
    tariff_per_kwh=st.none() | st.floats(0, link.MOST_TARIFF),
    pue=st.none() | st.floats(1, link.MOST_PUE),
    hosting_per_kw_month=st.none() | st.floats(0, link.MAX_SUM),
    staff_share=shares,
    support_share=shares,
    resale_share=shares,
    output_tokens_per_s_limit=limits,
    train_tokens_b=limits,
    train_days_limit=limits,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(purchases)
def test_any_purchase_round_trips(buying: link.Buying) -> None:
    scenario = parse_scenario({"model": "Qwen/Qwen3-8B"})
    parameters = link.encode(scenario, buying=buying)
    query = dict(parse_qsl(urlencode(parameters), keep_blank_values=True))
    assert link.buying_of(query) == buying
    assert link.decode(query) == (scenario, [])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("obj", "luck"), ("reg", "Mars"), ("cond", "broken"), ("seg", "toys"), ("seg", ""),
        ("form", "PCIe card,PCIe card"), ("must", "wings"), ("most", "0"), ("ru", "0"),
        ("boxw", "-1"), ("spare", "x"), ("sparebox", "2"), ("kwh", "101"), ("pue", "0.9"),
        ("colo", "-1"), ("staff", "0.96"), ("sup", "1"), ("left", "nan"),
        ("yrs", "0"), ("yrs", "6"), ("yrs", "three"), ("busy", "0"), ("busy", "1.5"),
        ("own", ""), ("own", "rtx-4090"), ("own", "rtx-4090:0"), ("own", "rtx-4090:-1"),
        ("own", "nosuch:2"), ("own", "rtx-4090:1,rtx-4090:2"), ("own", "rtx-4090:99999"),
        ("cmp", ""), ("cmp", "sme"), ("cmp", "nobody:l40s"), ("cmp", "sme:nosuch"),
        ("cmp", "sme:l40s,sme:l40s"), ("cmp", "sme:0"),
        ("cmp", ",".join(f"sme:{gpu}" for gpu in GPUS[:5])),
        ("bud", "sme:0"), ("bud", "sme:nan"), ("bud", "me:5"), ("watt", "sme:1e99"),
        ("watt", "sme"), ("tight", "yes"),
    ],
)  # fmt: skip
def test_bad_purchase_is_said_and_costs_only_itself(parameter: str, value: str) -> None:
    good = {"yrs": "5", "own": "rtx-4090:1,rtx-3090:2", "cmp": "sme:l40s,enterprise:h100-sxm"}
    query = {**BASE, **good, parameter: value}
    scenario, problems = link.decode(query)
    assert [(p.parameter, p.code) for p in problems] == [(parameter, "bad_value")]
    assert scenario == link.decode(BASE)[0]
    kept = {k: v for k, v in query.items() if k != parameter}
    assert link.buying_of(query) == link.buying_of(kept)


def golden_links() -> list[tuple[str, str]]:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(query, scenario) for query, scenario in rows]


@pytest.mark.parametrize(("query", "expected"), golden_links())
def test_old_links_keep_their_meaning(query: str, expected: str) -> None:
    scenario, problems = link.decode(dict(parse_qsl(query, keep_blank_values=True)))
    assert problems == []
    wanted = json.loads(expected)
    limits = wanted.pop("limits", [None, None])
    buying = wanted.pop("buying", {})
    assert json.loads(scenario.model_dump_json(exclude_none=True)) == wanted
    assert list(link.limits_of(dict(parse_qsl(query)))) == limits
    assert json.loads(json.dumps(asdict(link.buying_of(dict(parse_qsl(query)))))) == {
        **json.loads(json.dumps(asdict(link.Buying()))), **buying,
    }  # fmt: skip


def test_what_a_config_depends_on_is_found_in_few_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_catalog().model_config("Qwen/Qwen3-8B")
    readings = []

    def counted(*given: Any) -> Any:
        readings.append(given)
        return read_architecture(*given)

    monkeypatch.setattr("configurator.link.codec.read_architecture", counted)
    more = {f"note_{number}": number for number in range(2000)}
    assert essential_config({**more, **config}) == essential_config(config)
    assert len(readings) < 400


def test_names_are_never_reused() -> None:
    names = [name for name in link.PARAMETERS if name not in link.NOT_SCENARIO]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]{1,5}", name) for name in names)


def test_custom_gpu_model() -> None:
    gpu = CustomGpu(name="</script>", memory_gib=24, bandwidth_gbps=1000)
    scenario = parse_scenario(
        {"model": {"parameters_b": 7}, "hardware": {"gpu": gpu.model_dump(), "gpu_count": 1}}
    )
    assert link.decode(link.encode(scenario))[0] == scenario


def test_an_empty_version_is_none() -> None:
    assert parse_scenario({"model": "Qwen/Qwen3-8B", "engine_version": ""}).engine_version is None


@settings(max_examples=50, deadline=None)
@given(scenarios(), scenarios())
def test_a_second_load_round_trips(scenario: Scenario, also: Scenario) -> None:
    query = dict(parse_qsl(urlencode(link.encode(scenario, also=also)), keep_blank_values=True))
    bare = also.model_copy(update={"hardware": None})
    assert link.also_of(query) == (None if "up" in link.encode(bare) else bare)
    assert link.decode(query)[0] == link.decode(link.encode(scenario))[0]


def test_a_currency_that_no_price_is_shown_in_is_reported():
    _, problems = link.decode({"v": "1", "m": "Qwen/Qwen3-8B", "cur": "EUR"})
    assert "cur" in [p.parameter for p in problems]
