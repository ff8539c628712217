# SPDX-License-Identifier: BSD-2-Clause
"""Files of the build cache: whole, made once, and made anew when damaged.

Mutations that were tried by hand, each seen to fail: a file taken whatever it holds; no lock.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diptych_sim.cache.store import cached_text
from diptych_sim.settings import cache_folder


def test_a_damaged_file_is_made_anew(tmp_path):
    path = tmp_path / "a.txt"
    assert cached_text(path, lambda: "text") == "text"
    whole = path.read_bytes()
    wrong = whole.replace(b"text", b"test")
    assert wrong != whole
    for damaged in (wrong, whole[:-1], whole[:64], whole[:16], b"", b"\xff\xfe"):
        path.write_bytes(damaged)
        assert cached_text(path, lambda: "text") == "text"
        assert path.read_bytes() == whole


def test_one_of_several_producers_runs(tmp_path):
    made = []

    def produce():
        made.append(1)
        time.sleep(0.05)
        return "text"

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: cached_text(tmp_path / "a.txt", produce), range(8)))
    assert texts == ["text"] * 8
    assert made == [1]


def test_a_failure_leaves_no_file(tmp_path):
    def produce():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        cached_text(tmp_path / "a.txt", produce)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_a_checkout_has_its_cache_in_its_build_folder(monkeypatch):
    monkeypatch.delenv("DIPTYCH_CACHE", raising=False)
    assert cache_folder() == Path(__file__).resolve().parents[2] / "build" / "sim"
