"""The figure of the Pareto front: speed over cost, one mark a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configurator.app.charts import CURVE_HEIGHT, LIMIT, LINES, OUTLINE, Figure, axis, figure_of


@dataclass(frozen=True)
class FrontPoint:
    """A plan on the front: the kind of buyer, its cost and speed, and what is said of it."""

    group: str
    cost: float
    speed: float
    text: str


@dataclass(frozen=True)
class Front:
    """Plans from the cheapest to the fastest, and the one that is shown, if any."""

    points: tuple[FrontPoint, ...]
    shown: FrontPoint | None
    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def front_figure(data: Front, *, height: int = CURVE_HEIGHT) -> Figure:
    """Return speed over cost on log axes, one mark a plan, and a ring around the one shown.

    Each mark's ``customdata`` is its place in ``data.points``.
    """
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [point.cost for point in data.points],
            "y": [point.speed for point in data.points],
            "line": {"color": OUTLINE, "width": 1, "shape": "hv"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    groups = dict.fromkeys(point.group for point in data.points)
    for group, colour, symbol in zip(groups, LINES, ("circle", "square", "diamond")):
        own = [(at, point) for at, point in enumerate(data.points) if point.group == group]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": group,
                "x": [point.cost for _, point in own],
                "y": [point.speed for _, point in own],
                "customdata": [at for at, _ in own],
                "text": [point.text for _, point in own],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": 11, "color": colour, "symbol": symbol,
                    "line": {"color": OUTLINE, "width": 1},
                },
            }
        )  # fmt: skip
    if data.shown is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": data.shown.group,
                "x": [data.shown.cost],
                "y": [data.shown.speed],
                "text": [data.shown.text],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": 18, "symbol": "circle-open", "color": LIMIT, "line": {"width": 3},
                },
            }
        )  # fmt: skip
    layout = {
        "xaxis": axis(
            type="log",
            title={"text": data.x_title, "standoff": 4},
            tickvals=[tick for tick, _ in data.x_ticks],
            ticktext=[text for _, text in data.x_ticks],
        ),
        "yaxis": axis(
            type="log",
            title={"text": data.y_title, "standoff": 10},
            tickvals=[tick for tick, _ in data.y_ticks],
            ticktext=[text for _, text in data.y_ticks],
        ),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return figure_of(traces, height, layout)


def decades(low: float, high: float, steps: Sequence[int] = (1,)) -> list[float]:
    """Return round numbers between two positive ones: ``steps`` times each power of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = (step * 10.0**power for power in powers for step in steps)
    return [value for value in found if low <= value <= high]
