"""The article that the product grew out of: each statement, our figure for it, and a verdict."""

from configurator.article.evaluators import EVALUATORS, Question, vary
from configurator.article.records import load_article, rule_of_thumb_gib
from configurator.article.report import (
    article_report,
    evaluate,
    figure_text,
    off_factor,
    run_article,
)

__all__ = [
    "EVALUATORS", "Question", "article_report", "evaluate", "figure_text", "load_article",
    "off_factor", "rule_of_thumb_gib", "run_article", "vary",
]  # fmt: skip
