# SPDX-License-Identifier: BSD-2-Clause
"""The text that the bundled model learns from: the King James Version, from Debian's archive."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "bible-kjv-text"
DIGEST = "e1936695e5ceeb5d740afcfb48d14e4b4b372fd9d8d673ca4332e4e87cd25d28"
"""Of the text that the bundled model was trained on, by :func:`digest`."""
HELD_OUT_EVERY = 80
"""One chapter in so many is held out."""
HELD_OUT_FIRST = 41
"""The first chapter held out, counted from 0."""

_COUNT_AT = 0x58
_OFFSETS_AT = 0x5C
_LZW_HEADER = b"\x1f\x9d\x90"
_REFERENCE = re.compile(r"^([1-3]?[A-Z][A-Za-z]*)(\d+):(\d+) (.*)$")


@dataclass(frozen=True)
class Corpus:
    """Chapters of running text, in the order of the book; none is in both lists."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def fetch(cache: Path) -> Path:
    """Download and unpack the Debian package into ``cache`` -> path of its data file.

    Raises
    ------
    RuntimeError
        If ``apt-get`` or ``dpkg-deb`` fails.
    """
    data = cache / "unpacked" / "usr" / "lib" / "bible.data"
    if not data.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", PACKAGE], cache)
        [package, *_] = sorted(cache.glob(f"{PACKAGE}_*.deb"))
        _run(["dpkg-deb", "-x", package.name, "unpacked"], cache)
    return data


def _run(command: Sequence[str], where: Path) -> None:
    try:
        subprocess.run(command, cwd=where, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"The recipe needs {command[0]}, from Debian or one like it") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error


def unpack(data: bytes) -> str:
    """Text of a ``bible.data`` file.

    The file has a table of offsets (big-endian) and windows of 64 KiB, each packed by LZW as
    compress(1) does it, without its header.
    """
    (count,) = struct.unpack_from(">I", data, _COUNT_AT)
    offsets = struct.unpack_from(f">{count}I", data, _OFFSETS_AT)
    text = bytearray()
    for start, end in zip(offsets, (*offsets[1:], len(data)), strict=True):
        window = _LZW_HEADER + data[start:end]
        text += subprocess.run(
            ["gzip", "-dc"], input=window, check=True, capture_output=True
        ).stdout
    return text.decode("ascii")


def chapters(text: str) -> list[str]:
    """Chapters of running text: verses joined by spaces, references and markers removed."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        match = _REFERENCE.match(line)
        if match:
            book, chapter, _, verse = match.groups()
            found.setdefault((book, chapter), []).append(verse)
    return [re.sub(r"\s+", " ", " ".join(verses)).strip() for verses in found.values()]


def split(all_chapters: Sequence[str]) -> Corpus:
    """Hold out one chapter in :data:`HELD_OUT_EVERY`."""
    held = range(HELD_OUT_FIRST, len(all_chapters), HELD_OUT_EVERY)
    return Corpus(
        training=tuple(text for i, text in enumerate(all_chapters) if i not in held),
        held_out=tuple(all_chapters[i] for i in held),
    )


def load(cache: Path) -> Corpus:
    """Fetch, unpack and split the corpus."""
    return split(chapters(unpack(fetch(cache).read_bytes())))


def digest(corpus: Corpus) -> str:
    """SHA-256 of the whole corpus, to tell whether the archive's text has changed."""
    everything = "\n".join((*corpus.training, "", *corpus.held_out))
    return hashlib.sha256(everything.encode()).hexdigest()
