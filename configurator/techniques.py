"""Ways to need less memory or be faster, each tried on the scenario itself.

Before and after both come from :func:`configurator.estimate.estimate`; what the engine cannot work
out says so and shows no number. A technique that the scenario already uses is compared with the
scenario without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from configurator.errors import InputError
from configurator.estimate import Estimate, estimate
from configurator.export.launch import artifacts
from configurator.export.shell import Artifact
from configurator.levers import (
    Changes,
    Files,
    Group,
    Lever,
    no_files,
    serving_levers,
    training_levers,
)
from configurator.scenario import Scenario, parse_scenario
from configurator.words import labelled, named, say

State = Literal["available", "in_use", "not_applicable", "not_computed"]


@dataclass(frozen=True)
class Effect:
    """What an estimate says of one side of a comparison; GiB on the fullest card.

    ``tokens_per_s`` is output of the deployment, or trained tokens; ``stream_tokens_per_s`` one
    user's. None where the task has none.
    """

    weights_gib: float
    kv_cache_gib: float
    activations_gib: float
    gradients_gib: float
    optimizer_gib: float
    framework_gib: float
    required_gib: float
    capacity_gib: float
    host_gib: float
    fits: bool | str
    gpus: int
    tokens_per_s: float | None
    stream_tokens_per_s: float | None
    ttft_s: float | None
    max_concurrency: int | None

    @classmethod
    def of(cls, answer: Estimate) -> Effect:
        """Read an estimate."""
        held, speed = answer.memory, answer.performance
        parts = {
            name: getattr(held, name)
            for name in (
                "weights_gib", "kv_cache_gib", "activations_gib", "gradients_gib",
                "optimizer_gib", "framework_gib", "required_gib", "capacity_gib", "host_gib",
                "fits",
            )
        }  # fmt: skip
        return cls(
            **parts,
            gpus=answer.split.gpus,
            tokens_per_s=speed.train_tokens_per_s or speed.output_tokens_per_s,
            stream_tokens_per_s=1 / speed.tpot_s if speed.tpot_s else None,
            ttft_s=speed.ttft_s,
            max_concurrency=answer.kv.max_concurrency if answer.kv else None,
        )


@dataclass(frozen=True)
class Technique:
    """One technique for one scenario.

    Attributes:
        code: Names and sentences are ``technique.name.<code>`` and ``technique.what.<code>``.
        state: ``available``: ``changes`` apply it; ``in_use``: they take it away again.
        changes: Contract fields (dotted) and their new values.
        reason: Why it applies or not: ``technique.reason.<reason>``, with ``values``.
        before, after: Without and with the technique; None where there is no number.
        scenario: With the technique in it.
        applied: Its answer.
        files: What has to be run once before, beside the code of the answer.
    """

    code: str
    group: Group
    state: State
    changes: Changes = field(default_factory=dict)
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    before: Effect | None = None
    after: Effect | None = None
    scenario: Scenario | None = None
    applied: Estimate | None = field(default=None, repr=False)
    files: Files = field(default=no_files, repr=False, compare=False)

    @property
    def saved_gib(self) -> float | None:
        """Memory that the fullest card needs less; negative where it needs more."""
        if self.before is None or self.after is None:
            return None
        return self.before.required_gib - self.after.required_gib

    @property
    def speed_ratio(self) -> float | None:
        """Tokens/s of the deployment with it over without it; None where one side does not fit."""
        if self.before is None or self.after is None:
            return None
        if self.before.fits is False or self.after.fits is False:
            return None
        if not self.before.tokens_per_s or self.after.tokens_per_s is None:
            return None
        return self.after.tokens_per_s / self.before.tokens_per_s

    def code_files(self, language: str = "en") -> tuple[Artifact, ...]:
        """Return code that runs the scenario with the technique in it."""
        if self.applied is None:
            return ()
        files = artifacts(self.applied, language)
        names = {item.name for item in files}
        return (*files, *(item for item in self.files(language) if item.name not in names))

    def name(self, language: str = "en") -> str:
        """Return its name."""
        return say(f"technique.name.{self.code}", language)

    def what(self, language: str = "en") -> str:
        """Return what it does and what it costs, one sentence."""
        return say(f"technique.what.{self.code}", language)

    def why(self, language: str = "en") -> str:
        """Return why it applies, or not."""
        values = dict(named(self.values, language))
        if isinstance(refused := values.get("problem"), InputError):
            values["problem"] = labelled(language, refused.field, refused.text(language))
        return say(f"technique.reason.{self.reason}", language, **values)

    def effect(self, language: str = "en") -> str:
        """Return before and after in words; empty where there is no number."""
        if self.before is None or self.after is None:
            return ""
        text = say(
            "technique.effect.memory", language, before=self.before.required_gib,
            after=self.after.required_gib,
        )  # fmt: skip
        if self.speed_ratio is not None:
            text += say("technique.effect.speed", language, ratio=self.speed_ratio)
        if self.after.host_gib > self.before.host_gib:
            text += say("technique.effect.host", language, gib=self.after.host_gib)
        return text + say("technique.effect.end", language)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return plain JSON values, texts in a language."""
        return {
            "code": self.code, "group": self.group, "state": self.state,
            "name": self.name(language), "what": self.what(language),
            "reason": self.why(language), "effect": self.effect(language),
            "changes": dict(self.changes), "saved_gib": self.saved_gib,
            "speed_ratio": self.speed_ratio,
            "before": None if self.before is None else _fields(self.before),
            "after": None if self.after is None else _fields(self.after),
            "code_files": [
                {"name": f.name, "language": f.language, "text": f.text}
                for f in self.code_files(language)
            ],
        }  # fmt: skip


