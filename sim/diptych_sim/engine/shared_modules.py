# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a module once for all its instances.

Verilator writes the code of every instance anew, so a mesh of big tiles builds slowly and runs
out of the processor's instruction cache. A shared module becomes a model of its own; in the
design a shell stands for it, which hands the inputs to that model at each rising edge of the
clock and takes the outputs from it. This is exact, cycle for cycle, if each output is a register.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .emit import Source
from .errors import BuildError

__all__ = ["CHECKED_CYCLES", "SharedModule", "clock_falls", "reachable", "split"]

CHECKED_CYCLES = 256
"""For so many cycles each instance is checked for paths from an input to an output."""

_MODULE = re.compile(r"^module (\\\S+|\w+)", re.MULTILINE)
_INSTANCE = re.compile(r"^ {2}(\\\S+|\w+) +(?:\\\S+|\w+) *\($", re.MULTILINE)
_PORT = re.compile(
    r"^ {2}(input|output) (?:signed )?(?:\[(\d+):0\] )?(\\\S+|\w+) ?(?:=[^;]*)?;$", re.MULTILINE
)


@dataclass(frozen=True)
class _Port:
    name: str
    width: int
    word: int  # the first of its 32-bit words in the vector of all ports

    @property
    def words(self) -> int:
        return (self.width + 31) // 32


def _bare(identifier: str) -> str:
    return identifier.removeprefix("\\")


def escaped(name: str) -> str:
    # Any name may be a keyword of Verilog; escaped, none is.
    return f"\\{name} "


def reachable(sources: Sequence[Source], top: str, cut: Sequence[str] = ()) -> list[Source]:
    """Return the files that a module needs, in their order, without looking into ``cut``."""
    owners = {_bare(module): file for file, text in sources for module in _MODULE.findall(text)}
    texts = dict(sources)
    if top not in owners:
        raise BuildError(f"Module {top!r} must be in the sources, which hold {sorted(owners)}")
    needed: set[str] = set()
    waiting = [owners[top]]
    while waiting:
        file = waiting.pop()
        if file not in needed:
            needed.add(file)
            uses = {_bare(module) for module in _INSTANCE.findall(texts[file])} - set(cut)
            waiting += [owners[module] for module in uses if module in owners]
    return [source for source in sources if source[0] in needed]


def clock_falls(root_header: str) -> str:
    """Return the C++ statement that lets the clock of a model ``m`` fall.

    It clears the clock's last value, as Verilator keeps it, according to the header
    ``<prefix>___024root.h``: the evaluation of a falling edge takes up to a quarter of the time.
    Without such a field, the edge is evaluated.
    """
    last = set(re.findall(r"\b__Vtrigprevexpr\w*clk__\d+\b", root_header))
    return f"m->rootp->{last.pop()} = 0;" if len(last) == 1 else "m->clk = 0; m->eval();"


