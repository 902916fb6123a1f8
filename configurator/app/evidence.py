"""Evidence: what was predicted beside what was measured, case by case."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from configurator import numbers
from configurator.app import charts, views
from configurator.app.state import language, language_switch, words
from configurator.catalog import catalog_dir
from configurator.performance.coefficients import left_out

# What a stranger asks for, in this order: the paths of the report that answer it.
TOPICS: Mapping[str, tuple[str, ...]] = {
    "memory": (
        "memory.total_gib", "memory.reserved_gib", "memory.peak_allocated_gib",
        "memory.weights_gib", "memory.kv_cache_gib",
    ),
    "capacity": ("kv.capacity_tokens",),
    "tpot": ("performance.tpot_s",),
    "ttft": ("performance.ttft_s",),
    "throughput": (
        "performance.output_tokens_per_s", "performance.decode_tokens_per_s",
        "performance.prefill_tokens_per_s",
    ),
    "training": ("performance.train_tokens_per_s",),
}  # fmt: skip
UNITS = {
    "memory": "GiB", "capacity": "token", "tpot": "s", "ttft": "s", "throughput": "token/s",
    "training": "token/s",
}  # fmt: skip
ENGINES: Mapping[str, tuple[str, str]] = {
    "vllm": ("#0072B2", "circle"),
    "sglang": ("#D98200", "square"),
    "tensorrt_llm": ("#009E73", "diamond"),
    "transformers": ("#CC79A7", "triangle-up"),
    "llama_cpp": ("#4FA3D9", "x"),
    "fsdp": ("#D55E00", "cross"),
    "megatron": ("#8A6D3B", "star"),
    "deepspeed": ("#999999", "pentagon"),
}
SCATTER_HEIGHT = 460
MARGIN = 1.4


@st.cache_resource(show_spinner=False)
def evidence() -> dict[str, Any]:
    """Return the report that ships with the catalog."""
    text = (catalog_dir() / "evidence.json").read_text(encoding="utf-8")
    report: dict[str, Any] = json.loads(text)
    return report


def scatter(
    cases: Sequence[Mapping[str, Any]], x_title: str, y_title: str, rule: str, lang: str
) -> go.Figure:
    """Return predicted over measured on log axes, one mark an engine, with the line of no error.

    The rule of thumb's answers to the same cases wait in the legend.
    """
    values = [v for c in cases for v in (c["predicted"], c["measured"]) if v > 0]
    low, high = min(values) / MARGIN, max(values) * MARGIN
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, high],
            "y": [low, high],
            "line": {"color": charts.OUTLINE, "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    thumb = [c for c in cases if c["rule"]]
    if thumb:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": rule,
                "visible": "legendonly",
                "x": [c["measured"] for c in thumb],
                "y": [c["rule"] for c in thumb],
                "text": [f"{c['model']}, {c['gpu']}" for c in thumb],
                "marker": {"color": charts.OUTLINE, "symbol": "circle-open", "size": 7},
                "hovertemplate": "%{text}<br>%{x:.4g} → %{y:.4g}<extra>" + rule + "</extra>",
            }
        )
    for engine, (colour, symbol) in ENGINES.items():
        own = [c for c in cases if c["engine"] == engine]
        if not own:
            continue
        name = views.option("engine", engine, lang)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [c["measured"] for c in own],
                "y": [c["predicted"] for c in own],
                "text": [f"{c['model']}, {c['gpu']}" for c in own],
                "marker": {
                    "color": colour,
                    "symbol": symbol,
                    "size": 8,
                    "line": {"color": charts.OUTLINE, "width": 0.5},
                },
                "hovertemplate": "%{text}<br>%{x:.4g} → %{y:.4g}<extra>" + name + "</extra>",
            }
        )
    axis = {
        "type": "log",
        "gridcolor": charts.GRID,
        "fixedrange": True,
        "automargin": True,
        "range": [math.log10(low), math.log10(high)],
        "dtick": 1,
    }
    layout = {
        "template": {},
        "height": SCATTER_HEIGHT,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": -0.2},
        "xaxis": {**axis, "title": {"text": x_title}},
        "yaxis": {**axis, "title": {"text": y_title}},
    }
    return go.Figure({"data": data, "layout": layout}, _validate=False)


def rows(table: Sequence[Mapping[str, Any]], topic: str, lang: str) -> pd.DataFrame:
    """Return the error table of a topic as a person reads it."""

    def percent(value: float | None) -> str:
        return numbers.percent(value, lang, 1)

    return pd.DataFrame(
        [
            {
                words("evidence.quantity"): words(f"evidence.path.{row['quantity']}"),
                words("evidence.median"): percent(row["median"]),
                words("evidence.p90"): percent(row["p90"]),
                words("evidence.engine"): views.option("engine", row["engine"], lang),
                words("evidence.task"): words(f"option.task.{row['task']}"),
                words("evidence.cases"): row["n"],
                words("evidence.inside"): percent(row["coverage"]),
                words("evidence.rule"): percent(row["rule_median"]),
            }
            for row in table
            if row["quantity"] in TOPICS[topic]
        ]
    )


def unseen_rows(topic: str, lang: str) -> pd.DataFrame:
    """Return how far off speed is where a case's model, or its card, was left out of the fit."""
    return pd.DataFrame(
        [
            {
                words("evidence.quantity"): words(f"evidence.path.{row.quantity}"),
                words("evidence.engine"): views.option("engine", row.engine, lang),
                words("evidence.cases"): row.n,
                words("evidence.fitted"): numbers.percent(row.fitted, lang, 1),
                words("evidence.without_model"): numbers.percent(row.model, lang, 1),
                words("evidence.without_card"): numbers.percent(row.card, lang, 1),
            }
            for row in left_out()
            if row.quantity in TOPICS[topic]
        ]
    )


def page() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.evidence')}")
        st.space("stretch")
        language_switch()
    lang, report = language(), evidence()
    cases, table = report["cases"], report["table"]
    inside = [c for c in cases if c["low"] is not None and c["high"] is not None]
    held = sum(c["low"] <= c["measured"] <= c["high"] for c in inside)
    st.markdown(
        words(
            "evidence.intro",
            cases=numbers.count(len(cases), lang),
            sources=len({c["source"] for c in cases}),
            inside=numbers.decimal(100 * held / max(1, len(inside)), lang),
        )
    )
    topic = st.segmented_control(
        words("evidence.topic"),
        list(TOPICS),
        default="memory",
        format_func=lambda name: words(f"evidence.topic_{name}"),
        key="evidence_topic",
        required=True,
    )
    shown = [c for c in cases if c["quantity"] in TOPICS[topic] and c["predicted"] > 0]
    unit = UNITS[topic]
    axes = [words(f"evidence.{name}", unit=unit) for name in ("measured", "predicted")]
    st.plotly_chart(
        scatter(shown, axes[0], axes[1], words("evidence.rule"), lang),
        key="evidence_scatter",
        alt=words("evidence.alt", cases=len(shown)),
        config=charts.CONFIG,
    )
    st.dataframe(rows(table, topic, lang), hide_index=True, width="stretch")
    st.caption(words("evidence.note"))
    unseen = unseen_rows(topic, lang)
    if len(unseen):
        st.markdown(words("evidence.unseen"))
        st.dataframe(unseen, hide_index=True, width="stretch", key="evidence_unseen")
    with st.expander(words("evidence.sources")):
        for source in sorted({c["source"] for c in shown}):
            st.text(source)
