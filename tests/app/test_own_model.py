"""A model of one's own: by path, by id, by upload; what is wrong is said in the page's language."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from configurator.catalog import load_catalog
from configurator.words import say
from tests.app.conftest import healthy, query, said, start

MODEL = "Qwen/Qwen3-4B"


def own(language: str = "en") -> AppTest:
    at = start(language)
    at.segmented_control(key="model_by").set_value("config")
    return healthy(at.run())


def give(at: AppTest, source: object) -> AppTest:
    at.text_input(key="model_source").set_value(str(source))
    return healthy(at.run())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = load_catalog().model_config(MODEL)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(
        {"model.embed_tokens.weight": np.zeros((8, 4), np.float16)},
        str(tmp_path / "model.safetensors"),
    )
    return tmp_path


def test_a_folder_on_this_machine(folder: Path) -> None:
    at = give(own(), folder)
    assert folder.name[:20] in said(at)
    assert "1 tensors" in said(at)
    assert query(at)["w"] == "fp16"


@pytest.mark.parametrize("source", ["~nosuchuser/x", "x" * 5000, "/" + "x" * 5000, "a/" * 400])
def test_no_path_breaks_the_page(source: str) -> None:
    at = own()
    give(at, source)
    assert not at.exception


def test_what_is_wrong_is_said(language: str, tmp_path: Path) -> None:
    at = own(language)
    for source, kind in ((tmp_path / "no.gguf", "not_there"), (MODEL, "hub_offline")):
        give(at, source)
        assert say(f"error.{kind}", language) in said(at), source
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(20))
    assert give(at, tmp_path / "a.gguf").error
    assert "Qwen3-8B" in said(at)


def test_viewers_elsewhere_cannot_read_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configurator.app.own_model.sits_here", lambda: False)
    at = own()
    assert "model_source" not in [t.key for t in at.text_input]
    assert "head -c" in said(at)
