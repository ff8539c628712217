# SPDX-License-Identifier: BSD-2-Clause
"""The files of the build cache, and how processes share them."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_root", "cached_bytes", "cached_text", "digest", "locked"]


def cache_root() -> Path:
    """Return the directory of the build cache, which exists afterwards.

    It is ``$DIPTYCH_CACHE`` if set, ``build/sim`` of the checkout when the package runs from one,
    and a folder of the user's cache directory otherwise.
    """
    checkout = Path(__file__).resolve().parents[3]
    if chosen := os.environ.get("DIPTYCH_CACHE"):
        root = Path(chosen).absolute()
    elif (checkout / "rtl" / "diptych").is_dir() and (checkout / "pyproject.toml").is_file():
        root = checkout / "build" / "sim"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(base).absolute() / "diptych"
    root.mkdir(parents=True, exist_ok=True)
    return root


def digest(parts: Iterable[str]) -> str:
    """Return a short hash of a sequence of texts, which also depends on where each ends."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; the kernel releases it if the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached_bytes(path: Path, produce: Callable[[], bytes]) -> bytes:
    """Return the content of a file of the build cache; ``produce`` makes it if it is missing.

    The file appears whole or not at all, and one of several processes makes it. It begins with a
    hash of the rest: a damaged file counts as missing.
    """
    content = _intact(path)
    if content is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            content = _intact(path)
            if content is None:
                content = produce()
                partial = path.with_suffix(".partial")
                partial.write_bytes(_mark(content) + b"\n" + content)
                partial.replace(path)
    return content


def cached_text(path: Path, produce: Callable[[], str]) -> str:
    """Return the text of a file, as :func:`cached_bytes` does."""
    return cached_bytes(path, lambda: produce().encode()).decode()


def _intact(path: Path) -> bytes | None:
    try:
        mark, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return content if mark == _mark(content) else None


def _mark(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
