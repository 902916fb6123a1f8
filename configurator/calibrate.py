"""Fit the coefficients of the speed model to measured cases and write ``catalog/efficiency.yaml``.

Each coefficient is ``pooled × factor × factor …``; a factor belongs to an engine, an architecture,
a precision or a card. In logarithms that is a sum, fitted by robust least squares on the log ratio
of model and measurement, with every factor drawn towards 1: where data is thin, the pooled figure
holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configurator.catalog import catalog_dir
from configurator.errors import InputError
from configurator.measured_speeds import EXPECTED_ERROR, Row, read_rows
from configurator.performance.coefficients import FILE, context_key
from configurator.performance.serving import closed_loop
from configurator.performance.spec import SPEC, Coefficient
from configurator.performance.steps import Plan
from configurator.performance.training import TrainingPlan, training_step
from configurator.performance.workload import stack_workloads

# Levels whose factors may lie far off: one odd card or one slow kernel must not pull the rest.
HEAVY_TAILED = ("card", "engine/precision")
# Errors are let count more widely in the first rounds, so that clusters far off are pulled in.
_FIRST_ROUNDS = (8.0, 8.0, 6.0, 6.0, 4.0, 4.0, 3.0, 2.0, 1.5)


# --------------------------------------------------------------------------- the fit


class Family:
    """Rows of one family as arrays, and the map from parameters to predictions."""

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        self.name, self.rows = name, list(rows)
        self.spec: tuple[Coefficient, ...] = SPEC[name]
        self.model = stack_workloads([r.workload for r in rows])
        kind = TrainingPlan if name == "training" else Plan
        self.plan: Any = kind(
            *(np.array([float(getattr(r.plan, f.name)) for r in rows]) for f in fields(kind))
        )
        columns = zip(*(r.inputs for r in rows), strict=True)
        self.inputs: list[Any] = [np.array(column) for column in columns]
        self.measured = np.log([r.measured for r in rows])
        self.scale = np.array([EXPECTED_ERROR[r.quantity] for r in rows])
        self.columns: list[tuple[str, str, str]] = []
        self.prior_mean: list[float] = []
        self.prior_width: list[float] = []
        self.members: dict[str, list[tuple[int, np.ndarray]]] = {}
        self.masks = {q: np.array([r.quantity == q for r in rows]) for q in EXPECTED_ERROR}
        for item in self.spec:
            if item.fixed:
                continue
            everywhere = np.ones(len(rows))
            self._add(item.name, "", "", np.log(item.value), item.width, everywhere)
            for level, width in item.levels.items():
                keys = [context_key(level, r.context) for r in rows]
                for key in sorted(set(keys)):
                    hit = np.array([k == key for k in keys], dtype=float)
                    self._add(item.name, level, key, 0.0, width, hit)

    def _add(
        self, name: str, level: str, key: str, mean: float, width: float, hit: np.ndarray
    ) -> None:
        self.members.setdefault(name, []).append((len(self.columns), hit))
        self.columns.append((name, level, key))
        self.prior_mean.append(mean)
        self.prior_width.append(width)

    @property
    def start(self) -> np.ndarray:
        """Parameters before any data."""
        return np.array(self.prior_mean)

    def logs(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Log of every fitted coefficient, row by row."""
        return {
            name: np.sum([theta[j] * hit for j, hit in members], axis=0)
            for name, members in self.members.items()
        }

    def predict(self, logs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log of what the model says of every row's quantity."""
        c: dict[str, Any] = {i.name: i.value for i in self.spec if i.fixed}
        c |= {name: np.exp(value) for name, value in logs.items()}
        if self.name == "training":
            return np.asarray(np.log(training_step(self.model, self.plan, c)["tokens_per_s"]))
        out = closed_loop(self.model, self.plan, c, *self.inputs)
        values = np.empty(len(self.rows))
        for quantity in EXPECTED_ERROR:
            if quantity in out:
                here = self.masks[quantity]
                values[here] = np.broadcast_to(out[quantity], here.shape)[here]
        return np.log(values)

    def _slopes(self, logs: Mapping[str, np.ndarray], base: np.ndarray) -> np.ndarray:
        """Derivative of every prediction by every parameter (chain rule over the coefficients)."""
        out = np.zeros((len(self.rows), len(self.columns)))
        for name, members in self.members.items():
            slope = (self.predict({**logs, name: logs[name] + 1e-4}) - base) / 1e-4
            for j, hit in members:
                out[:, j] = slope * hit
        return out

    def fit(self, use: np.ndarray, steps: int = 40) -> np.ndarray:
        """Return the parameters that fit the rows in ``use`` best.

        Minimises ``Σ ln(1 + (error/expected)²) + Σ ((θ − prior)/width)²`` (Cauchy errors, normal
        priors; a card's own factor has a Cauchy prior, so that one odd card does not pull its
        architecture) by Levenberg-Marquardt with reweighting.
        """
        mean, width = np.array(self.prior_mean), np.array(self.prior_width)
        measured = self.measured[use]
        heavy = np.array([level in HEAVY_TAILED for _, level, _ in self.columns])
        theta: np.ndarray = self.start
        base = self.predict(self.logs(theta))
        damping = 1e-2
        for step_number in range(steps):
            early = step_number < len(_FIRST_ROUNDS)
            scale = self.scale[use] * (_FIRST_ROUNDS[step_number] if early else 1.0)

            def loss(base: np.ndarray, theta: np.ndarray, scale: np.ndarray = scale) -> float:
                off = ((theta - mean) / width) ** 2
                prior = np.sum(np.where(heavy, np.log1p(off), off))
                return float(np.sum(np.log1p(((base[use] - measured) / scale) ** 2)) + prior)

            slopes = self._slopes(self.logs(theta), base)[use] / scale[:, None]
            error = (base[use] - measured) / scale
            weight = 1.0 / (1.0 + error**2)
            tie = width**-2.0 / np.where(heavy, 1.0 + ((theta - mean) / width) ** 2, 1.0)
            hessian = (slopes * weight[:, None]).T @ slopes + np.diag(tie)
            gradient = slopes.T @ (weight * error) + (theta - mean) * tie
            value = before = loss(base, theta)
            for _ in range(8):
                move = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
                trial = theta - move
                trial_base = self.predict(self.logs(trial))
                trial_value = loss(trial_base, trial)
                if trial_value < value:
                    theta, base, value = trial, trial_base, trial_value
                    damping = max(damping / 5.0, 1e-9)
                    break
                damping *= 6.0
            if not early and before - value < 2e-4 * value:
                break
        return np.asarray(theta)

    def errors(self, theta: np.ndarray) -> np.ndarray:
        """Log of measured over predicted, row by row."""
        return np.asarray(self.measured - self.predict(self.logs(theta)))


def families(rows: Sequence[Row]) -> dict[str, Family]:
    """Group rows by family."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row.family].append(row)
    return {name: Family(name, by_name[name]) for name in SPEC if name in by_name}


def held_out(family: Family, labels: Sequence[Any]) -> np.ndarray:
    """Log errors of each row from a fit that has not seen any row of its label.

    NaN where every row has the label. Fits begin at the priors.
    """
    out = np.full(len(family.rows), np.nan)
    names = np.array([str(label) for label in labels])
    for name in sorted(set(names)):
        test = names == name
        if test.all():
            continue
        theta = family.fit(~test)
        out[test] = family.errors(theta)[test]
    return out


def random_folds(rows: Sequence[Row], folds: int = 5, seed: int = 0) -> list[int]:
    """Return a fold for every row; quantities of one case stay together."""
    cases = sorted({r.case for r in rows})
    order = np.random.default_rng(seed).permutation(len(cases))
    place = {cases[j]: int(i % folds) for i, j in enumerate(order)}
    return [place[r.case] for r in rows]


# --------------------------------------------------------------------------- what is written

# Where a quantity has no rows of its own, the one that it is made of (and whether inverted).
_STANDS_FOR = {
    "ttft_s": (("ttft_s", 1), ("prefill_tokens_per_s", -1), ("output_tokens_per_s", -1)),
    "tpot_s": (("tpot_s", 1), ("decode_tokens_per_s", -1), ("output_tokens_per_s", -1)),
    "output_tokens_per_s": (
        ("output_tokens_per_s", 1), ("tpot_s", -1), ("decode_tokens_per_s", 1),
    ),
    "prefill_tokens_per_s": (
        ("prefill_tokens_per_s", 1), ("ttft_s", -1), ("output_tokens_per_s", 1),
    ),
    "decode_tokens_per_s": (
        ("decode_tokens_per_s", 1), ("tpot_s", -1), ("output_tokens_per_s", 1),
    ),
    "train_tokens_per_s": (("train_tokens_per_s", 1),),
}  # fmt: skip
CLASSES = ("same", "model", "card", "none")
_FEW, _ENOUGH = 8, 20
# Shares of cases below and above the bounds; a little under 5 % each, since quantiles of few
# residuals come out narrow.
_TAIL = 0.04


def cross_validate(family: Family, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    """Log errors (measured over predicted) of each row when its like was left out of the fit.

    ``same``: random fifth of the cases; ``model``: the row's model; ``card``: its card; ``none``:
    its GPU architecture.
    """
    rows = family.rows
    labels: dict[str, Sequence[Any]] = {
        "same": random_folds(rows), "model": [r.model for r in rows],
        "card": [r.card for r in rows], "none": [r.context["architecture"] for r in rows],
    }  # fmt: skip
    return {name: held_out(family, labels[name]) for name in classes}


def _bounds(errors: np.ndarray) -> tuple[float, float]:
    return float(np.quantile(errors, _TAIL)), float(np.quantile(errors, 1.0 - _TAIL))


def intervals(family: Family, errors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return 90 % bounds ``{engine or any: {quantity: {class: [low, high]}}}`` as factors."""
    rows = family.rows
    usual = {q: np.array([r.quantity == q for r in rows]) for q in EXPECTED_ERROR}
    out: dict[str, Any] = {}
    for engine in (*sorted({r.engine for r in rows}), "any"):
        mine = np.array([engine in ("any", r.engine) for r in rows])
        out[engine] = {}
        for quantity, stands in _STANDS_FOR.items():
            low = high = 0.0
            found: dict[str, list[float]] = {}
            for name in CLASSES:
                picked = None
                for least, pool in ((_ENOUGH, mine), (_ENOUGH, ~mine | mine), (_FEW, ~mine | mine)):
                    for source, sign in stands:
                        here = sign * errors[name][usual[source] & pool]
                        here = here[~np.isnan(here)]
                        if picked is None and len(here) >= least:
                            picked = _bounds(here)
                if picked is not None:  # farther data never gives a narrower interval
                    low, high = min(low, picked[0]), max(high, picked[1])
                found[name] = [round(float(np.exp(low)), 3), round(float(np.exp(high)), 3)]
            if (low, high) != (0.0, 0.0):
                out[engine][quantity] = found
    return out


def coverage(family: Family, errors: np.ndarray) -> np.ndarray:
    """Say of each row whether it lies inside bounds made from the other rows' errors.

    Args:
        family: The rows.
        errors: Left-out log errors of one class; NaN where there is none.

    Returns:
        1 inside, 0 outside, NaN where there is no error.
    """
    folds = np.array(random_folds(family.rows, seed=1))
    out = np.full(len(errors), np.nan)
    for fold in sorted(set(folds.tolist())):
        test = folds == fold
        table = intervals(family, {c: np.where(test, np.nan, errors) for c in CLASSES})
        for i in np.flatnonzero(test & ~np.isnan(errors)):
            row = family.rows[i]
            low, high = np.log(table[row.engine][row.quantity]["same"])
            out[i] = float(low <= errors[i] <= high)
    return out


def _error_table(family: Family, errors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Median and 90th percentile of |predicted/measured − 1| by engine, quantity and class."""
    out: dict[str, Any] = {}
    for engine in sorted({r.engine for r in family.rows}):
        for quantity in EXPECTED_ERROR:
            mask = np.array([r.engine == engine and r.quantity == quantity for r in family.rows])
            if not mask.any():
                continue
            cell: dict[str, Any] = {"n": int(mask.sum())}
            for name, error in errors.items():
                off = np.abs(np.exp(-error[mask & ~np.isnan(error)]) - 1.0)
                if len(off):
                    cell[name] = [
                        round(float(np.median(off)), 3), round(float(np.quantile(off, 0.9)), 3)
                    ]  # fmt: skip
            out.setdefault(engine, {})[quantity] = cell
    return out


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def describe(family: Family, theta: np.ndarray, errors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a family's part of the file."""
    found: dict[str, Any] = {}
    for item in family.spec:
        found[item.name] = {
            "value": _round(item.value), "unit": item.unit, "multiplies": item.multiplies,
            "basis": "assumed" if item.fixed else "fitted",
        }  # fmt: skip
    for (name, level, key), value in zip(family.columns, theta, strict=True):
        if not level:
            found[name]["value"] = _round(float(np.exp(value)))
        elif abs(value) > 0.005:
            factors = found[name].setdefault("factors", {}).setdefault(level, {})
            factors[key] = _round(float(np.exp(value)))
    rows = family.rows
    levels = ("engine", "architecture", "precision", "card")
    seen = {
        engine: {
            "cards": sorted({r.card for r in rows if r.engine == engine}),
            "architectures": sorted(
                {r.context["architecture"] for r in rows if r.engine == engine}
            ),
            "models": sorted({r.model for r in rows if r.engine == engine}),
        }
        for engine in sorted({r.engine for r in rows})
    }
    return {
        "coefficients": found,
        "rows": {lv: dict(sorted(Counter(r.context[lv] for r in rows).items())) for lv in levels},
        "seen": seen,
        "errors": _error_table(family, errors),
        "intervals": intervals(family, errors),
    }


_HEADER = """\
# Written by `configurator calibrate`; do not edit by hand.
# A coefficient is its value times every factor that applies (of the engine, the GPU architecture,
# the precision, the card). A factor that is absent is 1: no data, or no difference.
# rows: measurements behind each factor. errors: [median, 90th percentile] of
# |predicted / measured - 1|; fit = on the rows fitted; same = random fifths left out; model, card,
# none = the row's model, card, GPU architecture left out. intervals: factors from the middle to the
# 90 % bounds, by the same classes. cases: each names its source.
"""


def calibrate(cases: Sequence[Mapping[str, Any]], today: date, out: Path | None = None) -> Path:
    """Fit every family and write ``catalog/efficiency.yaml``; deterministic.

    Args:
        cases: Measured cases; those without speeds are left out.
        today: Date to write beside the fit.
        out: File to write; the catalog's by default.

    Returns:
        The file written.

    Raises:
        InputError: No case holds a speed.
    """
    rows = read_rows(cases)
    if not rows:
        raise InputError("--truth", "no_speed_case", len(cases))
    parts: dict[str, Any] = {}
    for name, family in families(rows).items():
        theta = family.fit(np.ones(len(family.rows), dtype=bool))
        errors = {"fit": family.errors(theta), **cross_validate(family)}
        parts[name] = describe(family, theta, errors)
    used = {row.case for row in rows}
    document = {
        "date": today.isoformat(),
        "cases": len(used),
        "sources": len({case["source"] for case in cases if case["id"] in used}),
        "families": parts,
    }
    path = out or catalog_dir() / FILE
    text = yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    path.write_text(_HEADER + text, encoding="utf-8")
    return path
