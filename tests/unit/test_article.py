"""The article, answered: all statements, verdicts that follow from figures, reasons that read."""

from __future__ import annotations

import io
import json
import math
import re
import time
from typing import get_args

import pytest

from configurator.architecture import typical_architecture
from configurator.article import (
    EVALUATORS,
    Question,
    article_report,
    evaluate,
    evaluators,
    figure_text,
    load_article,
    off_factor,
    rule_of_thumb_gib,
    run_article,
    vary,
)
from configurator.estimate import architecture_of
from configurator.scenario import Precision, parse_scenario

EXPECTED = {
    "A1": "holds_with_conditions", "A2": "holds", "A3": "holds_with_conditions", "A4": "off_by",
    "A5": "holds_with_conditions", "A6": "holds", "A7": "off_by", "A8": "off_by",
    "A9": "holds_with_conditions", "A10": "off_by", "A11": "off_by", "A12": "off_by",
    "A13": "off_by", "A14": "holds_with_conditions", "A15": "holds", "A16": "holds",
    "A17": "holds_with_conditions", "A18": "off_by", "A19": "holds_with_conditions",
    "A20": "holds", "A21": "holds", "A22": "holds_with_conditions",
    "A23": "holds_with_conditions", "A24": "holds_with_conditions",
    "A25": "holds_with_conditions", "A26": "holds", "A27": "off_by", "A28": "off_by",
    "A29": "holds_with_conditions", "A30": "off_by", "A31": "off_by", "A32": "off_by",
    "A33": "holds_with_conditions", "A34": "holds_with_conditions", "A35": "holds",
    "A36": "holds", "A37": "off_by", "A38": "holds_with_conditions",
    "A39": "holds_with_conditions",
}  # fmt: skip


@pytest.fixture(scope="module")
def findings():
    return {s.id: evaluate(s) for s in load_article().statements}


@pytest.fixture(scope="module")
def reports():
    return {language: article_report(language)["statements"] for language in ("en", "zh")}


def test_all_39_statements_in_order():
    assert [s.id for s in load_article().statements] == [f"A{n}" for n in range(1, 40)]


def test_verdicts(findings):
    assert {name: f.verdict for name, f in findings.items()} == EXPECTED


def test_contract_fields_and_json(reports):
    for report in reports.values():
        assert len(report) == 39
        for item in report:
            assert {
                "id", "statement", "scenario", "ours", "measured", "verdict", "reason",
            } <= set(item)  # fmt: skip
            if item["scenario"] is not None:
                parse_scenario(item["scenario"])
        json.dumps(report, allow_nan=False)


def test_reasons_have_figures_and_no_gap(reports):
    for language, report in reports.items():
        for item in report:
            assert "nan" not in item["reason"], item["id"]
            assert "{" not in item["reason"] + item["verdict_text"]
            if item["id"] != "A36":
                assert re.search(r"\d", item["reason"]), item["id"]
            has_chinese = re.search(r"[一-鿿]", item["statement"] + item["reason"])
            assert bool(has_chinese) == (language == "zh"), item["id"]


def test_off_by_carries_a_computed_factor(findings):
    for name, f in findings.items():
        if f.verdict == "off_by" and name != "A28":
            figure = f.statement.figures.get(f.compared.article)
            figure = f.values[f.compared.article] if figure is None else figure
            got = off_factor(f.values[f.compared.ours], figure, f.compared.sense)
            assert f.factor == pytest.approx(got)
            assert f.factor > load_article().tolerance
    assert findings["A28"].factor is None


def test_evidence_is_sourced_and_dated():
    cited = [e for s in load_article().statements for e in s.measured]
    assert len(cited) >= 12
    assert all(e.source and e.date.year >= 2024 for e in cited)


# ---- corrections that must be right


def test_a8_every_card_from_ampere_on_has_bf16(findings):
    values = findings["A8"].values
    assert values["without_bf16"] == 0
    assert values["bf16_cards"] > 5 * values["named_cards"]


def test_a10_int8_is_above_what_memory_allows(findings):
    values = findings["A10"].values
    assert values["int8_bound_tokens_per_s"] < 380
    assert values["int8_decode_tokens_per_s"] < values["int8_bound_tokens_per_s"]
    # A100 80GB SXM: 2,039 GB/s over the bytes that a token reads.
    assert values["int8_bound_tokens_per_s"] * values["int8_read_gb"] == pytest.approx(
        2039, rel=0.01
    )
    assert findings["A10"].article_is_high


def test_a11_growth_is_the_cache(findings):
    values = findings["A11"].values
    # 30 layers × 2 × 4,096 × 2 bytes × 1,024 tokens × 100 requests.
    assert values["added_gib"] == pytest.approx(30 * 2 * 4096 * 2 * 1024 * 100 / 2**30, rel=1e-6)
    assert values["growth_share"] > 2


