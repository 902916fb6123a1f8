"""The article page: every statement answered, and opened in the planner."""

from __future__ import annotations

from configurator import link
from configurator.app import answers, curves
from configurator.app.presets import presets
from configurator.article import load_article
from configurator.scenario import Hardware
from tests.app.conftest import healthy, said, start


def test_every_statement_is_there(language: str) -> None:
    at = start(language, page="article")
    text = said(at)
    statements = load_article().statements
    assert len(statements) == 39
    for statement in statements:
        assert f"\n{statement.id}\n" in f"\n{text}\n"
    at.pills(key="article_show").set_value(["off_by"])
    healthy(at.run())
    assert said(at).count("\n") < text.count("\n")


def test_each_opens_in_the_planner_as_it_is() -> None:
    linked = [item for item in answers.report("en") if answers.planner_link(item)]
    assert len(linked) > 20
    for item in linked:
        _, problems = link.decode(answers.planner_link(item) or {})
        assert problems == [], item["id"]


def test_rule_of_thumb_beside_ours(language: str) -> None:
    scenario = presets()[0].scenario.model_copy(
        update={"hardware": Hardware(gpu="l40s", gpu_count=1)}
    )
    users, context = curves.axes(scenario, 40960, language)
    grows = curves.with_rule_of_thumb(
        curves.curve(scenario, users, language), scenario, users, language
    )
    flat = curves.with_rule_of_thumb(
        curves.curve(scenario, context, language), scenario, context, language
    )
    assert grows.other[-1] > grows.other[0]
    assert flat.other[-1] == flat.other[0]  # the rule knows no context
    at = start(language)
    at.toggle(key="rule").set_value(True)
    healthy(at.run())
