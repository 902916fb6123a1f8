"""The article that the product grew out of: each statement, our figure for it, and a verdict.

``catalog/article.yaml`` holds the statements, the figures that they give, the scenarios that they
speak of and the evaluators (the functions of this module) that obtain our figures. No verdict with
a number is typed in: it follows from our figure over the article's.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from configurator.architecture import Architecture
from configurator.catalog import catalog_dir, parse_yaml
from configurator.memory.weights import resolve_precision
from configurator.scenario import Scenario
from configurator.units import GIB

Verdict = Literal["holds", "holds_with_conditions", "off_by"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Part):
    """A sentence in both languages."""

    en: str = Field(min_length=3)
    zh: str = Field(min_length=2)

    def text(self, language: str) -> str:
        """Return the sentence in a language; English where there is no such language."""
        return self.zh if language == "zh" else self.en


class Evidence(_Part):
    """What somebody measured, restated, with its source and the source's date."""

    text: Words
    value: float
    unit: str
    source: str = Field(min_length=3)
    date: dt.date


class Comparison(_Part):
    """Our figure against the article's; a range is met anywhere in it.

    ``article`` names a figure of the statement, or a value where the article counts things.
    ``sense``: ``about``, ``at_least`` (less is no fault of the statement) or ``at_most``.
    """

    ours: str
    article: str
    sense: Literal["about", "at_least", "at_most"] = "about"


class Statement(_Part):
    """One statement and how it is answered.

    Attributes:
        figures: What the article gives: a number, or a range of two.
        scenarios: Of the contract; empty where the statement speaks of none.
        evaluate: Evaluators in order: ``{name: …, parameters…}``; later ones see earlier values.
        show: Values that answer it, by name.
        compare: What the verdict rests on; without it, ``verdict`` says.
        conditional: Whether it holds only under the conditions that the reason names.
    """

    id: str = Field(pattern=r"^A\d+$")
    statement: Words
    figures: dict[str, float | tuple[float, float]] = Field(default_factory=dict)
    scenarios: tuple[dict[str, Any], ...] = ()
    evaluate: tuple[dict[str, Any], ...] = ()
    show: tuple[str, ...] = ()
    compare: tuple[Comparison, ...] = ()
    conditional: bool = False
    verdict: Verdict | None = None
    measured: tuple[Evidence, ...] = ()


class Rule(_Part):
    """The article's rule of thumb as figures."""

    bytes_per_parameter: dict[str, float]
    fine_tuning_factor: float
    training_factor: tuple[float, float]
    per_100_requests: tuple[float, float]


class Article(_Part):
    """The whole of ``catalog/article.yaml``."""

    title: Words
    date: dt.date
    tolerance: float = Field(gt=1)
    rule: Rule
    statements: tuple[Statement, ...]


@lru_cache(maxsize=1)
def load_article() -> Article:
    """Return the article's statements as checked records."""
    path = catalog_dir() / "article.yaml"
    return Article.model_validate(parse_yaml(path.read_text(encoding="utf-8")))


# --------------------------------------------------------------------------- the rule of thumb


def rule_of_thumb_gib(scenario: Scenario, arch: Architecture) -> float:
    """Return what the article's rule of thumb says the whole deployment needs [GiB].

    Parameters × bytes; inference: 5–10 % more for each 100 concurrent requests beyond the first
    (middle of the range); fine-tuning: gradients as large again; training: 2–3 times inference
    (middle). Precisions that the article does not name go by their nominal bits.

    Args:
        scenario: Task, precision and concurrency; the article's rule knows no context and no card.
        arch: The model.
    """
    rule = load_article().rule
    precision = resolve_precision(scenario, arch)
    gib = arch.parameters * rule.bytes_per_parameter[precision] / GIB
    if scenario.task == "training":
        return gib * sum(rule.training_factor) / 2
    if scenario.task == "fine_tuning":
        return gib * rule.fine_tuning_factor
    hundreds = (scenario.serving.concurrency - 1) / 100
    return gib * (1 + hundreds * sum(rule.per_100_requests) / 2)
