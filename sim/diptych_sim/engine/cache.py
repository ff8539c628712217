# SPDX-License-Identifier: BSD-2-Clause
"""Where built things are kept, and how two processes share them."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_root", "digest", "kept_text", "locked"]


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


def kept_text(path: Path, produce: Callable[[], str]) -> str:
    """Return the text of a file in :func:`cache_root`, which is made if it is not there.

    The file appears whole or not at all; any number of processes may ask for it at once. It begins
    with a hash of the text, so that a damaged one is seen, and made anew.
    """
    text = _intact(path)
    if text is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            text = _intact(path)
            if text is None:
                text = produce()
                partial = path.with_suffix(".partial")
                partial.write_text(f"{digest([text])}\n{text}", encoding="utf-8", newline="")
                partial.replace(path)
    return text


def _intact(path: Path) -> str | None:
    try:
        content = path.read_bytes().decode()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    mark, _, text = content.partition("\n")
    return text if mark == digest([text]) else None