def test_a12_a13_training_is_eight_times(findings):
    assert findings["A13"].values["training_ratio"] > 8
    assert findings["A12"].values["all_cards_gb"] > 60
    assert findings["A12"].values["lora_all_cards_gb"] < 24


def test_a19_one_mi300x_holds_65b(findings):
    values = findings["A19"].values
    assert values["memory_type"] == "HBM3"
    assert values["fits"] is True


def test_a23_saves_activations_only(findings):
    values = findings["A23"].values
    assert values["on_required_gib"] < values["off_required_gib"]
    assert values["activations_saved_share"] > values["saved_share"]
    assert values["extra_time_share"] > 0


def test_a32_eight_cards_do_not_train_65b(findings):
    values = findings["A32"].values
    assert values["required_gib"] > values["capacity_gib"]
    assert values["cards_needed"] > 8


def test_a34_all_experts_are_held(findings):
    values = findings["A34"].values
    assert values["weights_gib"] * values["cards"] == pytest.approx(
        values["parameters_b"] * 1e9 * 2 / 2**30, rel=0.02
    )


def test_a37_says_when_it_holds(findings, reports):
    values = findings["A37"].values
    assert values["on_demand_full_share"] < values["on_demand_half_share"]
    for share in ("on_demand_full_share", "on_demand_half_share"):
        text = next(i for i in reports["en"] if i["id"] == "A37")["reason"]
        assert f"{values[share]:.0%}" in text


# ---- parts


@pytest.mark.parametrize(
    ("ours", "figure", "sense", "factor"),
    [
        (2.0, (1.0, 3.0), "about", 1.0),
        (6.0, (1.0, 3.0), "about", 2.0),
        (0.5, (1.0, 3.0), "about", 2.0),
        (10.0, 5.0, "at_least", 1.0),
        (2.5, 5.0, "at_least", 2.0),
        (2.5, 5.0, "at_most", 1.0),
        (10.0, 5.0, "at_most", 2.0),
        (0.0, 5.0, "about", math.inf),
    ],
)
def test_off_factor(ours, figure, sense, factor):
    assert off_factor(ours, figure, sense) == factor


def test_vary_changes_a_copy():
    raw = {"model": "m", "inference": {"concurrency": 1}}
    assert vary(raw, {"inference.concurrency": 2, "hardware.gpu": "x", "model": None}) == {
        "inference": {"concurrency": 2},
        "hardware": {"gpu": "x"},
    }
    assert raw["inference"]["concurrency"] == 1


def test_cards_needed_refuses_when_none_holds():
    scenario = {
        "model": "huggyllama/llama-65b", "precision": "fp32",
        "hardware": {"gpu": "rtx-4090", "gpu_count": 1},
    }  # fmt: skip
    with pytest.raises(ValueError, match="none"):
        EVALUATORS["cards_needed"](Question((scenario,), {"counts": [1, 2]}, {}))


def test_every_evaluator_is_used():
    used = {step["name"] for s in load_article().statements for step in s.evaluate}
    assert used == set(EVALUATORS)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("required_gib", 15.287, "15.3 GiB"),
        ("saved_share", 0.595, "59.5 %"),
        ("faster_ratio", (1.3, 1.5), "1.3–1.5 ×"),
        ("machine_cny", 2254250.0, "CNY 2,254,250"),
        ("cards_needed", 24, "24 cards"),
        ("sampling_share", 0.00003, "0.003 %"),
        ("third_from_use", None, "none"),
        ("fits", True, "yes"),
    ],
)
def test_figure_text(name, value, text):
    assert figure_text(name, value) == text


# ---- the rule of thumb


def test_rule_of_thumb():
    arch = typical_architecture(7)
    weights = arch.parameters * 2 / 2**30

    def rule(**changes):
        return rule_of_thumb_gib(
            parse_scenario({"model": {"parameters_b": 7}, "precision": "fp16", **changes}), arch
        )

    assert rule() == pytest.approx(weights)
    assert rule(inference={"concurrency": 101}) == pytest.approx(weights * 1.075)
    assert rule(task="fine_tuning") == pytest.approx(weights * 2)
    assert rule(task="training") == pytest.approx(weights * 2.5)
    assert rule(precision="fp32") == pytest.approx(weights * 2)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_rule_of_thumb_knows_every_precision(precision):
    scenario = parse_scenario({"model": "Qwen/Qwen3-8B", "precision": precision})
    assert rule_of_thumb_gib(scenario, architecture_of(scenario)) > 0


# ---- the command


def test_command_prints_json_and_text():
    out = io.StringIO()
    assert run_article(True, "zh", out) == 0
    assert len(json.loads(out.getvalue())["statements"]) == 39
    out = io.StringIO()
    assert run_article(False, "en", out) == 0
    assert "A39" in out.getvalue()


def test_all_39_within_two_seconds():
    evaluators._answer_json.cache_clear()
    start = time.process_time()
    article_report()
    assert time.process_time() - start < 2
