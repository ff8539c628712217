# SPDX-License-Identifier: BSD-2-Clause
"""Environment variables of ours, and what they may be: the only place that reads them.

``DIPTYCH_CACHE``: folder of the build cache. ``DIPTYCH_SEED``: seed of random draws.
``DIPTYCH_THREADS``: threads of a mesh on lanes. ``DIPTYCH_LANES``: lanes of a block of tiles.
``DIPTYCH_SKIP``: 0 to evaluate all of every tile, changed or not.
``DIPTYCH_MARCH``: processor that lanes are compiled for. ``DIPTYCH_SIZES``, ``DIPTYCH_FLAT``,
``DIPTYCH_GROWING``, ``DIPTYCH_WAFER``: meshes of ``diptych bench``; ``DIPTYCH_RUNS``: runs of its
``cost``. An empty one counts as not set,
but for ``DIPTYCH_SIZES`` and ``DIPTYCH_GROWING``, which may be no meshes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "SettingError",
    "bench_runs",
    "cache_folder",
    "check_settings",
    "flat_size",
    "growing_sizes",
    "lanes",
    "march",
    "refused",
    "seed",
    "sizes",
    "skips",
    "threads",
    "wafer_size",
]

_LANES = (64, 128, 256, 512)
_SIDE = 4096
"""Rows or columns of a mesh at most."""


class SettingError(Exception):
    """A variable of the environment that cannot be used; the message is one line that names it."""


def refused(words: str, name: str, allowed: str, value: object) -> SettingError:
    """Return the error of a variable: what it sets, its name, what is allowed, what it is."""
    return SettingError(f"{words} ({name}) must be {allowed}, not {str(value) or repr('')}")


def _number(words: str, name: str, low: int, high: int) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    # Not \d, which takes digits of other scripts.
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) not in range(low, high + 1):
        raise refused(words, name, f"a whole number from {low} to {high}", repr(text)[:60])
    return int(text)


def seed() -> int:
    """Return the seed of random draws, 1 by default: a failure is to be seen again."""
    found = _number("Seed", "DIPTYCH_SEED", 0, 2**32 - 1)
    return 1 if found is None else found


def bench_runs() -> int:
    """Return how many runs ``diptych bench cost`` compares, 240 by default."""
    return _number("Runs", "DIPTYCH_RUNS", 1, 100_000) or 240


def threads() -> int | None:
    """Return how many threads a mesh on lanes uses in each process; None if its size decides."""
    return _number("Threads", "DIPTYCH_THREADS", 1, 1024)


def lanes() -> int | None:
    """Return the lanes of a block of tiles; None if the engine is to choose."""
    found = _number("Lanes", "DIPTYCH_LANES", 1, max(_LANES))
    if found is not None and found not in _LANES:
        raise refused("Lanes", "DIPTYCH_LANES", "64, 128, 256 or 512", found)
    return found


def skips() -> bool:
    """Return whether lanes skip what nothing has changed for; results are the same."""
    return _number("Skipping", "DIPTYCH_SKIP", 0, 1) != 0


def march() -> str | None:
    """Return the processor that lanes are compiled for, as GCC names it; None for this one."""
    text = os.environ.get("DIPTYCH_MARCH", "")
    if not text:
        return None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", text):
        raise refused("Processor", "DIPTYCH_MARCH", "a name of GCC's -march", repr(text)[:60])
    return text


def _meshes(name: str, default: str) -> str:
    text = os.environ.get(name, default)
    for size in text.split():
        match = re.fullmatch("([0-9]{1,4})x([0-9]{1,4})", size)
        if match is None or not all(1 <= int(side) <= _SIDE for side in match.groups()):
            raise refused("Meshes", name, f"RxC, each from 1 to {_SIDE}", repr(size)[:60])
    return text


def _mesh(name: str, default: str) -> str:
    text = _meshes(name, os.environ.get(name) or default)
    if len(text.split()) != 1:
        raise refused("Mesh", name, "one of RxC", repr(text)[:60])
    return text.strip()


def sizes() -> list[str]:
    """Return the meshes that ``diptych bench engines`` measures with all engines."""
    return _meshes("DIPTYCH_SIZES", "4x4 32x32").split()


def growing_sizes() -> list[str]:
    """Return the meshes that it measures with lanes alone."""
    return _meshes("DIPTYCH_GROWING", "32x32 64x64").split()


def flat_size() -> str:
    """Return the largest mesh that it builds flat; 16x16 takes most of an hour, and is kept."""
    return _mesh("DIPTYCH_FLAT", "4x4")


def wafer_size() -> str:
    """Return the mesh of ``diptych bench wafer``: the tiles of a WSE-2 that programs may use."""
    return _mesh("DIPTYCH_WAFER", "750x994")


def cache_folder() -> Path:
    """Return the folder of the build cache, which need not exist.

    It is ``$DIPTYCH_CACHE`` if set, ``build/sim`` of the checkout when the package runs from one,
    and a folder of the user's cache directory otherwise.

    Raises
    ------
    SettingError
        If there is no home, and no other folder is set.
    """
    checkout = Path(__file__).resolve().parents[3]
    try:
        if chosen := os.environ.get("DIPTYCH_CACHE"):
            return Path(chosen).absolute()
        if (checkout / "rtl" / "diptych").is_dir() and (checkout / "pyproject.toml").is_file():
            return checkout / "build" / "sim"
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base).absolute() / "diptych"
    except (RuntimeError, OSError) as error:  # a user without a home; a working directory gone
        raise SettingError(
            f"Build cache (DIPTYCH_CACHE) must be set to a folder, as there is no other: {error}"
        ) from None


_CHECKS: tuple[Callable[[], object], ...] = (
    seed,
    bench_runs,
    threads,
    lanes,
    skips,
    march,
    sizes,
    growing_sizes,
    flat_size,
    wafer_size,
)


def check_settings() -> None:
    """Refuse variables with values that make no sense, whatever is run.

    Raises
    ------
    SettingError
        Of the first such variable.
    """
    for check in _CHECKS:
        check()
