# SPDX-License-Identifier: BSD-2-Clause
"""Keys of the build cache: hashes of sources, classes, parameters and versions."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from functools import cache, partial
from hashlib import sha256
from importlib import import_module, metadata
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from .store import digest

__all__ = ["fingerprint"]

DEPENDENCIES = ("amaranth", "numpy", "safetensors", "tokenizers")
"""Packages that count by their version."""
CLOCK_TICK = 0.02
"""Seconds by which a file system's clock may be behind the process's."""


class _UnknownError(Exception):
    """A value whose text says too little about it."""


def fingerprint(*values: object, packages: tuple[str, ...]) -> str | None:
    """Return a key for what the code of some packages computes from some values.

    The key is a hash of the values, of every Python source of the packages, and of the versions of
    Python and of :data:`DEPENDENCIES`. Code that was changed in memory does not count: it needs a
    component instance, which has no key.

    Parameters
    ----------
    values : object
        Classes of the packages, and :func:`functools.partial` of them; strings, bytes, numbers,
        booleans, ``None``, tuples and NumPy arrays; enum members and frozen dataclasses of the
        packages.
    packages : tuple of str
        Packages or modules whose sources count.

    Returns
    -------
    str or None
        A short hash; ``None``, for "do not cache", if there is any other value, or if a source
        changed after this process imported the package: what runs may not be what the file says.
    """
    try:
        texts = [text for value in values for text in _texts(value, packages)]
    except _UnknownError:
        return None
    key = digest([sys.version, *_versions(), _sources_hash(packages), *texts])
    # Checked last: a source may be edited while it is read.
    return None if _edited(packages) else key


def _texts(value: Any, packages: tuple[str, ...]) -> Iterator[str]:
    """Yield texts that differ between different values."""
    kind: Any = type(value)
    if kind is partial or issubclass(kind, type):
        yield from _called(value if kind is partial else partial(value), packages)
        return
    yield kind.__qualname__
    if value is None or kind in (bool, int, float, str, bytes):
        yield repr(value)
    elif kind is tuple:
        yield str(len(value))
        for item in value:
            yield from _texts(item, packages)
    elif kind is np.ndarray and value.dtype.hasobject is False:
        yield from (str(value.dtype.descr), str(value.shape), sha256(value.tobytes()).hexdigest())
    elif isinstance(value, Enum):
        yield from (_name(kind, packages), value.name)
    elif getattr(vars(kind).get("__dataclass_params__"), "frozen", False):
        yield _name(kind, packages)
        for field in fields(value):
            yield from _texts(getattr(value, field.name), packages)
    else:
        raise _UnknownError(value)


def _called(made: Any, packages: tuple[str, ...]) -> Iterator[str]:
    """Yield texts of a class and its arguments by name: whether a default is given says nothing."""
    if not isinstance(made.func, type):
        raise _UnknownError(made)
    yield _name(made.func, packages)
    bound = signature(made.func).bind_partial(*made.args, **made.keywords)
    bound.apply_defaults()
    yield from _texts(tuple(sorted(bound.arguments.items())), packages)


def _name(cls: type, packages: tuple[str, ...]) -> str:
    """Return the place of a class of the packages."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not cls or not any(f"{cls.__module__}.".startswith(f"{p}.") for p in packages):
        raise _UnknownError(cls)
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _sources(package: str) -> list[tuple[str, Path]]:
    """Return names and paths of the sources of a package or module."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"Package {package!r} must have sources")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(package, origin)]
    paths = sorted(origin.parent.rglob("*.py"))
    return [(f"{package}/{path.relative_to(origin.parent)}", path) for path in paths]


@cache
def _versions() -> list[str]:
    return list(map(metadata.version, DEPENDENCIES))


@cache
def _sources_hash(packages: tuple[str, ...]) -> str:
    # Once: after an edit there are no keys.
    files = [source for package in packages for source in _sources(package)]
    return digest([text for name, path in files for text in (name, path.read_text("utf-8"))])


def _edited(packages: tuple[str, ...]) -> bool:
    """Return whether a source changed after this process imported its package."""
    for package in packages:
        imported = import_module(package.split(".")[0]).IMPORTED_AT - CLOCK_TICK
        for _, path in _sources(package):
            # Unlike the time of modification, this one cannot be set back.
            if not path.exists() or path.stat().st_ctime > imported:
                return True
    return False
