"""The scenarios people start from and the size slider's steps: ``catalog/presets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import yaml

from configurator.catalog import load_catalog
from configurator.scenario import Scenario, parse_scenario


@dataclass(frozen=True)
class Preset:
    """A named scenario; its name is ``app.preset.<id>``.

    Attributes:
        speed: Most seconds to the first token and least tokens/s for each, where it sets them.
        run: Billions of tokens to train on and most days for them.
    """

    id: str
    scenario: Scenario
    speed: tuple[float | None, float | None]
    run: tuple[float | None, float | None]


@cache
def _file() -> tuple[tuple[Preset, ...], tuple[str, ...]]:
    path = load_catalog().directory / "presets.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    presets = []
    for raw in data["presets"]:
        limits = raw.get("limits", {})
        presets.append(
            Preset(
                raw["id"],
                parse_scenario({"version": 1, **raw["scenario"]}),
                (limits.get("ttft_s"), limits.get("tokens_per_s")),
                (limits.get("train_tokens_b"), limits.get("train_days")),
            )
        )
    return tuple(presets), tuple(data["ladder"])


def presets() -> tuple[Preset, ...]:
    """Return all presets; the first is what a first visit shows."""
    return _file()[0]


def ladder() -> tuple[str, ...]:
    """Return the model ids that the size slider snaps to, smallest first."""
    return _file()[1]


@cache
def ladder_sizes() -> tuple[float, ...]:
    """Return the ladder's sizes, billions of parameters."""
    catalog = load_catalog()
    sizes = []
    for model_id in ladder():
        figure = catalog.model(model_id).total_params_b
        if figure is None:
            raise ValueError(f"{model_id} of the ladder has no size")
        sizes.append(figure.value)
    return tuple(sizes)


def nearest_step(size_b: float) -> str:
    """Return the ladder's model nearest to a size on the logarithmic scale."""
    return min(zip(ladder(), ladder_sizes()), key=lambda step: abs(step[1] / size_b - 1))[0]
