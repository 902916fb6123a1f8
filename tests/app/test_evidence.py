"""The evidence page shows the report that ships with the catalog."""

import json

import plotly.graph_objects as go

from configurator.app import evidence
from configurator.catalog import catalog_dir
from tests.app.conftest import healthy, said, start

REPORT = json.loads((catalog_dir() / "evidence.json").read_text(encoding="utf-8"))


def test_page_states_cases_and_coverage(language: str) -> None:
    at = start(language, page="evidence")
    assert str(len(REPORT["cases"])) in said(at).replace(",", "")
    for topic in evidence.TOPICS:
        at.segmented_control(key="evidence_topic").set_value(topic).run()
        healthy(at)


def test_every_measured_quantity_is_shown_somewhere() -> None:
    shown = {path for paths in evidence.TOPICS.values() for path in paths}
    assert {row["quantity"] for row in REPORT["table"]} <= shown
    assert {case["engine"] for case in REPORT["cases"]} <= set(evidence.ENGINES)


def test_scatter_is_a_valid_figure() -> None:
    cases = [c for c in REPORT["cases"] if c["quantity"] == "performance.tpot_s"]
    figure = evidence.scatter(cases, "x", "y", "rule", "en")
    go.Figure(figure.to_dict())
    assert sum(len(trace.x) for trace in figure.data[1:]) == len(cases)