def _fields(effect: Effect) -> dict[str, Any]:
    return {name: getattr(effect, name) for name in Effect.__dataclass_fields__}


def changed(scenario: Scenario, changes: Changes) -> Scenario:
    """Return the scenario with fields changed; None takes an optional field away.

    Args:
        scenario: What is asked.
        changes: Dotted contract fields, as ``training.offload``.

    Raises:
        InputError: A value that the contract does not allow.
    """
    raw: dict[str, Any] = json.loads(scenario.model_dump_json(exclude_none=True))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = raw
        for name in parents:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return parse_scenario(raw)


def techniques(scenario: Scenario) -> tuple[Technique, ...]:
    """Try every technique that the scenario's task knows.

    Args:
        scenario: With hardware.

    Raises:
        InputError: The scenario itself cannot be answered.
    """
    answer = estimate(scenario)
    levers = training_levers(answer) if scenario.is_training else serving_levers(answer)
    return tuple(_try(answer, lever) for lever in levers)


def _try(answer: Estimate, lever: Lever) -> Technique:
    common: dict[str, Any] = {"code": lever.code, "group": lever.group, "values": lever.values,
                              "files": lever.files}  # fmt: skip
    if not lever.computed:
        return Technique(**common, state="not_computed", reason=lever.reason)
    changes = lever.on if lever.on is not None else lever.off
    if changes is None:
        return Technique(**common, state="not_applicable", reason=lever.reason)
    try:
        scenario = changed(answer.scenario, changes)
        other = estimate(scenario)
    except InputError as error:
        common["values"] = {"problem": error}
        return Technique(**common, state="not_applicable", reason="refused")
    now, then = Effect.of(answer), Effect.of(other)
    if lever.on is not None:
        return Technique(
            **common, state="available", changes=changes, reason=lever.reason or "applies",
            before=now, after=then, scenario=scenario, applied=other,
        )  # fmt: skip
    return Technique(
        **common, state="in_use", changes=changes, reason=lever.reason or "in_use",
        before=then, after=now, scenario=answer.scenario, applied=answer,
    )  # fmt: skip
