# SPDX-License-Identifier: BSD-2-Clause
"""What compilers and simulators see of the environment: what is named here, and no more.

Tools obey hundreds of variables (of Python, cocotb, pytest, make, Verilator) that are set for
something else; one of them must not change what is built, or stop a run.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import cocotb_tools.config
from find_libpython import find_libpython

from diptych_sim.cache.store import cache_root
from diptych_sim.settings import check_settings

from .errors import ToolError

__all__ = ["simulator_environment", "tool_environment"]

_NAMES = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "XDG_CACHE_HOME",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "CPATH",
        "CPLUS_INCLUDE_PATH",
        "LIBRARY_PATH",
        "COMPILER_PATH",
        "GCC_EXEC_PREFIX",
        "SDKROOT",
    ]
)
_PREFIXES = ("CCACHE_", "SCCACHE_", "DISTCC_", "ICECC_", "NIX_")
"""Of launchers of compilers, and of compilers that are wrapped."""
_OURS = ("DIPTYCH_THREADS", "DIPTYCH_LANES", "DIPTYCH_MARCH", "DIPTYCH_SEED", "CXX")


def tool_environment(**own: str) -> dict[str, str]:
    """Return the environment of a compiler, with variables of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    # Messages are read, so they are in English.
    return kept | {"LC_ALL": "C"} | own


def simulator_environment(
    *, top: str, test_module: str, results: Path, seed: int, env: Mapping[str, object]
) -> dict[str, str]:
    """Return the environment of a simulator with cocotb.

    Parameters
    ----------
    top : str
        Name of the top module.
    test_module : str
        Name of the Python module with the cocotb tests.
    results : Path
        File that cocotb writes its results to.
    seed : int
        Seed of its random draws.
    env : mapping
        What the testbench reads besides.

    Raises
    ------
    ToolError
        If this Python has no library that can be loaded.
    """
    check_settings()
    kept = tool_environment()
    kept |= {name: os.environ[name] for name in _OURS if name in os.environ}
    # Not C: testbenches print what tokens say.
    kept |= {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    # Its working directory is another one.
    kept["DIPTYCH_CACHE"] = str(cache_root())
    # Not in the program itself, so that checkouts may share it.
    own = str(cocotb_tools.config.libs_dir)
    others = [path for path in kept.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    kept["LD_LIBRARY_PATH"] = os.pathsep.join([own, *others])
    kept |= {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{_python_library()};{cocotb_tools.config.pygpi_entry_point()}",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": test_module,
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_RESULTS_FILE": str(results),
        # What the simulator writes is seen in the same cycle.
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        # cocotb uses pytest to explain assertions, and would load all of its plugins.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        # Of testbenches only: rewriting the other sources would delay each start.
        "COCOTB_REWRITE_ASSERTION_FILES": "*_tb/*",
    }
    return kept | {name: str(value) for name, value in env.items()}


def _python_library() -> str:
    found = find_libpython()
    if found is None:
        raise ToolError(
            f"Library of Python {sysconfig.get_python_version()} not found, which a simulator "
            "loads: install it (Debian: apt install libpython3-dev)"
        )
    return str(found)
