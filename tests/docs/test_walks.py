# SPDX-License-Identifier: BSD-2-Clause
"""Changes that pages show apply to the sources: in the file that is named before them, at one place.

Seen to fail: a line of a source that has changed since.
"""

import re

import pytest

from support.page_examples import ROOT, pages

_DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`((?:rtl|sim|tb|tests)/[\w/]+\.py)`")


def changes():
    """Yield the file that each change is for, and the lines of it that it begins with."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for block in _DIFF.finditer(text):
            named = _FILE.findall(text, 0, block.start())
            for hunk in block[1].split("@@\n")[1:]:
                before = "".join(
                    f"{line[1:]}\n" for line in hunk.splitlines() if not line.startswith("+")
                )
                place = f"{page.name}, line {text.count(chr(10), 0, block.start()) + 1}"
                yield pytest.param(named[-1], before, id=f"{place}: {before.strip()[:30]!r}")


@pytest.mark.parametrize(("file", "before"), list(changes()))
def test_changes_on_pages_apply(file, before):
    assert (ROOT / file).read_text(encoding="utf-8").count(before) == 1