class SharedModule:
    """The files that make a module shared.

    Parameters
    ----------
    sources : sequence of Source
        Files with the module and whatever it needs, as Amaranth writes them.
    name : str
        The module. It has ports ``clk`` and ``rst``, and each of its outputs is a register.
    waves : bool
        Whether its instances can be recorded.

    Attributes
    ----------
    name : str
        The module.
    top : str
        Name of the model's top, around the module.
    prefix : str
        Name of the model's C++ class.
    waves : bool
        Whether its instances can be recorded.
    sources : list of Source
        What the model is made of, without ``wrapper``.

    Raises
    ------
    BuildError
        If the module is not there or has no clock and reset.
    """

    def __init__(self, sources: Sequence[Source], name: str, *, waves: bool = False) -> None:
        self.name = name
        self.waves = waves
        self.top = f"shared_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        self.prefix = f"V{self.top}"
        self.sources = reachable(sources, name)
        text = "\n".join(text for _, text in self.sources)
        start = re.search(rf"^module \\?{re.escape(name)}\b", text, re.MULTILINE)
        assert start is not None
        body = text[start.start() :]
        body = body[: body.index("\nendmodule")]
        ports = [(m[1], _bare(m[3]), int(m[2] or 0) + 1) for m in _PORT.finditer(body)]
        self._inputs = _layout([(n, w) for d, n, w in ports if d == "input" and n != "clk"])
        self._outputs = _layout([(n, w) for d, n, w in ports if d == "output"])
        if not {"clk", "rst"} <= {name for _, name, _ in ports} or not self._outputs:
            raise BuildError(f"Shared module {name!r} must have a clock, a reset and an output")

    def wrapper(self) -> Source:
        """Return the top of the model: the module, with ports whose C++ names are plain."""
        # With an underscore in front, which keeps them out of waveforms.
        lines = [f"module {self.top}("]
        lines += [f"  input [{p.width - 1}:0] _i{k}," for k, p in enumerate(self._inputs)]
        lines += [f"  output [{p.width - 1}:0] _o{k}," for k, p in enumerate(self._outputs)]
        lines += ["  input clk", ");", f"  {escaped(self.name)}body ("]
        lines += [f"    .{escaped(p.name)}(_i{k})," for k, p in enumerate(self._inputs)]
        lines += [f"    .{escaped(p.name)}(_o{k})," for k, p in enumerate(self._outputs)]
        lines += ["    .clk(clk)", "  );", "endmodule", ""]
        return f"{self.top}.sv", "\n".join(lines)

    def shell(self) -> Source:
        """Return what stands for the module in the design."""
        name = self.name
        inputs, outputs = total_words(self._inputs), total_words(self._outputs)
        packed = ", ".join(
            f"{32 * p.words}'({escaped(p.name)})" if p.width % 32 else escaped(p.name)
            for p in reversed(self._inputs)
        )
        lines = [f"module {escaped(name)}(", "  input clk,"]
        lines += [f"  input [{p.width - 1}:0] {escaped(p.name)}," for p in self._inputs]
        lines += [f"  output reg [{p.width - 1}:0] {escaped(p.name)}," for p in self._outputs]
        lines[-1] = lines[-1].rstrip(",")
        lines += [
            ");",
            f'  import "DPI-C" function chandle {self.top}_new(',
            f"    input string path, output bit [{32 * outputs - 1}:0] o);",
            f'  import "DPI-C" function void {self.top}_step(',
            f"    input chandle model, input bit [{32 * inputs - 1}:0] i,",
            f"    output bit [{32 * outputs - 1}:0] o);",
            *(self._settling(inputs, packed) if self.waves else ()),
            "  chandle model;",
            f"  bit [{32 * outputs - 1}:0] shared_outputs;",
            "  initial begin",
            f'    model = {self.top}_new($sformatf("%m"), shared_outputs);',
        ]
        lines += [
            f"    {escaped(p.name)}= shared_outputs[{32 * p.word}+:{p.width}];"
            for p in self._outputs
        ]
        lines += [
            "  end",
            "  always @(posedge clk) begin",
            *([f"    recorded <= {self.top}_recorded(model);"] if self.waves else ()),
            f"    {self.top}_step(model, {{{packed}}}, shared_outputs);",
        ]
        lines += [
            f"    {escaped(p.name)}<= shared_outputs[{32 * p.word}+:{p.width}];"
            for p in self._outputs
        ]
        lines += ["  end", "endmodule", ""]
        return f"{name}.sv", "\n".join(lines)

    def _settling(self, inputs: int, packed: str) -> list[str]:
        # The model sees its inputs at the next edge only; what is recorded must see them at once.
        return [
            f'  import "DPI-C" function bit {self.top}_recorded(input chandle model);',
            f'  import "DPI-C" function void {self.top}_settle(',
            f"    input chandle model, input bit clk, input bit [{32 * inputs - 1}:0] i);",
            "  bit recorded;",
            f"  always_comb if (recorded) {self.top}_settle(model, clk, {{{packed}}});",
        ]

    def _recording(self) -> list[str]:
        return [
            f'extern "C" svBit {self.top}_recorded(void* h) {{',
            "    return static_cast<Instance*>(h)->recorded;",
            "}",
            f'extern "C" void {self.top}_settle(void* h, svBit clk, const svBitVecVal* i) {{',
            f"    {self.prefix}* const m = static_cast<Instance*>(h)->m;",
            *(line for k, p in enumerate(self._inputs) for line in _set(k, p)),
            "    m->clk = 0;",
            "    m->eval();",
            "    m->clk = clk;  // to be seen only",
            "}",
        ]

    def glue(self, root_header: str) -> Source:
        """Return the C++ between shell and model.

        Parameters
        ----------
        root_header : str
            Text of Verilator's header ``<prefix>___024root.h``.
        """
        prefix, top = self.prefix, self.top
        lines = [
            f'#include "{prefix}.h"',
            f'#include "{prefix}___024root.h"',
            '#include "svdpi.h"',
            "#include <cstring>",
            "#include <string>",
            *(['#include "waves.h"'] if self.waves else ()),
            "namespace {",
            f"constexpr int words = {total_words(self._outputs)};",
            f"struct Instance {{ {prefix}* m; std::string path; long cycle; bool recorded; }};",
            f"void get(const {prefix}* m, svBitVecVal* o) {{",
            *(line for k, p in enumerate(self._outputs) for line in _get(k, p)),
            "}",
            "}  // namespace",
            f'extern "C" void* {top}_new(const char* path, svBitVecVal* o) {{',
            f"    auto* m = new {prefix}(Verilated::threadContextp(), path);",
            "    m->clk = 0;",
            *(line for k, p in enumerate(self._inputs) for line in _clear(k, p)),
            "    m->eval();",
            "    get(m, o);",
            "    auto* t = new Instance{m, path, 0, false};",
            *(_WAVES_NEW if self.waves else ()),
            "    return t;",
            "}",
            *(self._recording() if self.waves else ()),
            f'extern "C" void {top}_step(void* h, const svBitVecVal* i, svBitVecVal* o) {{',
            "    auto* t = static_cast<Instance*>(h);",
            f"    {prefix}* const m = t->m;",
            f"    const bool checked = t->cycle < {CHECKED_CYCLES};",
            "    svBitVecVal before[words];",
            "    if (checked) get(m, before);",
            *(line for k, p in enumerate(self._inputs) for line in _set(k, p)),
            "    if (checked) {",
            "        ++t->cycle;",
            "        m->clk = 0;",
            "        m->eval();",
            "        get(m, o);",
            "        if (std::memcmp(before, o, sizeof before) != 0)",
            "            VL_FATAL_MT(__FILE__, __LINE__, t->path.c_str(),",
            f'                "shared module {self.name} must have registers for outputs");',
            "    }",
            "    m->clk = 1;",
            "    m->eval();",
            "    get(m, o);",
            "    if (checked) {",
            "        m->clk = 0;",
            "        m->eval();",
            "    } else {",
            f"        {clock_falls(root_header)}",
            "    }",
            "}",
            "",
        ]
        return f"{top}_glue.cpp", "\n".join(lines)


