# SPDX-License-Identifier: BSD-2-Clause
"""The files of the build cache, and how processes share them."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diptych_sim.settings import SettingError, cache_folder, refused

__all__ = [
    "cache_root",
    "cached_bytes",
    "cached_text",
    "digest",
    "locked",
    "run_folder",
    "temporary_folder",
]


def cache_root() -> Path:
    """Return the directory of the build cache, which exists afterwards: :func:`.cache_folder`.

    Raises
    ------
    SettingError
        If it can be no directory.
    """
    root = cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        root.stat()
    except OSError as error:
        raise _unusable(root, error) from None
    return root


def _unusable(root: Path, error: OSError) -> SettingError:
    return refused(
        "Build cache", "DIPTYCH_CACHE", "a folder that can be written", f"{root} ({error.strerror})"
    )


_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@contextmanager
def _writing() -> Iterator[None]:
    """Name the build cache where it must not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FORBIDDEN:
            raise _unusable(cache_folder(), error) from None
        raise


def run_folder(name: str) -> Path:
    """Make a folder for a run: in the build cache, or where others are if that is read only."""
    try:
        runs = cache_root() / "runs"
        runs.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        return Path(tempfile.mkdtemp(prefix=f"diptych-{name}-"))


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
    """Hold the lock file ``path``; the kernel releases it if the process dies.

    Raises
    ------
    SettingError
        If the build cache must not be written.
    """
    with _writing():
        # Also another user's, which can be read only.
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside ``path`` for the time of its making, under its lock.

    What a process that was killed has left is removed by the next one that makes anything.

    Raises
    ------
    SettingError
        If the build cache must not be written.
    """
    with _writing(), locked(path.parent / "temporary.lock"):
        for found in path.parent.glob(f"{_TEMPORARY}*"):
            _remove_abandoned(found)
        folder = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{path.stem}-", dir=path.parent))
        owned = _own(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if owned is not None:
            os.close(owned)


_TEMPORARY = ".making-"
"""How names of temporary folders begin."""


def _own(folder: Path) -> int | None:
    """Return the lock of a folder, which its owner holds; None if another process has it."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # another user's
        owned = _own(folder)
        if owned is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(owned)


def cached_bytes(path: Path, produce: Callable[[], bytes]) -> bytes:
    """Return the content of a file of the build cache; ``produce`` makes it if it is missing.

    The file appears whole or not at all, and one of several processes makes it. It begins with a
    hash of the rest: a damaged file counts as missing.
    """
    content = _intact(path)
    if content is None:
        with _writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            content = _intact(path)
            if content is None:
                content = produce()
                partial = path.with_suffix(".partial")
                with _writing():
                    try:
                        partial.write_bytes(_mark(content) + b"\n" + content)
                        partial.replace(path)
                    except BaseException:  # a full disk, or a signal
                        partial.unlink(missing_ok=True)
                        raise
    return content


def cached_text(path: Path, produce: Callable[[], str]) -> str:
    """Return the text of a file, as :func:`cached_bytes` does."""
    return cached_bytes(path, lambda: produce().encode()).decode()


def _intact(path: Path) -> bytes | None:
    try:
        mark, _, content = path.read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _unusable(cache_folder(), error) from None
    return content if mark == _mark(content) else None


def _mark(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
