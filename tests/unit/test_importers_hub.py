"""Models from the Hub, and the optional packages that the importers load when they need them."""

import importlib
import socket
import subprocess
import sys
import threading
import time
import types

import pytest
from safetensors.numpy import save_file

from configurator.errors import InputError
from configurator.importers import hub, import_file, import_hub
from tests.unit.tiny_models import hf_tensors, llama_file, model_folder, size


@pytest.mark.parametrize("package", ["gguf", "safetensors", "huggingface_hub"])
def test_missing_extra_names_the_way_out(tmp_path, monkeypatch, package):
    real = importlib.import_module

    def without(name, *args):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *args)

    llama_file(tmp_path / "m.gguf")
    save_file(hf_tensors(), str(tmp_path / "m.safetensors"))
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=r"pip install gpu-configurator\[import\]"):
        read_with(package, tmp_path)


def read_with(package, folder):
    if package == "huggingface_hub":
        return import_hub("owner/name", offline=False)
    return import_file(folder / f"m.{package}")


def test_nothing_optional_at_import_time():
    code = (
        "import sys, configurator.importers\n"
        "print({'gguf', 'safetensors', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_hub_offline_says_the_way_out():
    with pytest.raises(InputError, match=r"offline; choose the model from the catalog") as caught:
        import_hub("Qwen/Qwen3-8B", offline=True)
    assert caught.value.field == "model.repo_id"


@pytest.mark.parametrize("bad", ["", "../etc", "a/b/c", "http://x/y", "a b/c", "a/..", None])
def test_hub_ids_are_checked(bad):
    with pytest.raises(InputError, match="owner/name"):
        import_hub(bad, offline=True)


def test_hub_without_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"upload its config\.json"):
        import_hub("no-such-owner/no-such-model", offline=False)
    assert time.monotonic() - start < hub.HUB_DEADLINE_S + 2


def test_hub_that_never_answers(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(hub, "HUB_DEADLINE_S", 0.05)
    monkeypatch.setattr(hub, "_fetch", lambda client, repo: released.wait(5))
    with pytest.raises(InputError, match="did not answer"):
        import_hub("owner/name", offline=False)
    released.set()


class FakeHub:
    """The calls that the importer makes."""

    def __init__(self, folder, error=None):
        self.folder, self.error = folder, error

    def HfApi(self):
        return self

    def model_info(self, repo_id, *, timeout):
        assert timeout == hub.REQUEST_TIMEOUT_S
        return types.SimpleNamespace(sha="abc")

    def hf_hub_download(self, repo_id, filename, **kwargs):
        assert kwargs["revision"] == "abc"
        assert kwargs["etag_timeout"] == hub.REQUEST_TIMEOUT_S
        return str(self.folder / filename)

    def get_safetensors_metadata(self, repo_id, **kwargs):
        from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata
        from huggingface_hub.utils._safetensors import TensorInfo

        if self.error:
            raise self.error
        tensors = {n: TensorInfo("F16", list(t.shape), (0, t.nbytes))
                   for n, t in hf_tensors().items()}  # fmt: skip
        file = SafetensorsFileMetadata(metadata={}, tensors=tensors)
        return SafetensorsRepoMetadata(None, False, {}, {"model.safetensors": file})


def test_hub_model(monkeypatch, tmp_path):
    folder = model_folder(tmp_path / "tiny")
    real = importlib.import_module

    def use(client):
        monkeypatch.setattr(
            importlib, "import_module", lambda n: client if n == "huggingface_hub" else real(n)
        )

    use(FakeHub(folder))
    got = import_hub("owner/name", offline=False)
    assert (got.model.name, got.precision) == ("owner/name", "fp16")
    assert (got.weights_bytes, got.tensors) == (size(hf_tensors()), len(hf_tensors()))
    from huggingface_hub.errors import NotASafetensorsRepoError

    use(FakeHub(folder, NotASafetensorsRepoError("only .bin")))
    got = import_hub("owner/name", offline=False)
    assert (got.weights_bytes, got.notes) == (0, (("no_tensors_read", {}),))