_WAVES_NEW = [
    "    waves_instances().push_back({path, [t](WavesFile* file) {",
    "        t->m->traceBaseModel(file, 99, 0);",
    "        t->recorded = true;",
    "    }});",
]


def _layout(ports: Sequence[tuple[str, int]]) -> list[_Port]:
    placed: list[_Port] = []
    word = 0
    for name, width in ports:
        placed.append(_Port(name, width, word))
        word += placed[-1].words
    return placed


def total_words(ports: Sequence[_Port]) -> int:
    return sum(port.words for port in ports)


def _set(index: int, port: _Port) -> list[str]:
    # Verilator keeps up to 64 bits in an integer and more in an array of words.
    at = port.word
    if port.words == 1:
        return [f"    m->_i{index} = i[{at}];"]
    if port.words == 2:
        return [f"    m->_i{index} = i[{at}] | static_cast<QData>(i[{at + 1}]) << 32;"]
    return [f"    m->_i{index}[{k}] = i[{at + k}];" for k in range(port.words)]


def _clear(index: int, port: _Port) -> list[str]:
    if port.words <= 2:
        return [f"    m->_i{index} = 0;"]
    return [f"    m->_i{index}[{k}] = 0;" for k in range(port.words)]


def _get(index: int, port: _Port) -> list[str]:
    at = port.word
    if port.words == 1:
        return [f"    o[{at}] = m->_o{index};"]
    if port.words == 2:
        return [
            f"    o[{at}] = static_cast<svBitVecVal>(m->_o{index});",
            f"    o[{at + 1}] = static_cast<svBitVecVal>(m->_o{index} >> 32);",
        ]
    return [f"    o[{at + k}] = m->_o{index}[{k}];" for k in range(port.words)]


def split(
    sources: Sequence[Source], top: str, names: Sequence[str], *, waves: bool = False
) -> tuple[list[Source], dict[str, SharedModule]]:
    """Return the sources of a design with shells in it, and the modules that they stand for."""
    modules = {name: SharedModule(sources, name, waves=waves) for name in names}
    retained = reachable(sources, top, cut=names)
    return [module.shell() for module in modules.values()] + retained, modules
