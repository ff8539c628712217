# SPDX-License-Identifier: BSD-2-Clause
"""Where built things are kept, and how two processes share them."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_root", "digest", "kept", "kept_text", "locked"]


def cache_root() -> Path:
    """Return the directory of built things, which exists afterwards.

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


def kept(path: Path, produce: Callable[[], bytes]) -> bytes:
    """Return what is in a file in :func:`cache_root`, which is made if it is not there.

    The file appears whole or not at all; any number of processes may ask for it at once. It begins
    with a hash of the rest, so that a damaged one is seen, and made anew.
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


def kept_text(path: Path, produce: Callable[[], str]) -> str:
    """Return the text of a file, as of :func:`kept`."""
    return kept(path, lambda: produce().encode()).decode()


def _intact(path: Path) -> bytes | None:
    try:
        mark, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return content if mark == _mark(content) else None


def _mark(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
