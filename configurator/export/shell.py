"""What all generated files share: the model's name, shell commands, notes.

Names that a user may have chosen never reach a shell or a script unquoted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from configurator.estimate import Estimate
from configurator.scenario import ConfigModel, SizeModel
from configurator.words import say

Language = Literal["bash", "python", "json", "yaml"]
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Artifact:
    """One generated file: its name, its computer language and its text."""

    name: str
    language: Language
    text: str


def model_reference(answer: Estimate) -> str:
    """Return what loaders take: a Hugging Face id, or a folder for an uploaded or sized model."""
    model = answer.scenario.model
    if isinstance(model, SizeModel):
        return f"./model-{model.parameters_b:g}b"
    name = " ".join(
        (model.name if isinstance(model, ConfigModel) else answer.architecture.name).split()
    )
    # A leading dash would be read as an option whatever the quoting.
    return f"./{name}" if not name or name.startswith("-") else name


def loader(answer: Estimate) -> str:
    """Return the transformers class that loads the model; models that see have one of their own."""
    arch = answer.architecture
    sees = arch.vision_parameters or "_vl" in arch.model_type or arch.model_type == "mistral3"
    return "AutoModelForImageTextToText" if sees else "AutoModelForCausalLM"


def file_stem(answer: Estimate) -> str:
    """Return the model's name as a safe file name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model_reference(answer)).name)
    return stem.strip(".-") or "model"


def command(words: Sequence[str], options: Sequence[tuple[str, Any]]) -> str:
    """Return a shell command, one option a line; every word is quoted.

    Args:
        words: Program and what comes first.
        options: Name and value; None leaves an option out, True is a bare flag.
    """
    return with_options(shlex.join(words), options)


def with_options(first: str, options: Sequence[tuple[str, Any]]) -> str:
    """Return what starts a command with its options, one a line."""
    lines = [first]
    for name, value in options:
        if value is None or value is False:
            continue
        lines.append(name if value is True else f"{name} {shlex.quote(str(value))}")
    return " \\\n  ".join(lines)


def note(key: str, language: str, **values: Any) -> str:
    """Return a message as a comment of one line."""
    return f"# {' '.join(say(key, language, **values).split())}\n"


def script(text: str) -> str:
    """Return commands as a script that stops at the first that fails."""
    return f"#!/usr/bin/env bash\nset -euo pipefail\n{text}\n"
