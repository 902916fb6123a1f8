"""What every adapter shares: questions in on stdin, answers out on stdout, one JSON line each.

Runs inside the peer's own environment, so it knows only the standard library. A question is
``{"id", "scenario", "gpu": {"id", "name", "memory_gib"}, "hints": {...}}``; an answer is
``{"id", "seconds", quantity: value, ...}`` or ``{"id", "seconds", "refused": reason}``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

GIB = 2**30
SECONDS_A_QUESTION = 120


class Refused(Exception):
    """The peer does not take this question."""


class Question:
    """One case, with the shorthands that most adapters need."""

    def __init__(self, line: Mapping[str, Any]) -> None:
        self.id: str = line["id"]
        self.scenario: Mapping[str, Any] = line["scenario"]
        self.gpu: Mapping[str, Any] = line["gpu"]
        self.hints: Mapping[str, Any] = line["hints"]
        self.config: dict[str, Any] = dict(line["scenario"]["model"]["config"])
        self.inference: Mapping[str, Any] = self.scenario.get("inference") or {}
        self.training: Mapping[str, Any] = self.scenario.get("training") or {}
        self.hardware: Mapping[str, Any] = self.scenario["hardware"]
        self.engine: str = self.scenario["engine"]
        self.precision: str = self.scenario["precision"]

    @property
    def serves(self) -> bool:
        """Whether the case is inference."""
        return bool(self.scenario["task"] == "inference")

    @property
    def tensor(self) -> int:
        """Tensor-parallel ranks; every GPU where the case does not say."""
        own = self.hardware.get("tensor_parallel")
        return int(own or self.hardware["gpu_count"] // (self.data * self.pipeline))

    @property
    def pipeline(self) -> int:
        """Pipeline stages."""
        return int(self.hardware.get("pipeline_parallel") or 1)

    @property
    def data(self) -> int:
        """Data-parallel ranks."""
        return int(self.hardware.get("data_parallel") or 1)

    @property
    def context(self) -> int:
        """Tokens a request holds at its end."""
        return int(self.inference["input_tokens"]) + int(self.inference["output_tokens"])

    def needs(self, condition: object, reason: str) -> None:
        """Refuse on the peer's behalf where it has no input for what the case asks."""
        if not condition:
            raise Refused(reason)

    def quantized(self) -> bool:
        """Whether the weights are stored in fewer bits than 16."""
        return self.hints["precision"] not in ("bf16", "fp16", "fp32")


_FOLDER = Path(tempfile.mkdtemp(prefix="peer-config-"))


def config_folder(question: Question, **changes: Any) -> Path:
    """Write the case's config.json into a folder of its own, as a downloaded model has it."""
    config = {**question.config, **changes}
    text = json.dumps(config, sort_keys=True)
    folder = _FOLDER / f"model-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no answer in {SECONDS_A_QUESTION} s")


def serve(answer: Callable[[Question], Mapping[str, float]]) -> None:
    """Answer every question on stdin; what the peer prints itself goes to stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGALRM, _too_long)
    for text in sys.stdin:
        question = Question(json.loads(text))
        reply: dict[str, Any] = {"id": question.id}
        start = time.perf_counter()
        signal.alarm(SECONDS_A_QUESTION)
        try:
            reply |= {k: float(v) for k, v in answer(question).items()}
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}".replace(str(_FOLDER), "folder")
            reply["refused"] = reason[:300]
        finally:
            signal.alarm(0)
        reply["seconds"] = time.perf_counter() - start
        with contextlib.suppress(BrokenPipeError):
            out.write(json.dumps(reply) + "\n")
            out.flush()
