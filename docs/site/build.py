# SPDX-License-Identifier: BSD-2-Clause
"""Builds the documentation as HTML: ``python docs/site/build.py [FOLDER]``; build/docs by default.

Sources are gathered in FOLDER.source: the pages of docs/ and examples/, README, CONTRIBUTING and
CHANGELOG, the ISA pages, and an API page for each package. Warnings are errors.
"""

from __future__ import annotations

import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from isa_pages import PAGES, page_text
from sphinx.cmd.build import build_main

import diptych
import diptych_sim
import diptych_tb

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent
FRONT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
API = {
    "hardware": (diptych, "Hardware (rtl)"),
    "simulation": (diptych_sim, "Compilers, engines and the command (sim)"),
    "testbenches": (diptych_tb, "Testbenches (tb)"),
}


def _packages(root: ModuleType) -> Iterator[tuple[str, list[str]]]:
    """Yield packages below a root, each with its public modules."""
    infos = list(pkgutil.iter_modules(root.__path__, f"{root.__name__}."))
    modules = [info.name for info in infos if not info.ispkg and not info.name.endswith("__main__")]
    yield root.__name__, modules
    for info in infos:
        if info.ispkg:
            yield from _packages(import_module(info.name))


def _api_page(name: str, modules: list[str]) -> str:
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-index:", ""]
    for module in modules:
        title = module.removeprefix(f"{name}.")
        lines += [title, "-" * len(title), "", f".. automodule:: {module}", ""]
    return "\n".join(lines)


def _toctree(pages: list[str], caption: str = "") -> str:
    head = "```{toctree}\n:hidden:\n" + (f":caption: {caption}\n" if caption else "")
    return f"{head}\n" + "\n".join(pages) + "\n```\n"


def gather(source: Path) -> None:
    """Write all sources of the site into a folder."""
    junk = shutil.ignore_patterns("site", "__pycache__")
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source, ignore=junk)
    shutil.copytree(ROOT / "examples", source / "examples", ignore=junk)
    for name in FRONT:
        shutil.copy(ROOT / name, source)
    # docs/ is the root of the site, the other folders lie in it.
    for page in source.glob("*.md"):
        text = page.read_text("utf-8").replace("](../", "](")
        page.write_text(re.sub(r'(\]\(|src=")docs/', r"\1", text), "utf-8")
    page = source / "examples" / "README.md"
    page.write_text(page.read_text("utf-8").replace("](../docs/", "](../"), "utf-8")
    for name, page in PAGES.items():
        (source / f"isa-{name}.md").write_text(page_text(page), "utf-8")

    index = (source / "index.md").read_text("utf-8")
    guide = [*re.findall(r"\]\(([^):#]+)\.md\)", index), "Overview <README>", "CHANGELOG"]
    index += "\n" + _toctree(guide, "Guide")
    blocks = (source / "blocks.md").read_text("utf-8")
    pages = re.findall(r"\]\((blocks/[^):#]+)\.md\)", blocks)
    (source / "blocks.md").write_text(blocks + "\n" + _toctree(list(dict.fromkeys(pages))), "utf-8")
    index += "\n" + _toctree([f"isa-{name}" for name in PAGES], "Instruction sets")
    for folder, (root, title) in API.items():
        (source / "api" / folder).mkdir(parents=True)
        names = []
        for name, modules in _packages(root):
            if modules:
                (source / "api" / folder / f"{name}.rst").write_text(_api_page(name, modules))
                names.append(f"{folder}/{name}")
        text = f"# {title}\n\n" + _toctree(names).replace(":hidden:\n", ":maxdepth: 2\n")
        (source / "api" / f"{folder}.md").write_text(text)
    index += "\n" + _toctree([f"api/{folder}" for folder in API], "API")
    (source / "index.md").write_text(index, "utf-8")


def main() -> int:
    """Build the site; the status is 0 when nothing was warned of."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs")
    source = target.with_name(f"{target.name}.source")
    gather(source)
    shutil.rmtree(target, ignore_errors=True)
    flags = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(source / ".doctrees")]
    return build_main([*flags, "-c", str(SITE), str(source), str(target)])


if __name__ == "__main__":
    sys.exit(main())
