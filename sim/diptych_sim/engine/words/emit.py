# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ of a netlist: what each of its clusters does in a cycle.

The state ``s`` has values of registers ``f<cell>`` and what they become at the clock edge,
``n<cell>``; values that clusters compute for others, ``k<cell>``; marks of clusters to be evaluated
in this cycle, ``d``, and in the next, ``e``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .cells import Cell, Nets, Words
from .clusters import Cluster, Plan
from .expressions import Body, type_of
from .groups import emit_group, group_fields
from .netlist import WordsError

__all__ = ["emit"]

_STATES = ("ff", "sread", "storage")


class _Function(Body):
    """The function of a cluster."""

    def __init__(self, design: _Design, number: int) -> None:
        super().__init__(design.whole.cells)
        self.design, self.number = design, number
        self.cluster = design.plan.clusters[number]
        self.groups: dict[tuple[int, ...], str] = {}
        self.commits: list[str] = []

    def ref(self, index: int) -> str:
        cell = self.cells[index]
        if cell.held:
            return f"s.f{index}"
        if cell.kind == "lane":
            group, lane, inner = cell.place
            held = self.design.whole.groups[group].body.cells[inner].held
            return f"s.g{group}.{'f' if held else 'o'}{inner}[{lane}]"
        return f"v{index}" if index in self.cluster.made else f"s.k{index}"

    def word_of(self, memory: int, address: str) -> str:
        return f"s.m{memory}[{address}]"

    # --- statements ---

    def emit(self) -> list[str]:
        for index in self.cluster.cells:
            cell = self.cells[index]
            if cell.kind in ("outs", "step"):
                emit_group(self, cell, self.design)
            elif cell.sink:
                getattr(self, f"_{cell.kind}")(index, cell)
            else:
                self.compute(index)
                if users := self.design.others(index, self.number):
                    self.lines += [
                        f"if (differ(v{index}, s.k{index})) {{",
                        f"s.k{index} = v{index}; {_marks('d', users)} }}",
                    ]
        return self.finished()

    def finished(self) -> list[str]:
        number, lines = self.number, self.lines
        ends = [f"if ({name}) {{ {_marks('e', users)} }}" for users, name in self.groups.items()]
        begins = [f"u64 {name} = 0;" for name in self.groups.values()]
        if self.commits:
            changed = " | ".join(["z", *self.groups.values()])
            ends.append(f"if ({changed}) s.commits[s.count++] = {number};")
            begins.append("u64 z = 0;")
        out = [f"void c{number}(S& s) {{", *begins, *lines, *ends, "}"]
        out += [f"void e{number}(S& s) {{", *self.commits, "}"]
        return out

    def changed(self, users: Iterable[int]) -> str:
        """Return the variable that is not zero once something has changed for some clusters."""
        key = tuple(sorted(users))
        return self.groups.setdefault(key, f"z{len(self.groups)}")

    def take(self, index: int, value: str) -> None:
        """Give a register a value at the clock edge."""
        flag = self.changed(self.design.plan.users.get(index, ()))
        self.lines.append(f"s.n{index} = {value};")
        self.lines.append(f"{flag} |= differ(s.n{index}, s.f{index});")
        self.commits.append(f"s.f{index} = s.n{index};")

    def _ff(self, index: int, cell: Cell) -> None:
        self.take(index, self.value(cell.inputs[0]))

    def _sread(self, index: int, cell: Cell) -> None:
        if cell.ports:
            raise WordsError("Words cannot run a transparent read port")
        address, enable = (self.value(nets) for nets in cell.inputs)
        self.take(index, f"{enable} ? {self.word_of(cell.memory, address)} : s.f{index}")

    def _write(self, index: int, cell: Cell) -> None:
        memory = self.cells[cell.memory]
        data, address, enables = (self.value(nets) for nets in cell.inputs)
        grain = memory.width // len(cell.inputs[2])
        self.lines += [
            f"if (any({enables})) {{",
            f"s.p{index}.data = {data}; s.p{index}.address = {address};",
            f"s.p{index}.enables = {enables}; z = 1;",
            f"{_marks('e', self.design.plan.users.get(cell.memory, ()))} }}",
        ]
        place = f"s.m{cell.memory}[s.p{index}.address]"
        if len(cell.inputs[2]) == 1:
            done = f"{place} = s.p{index}.data;"
        else:
            done = f"write<{grain}, {len(cell.inputs[2])}>({place}, s.p{index}.data, s.p{index}.enables);"
        self.commits.append(f"if (any(s.p{index}.enables)) {{ {done} s.p{index}.enables = {{}}; }}")

    def _storage(self, index: int, cell: Cell) -> None:
        enables, address, data, enable, where = (self.value(nets) for nets in cell.inputs)
        self.take(index, f"{enable} ? line_of(s, {where}) : s.f{index}")
        self.lines += [
            f"if ({enables}) {{ s.p{index}.data = {data}; s.p{index}.address = {address};",
            f"s.p{index}.enables = {enables}; z = 1; {_marks('e', [self.number])} }}",
        ]
        self.commits.append(
            f"if (s.p{index}.enables) {{ write_line(s, s.p{index}.address, s.p{index}.data, "
            f"s.p{index}.enables); s.p{index}.enables = 0; }}"
        )

    def _assert(self, index: int, cell: Cell) -> None:
        test, enable = (self.value(nets) for nets in cell.inputs)
        self.lines.append(f"if ({enable} && !{test}) fail(s, {index});")

    def _drive(self, index: int, cell: Cell) -> None:
        value = self.value(cell.inputs[0])
        type_ = type_of(len(cell.inputs[0]))
        self.lines += [
            f"{{ const {type_} v = {value};",
            f"memcpy(s.to_outside + {cell.stride}, &v, {4 * -(-len(cell.inputs[0]) // 32)}); }}",
        ]

    def _watch(self, index: int, cell: Cell) -> None:
        value = self.value(cell.inputs[0])
        note = "count" if cell.flag else "note"
        self.lines += [
            f"if (differ({value}, s.w{index})) {{",
            f"{note}(s, {cell.stride}, s.w{index}, {value}); s.w{index} = {value}; }}",
        ]


def _marks(which: str, clusters: Iterable[int]) -> str:
    words: dict[int, int] = defaultdict(int)
    for number in clusters:
        words[number // 64] |= 1 << number % 64
    return " ".join(f"s.{which}[{word}] |= {bits:#x}ull;" for word, bits in sorted(words.items()))


class _Design:
    def __init__(self, whole: Words, plan: Plan) -> None:
        self.whole, self.plan = whole, plan

    def others(self, index: int, number: int) -> list[int]:
        """Return the other clusters that use a cell."""
        return [user for user in self.plan.users.get(index, ()) if user != number]

    def marks(self, clusters: Iterable[int]) -> str:
        """Return the statements that have clusters evaluated in this cycle."""
        return _marks("d", clusters)

    def fields(self) -> list[str]:
        """Return what the state consists of."""
        out = []
        used = {index for cluster in self.plan.clusters for index in cluster.cells}
        for index, cell in enumerate(self.whole.cells):
            type_ = type_of(cell.width)
            if cell.held:
                out.append(f"{type_} f{index};")
                if cell.kind != "input":
                    out.append(f"{type_} n{index};")
            if cell.kind == "memory":
                out.append(f"{type_} m{index}[{_room(cell)}];")
            elif cell.kind in ("write", "storage"):
                data, _, enables = _write_inputs(cell)
                out.append(
                    f"struct {{ {type_of(len(data))} data; u32 address; "
                    f"{type_of(len(enables))} enables; }} p{index};"
                )
            elif cell.kind == "watch":
                out.append(f"{type_of(len(cell.inputs[0]))} w{index};")
            elif index in used and cell.width and not cell.sink and self.plan.users.get(index):
                out.append(f"{type_} k{index};")
        for number, group in enumerate(self.whole.groups):
            out += group_fields(group, number, self.whole, in_place=number in self.plan.in_place)
        return out

    def initial(self) -> list[str]:
        """Return the functions that set registers and memories to their initial values."""
        registers, all_ = [], []
        for index, cell in enumerate(self.whole.cells):
            if cell.kind == "ff":
                value = _constant(cell)
                (registers if cell.flag else all_).append(f"s.f{index} = {value};")
            elif cell.kind == "memory":
                assert isinstance(cell.init, tuple)
                all_ += [
                    f"s.m{index}[{n}] = {_number(value, cell.width)};"
                    for n, value in enumerate(cell.init)
                    if value
                ]
        for number, group in enumerate(self.whole.groups):
            for index, cell in enumerate(group.body.cells):
                if cell.kind == "ff":
                    line = (
                        f"for (int l = 0; l < {len(group.paths)}; l++) "
                        f"s.g{number}.f{index}[l] = {_constant(cell)};"
                    )
                    (registers if cell.flag else all_).append(line)
        return [
            "void reset_registers(S& s) {",
            *registers,
            "}",
            "void set_initial(S& s) {",
            *all_,
            "reset_registers(s);",
            "}",
        ]


def _constant(cell: Cell) -> str:
    assert isinstance(cell.init, int)
    return _number(cell.init, cell.width)


def _number(value: int, width: int) -> str:
    if width <= 64:
        return f"{value:#x}{'ull' if width > 32 else 'u'}"
    words = [f"{value >> 64 * n & (1 << 64) - 1:#x}ull" for n in range(-(-width // 64))]
    return f"{type_of(width)}{{{{{', '.join(words)}}}}}"


def _room(cell: Cell) -> int:
    """Return the words that addresses of a memory reach."""
    return 1 << max(cell.depth - 1, 0).bit_length()


def _write_inputs(cell: Cell) -> tuple[Nets, Nets, Nets]:
    if cell.kind == "storage":
        enables, address, data = cell.inputs[:3]
        return data, address, enables
    data, address, enables = cell.inputs
    return data, address, enables


def emit(
    whole: Words, plan: Plan, places: Sequence[str], *, header: str, footer: str, units: int = 6
) -> list[str]:
    """Return the C++ of a netlist, in parts that are compiled apart.

    Parameters
    ----------
    whole : Words
        The netlist.
    plan : Plan
        Its clusters.
    places : sequence of str
        Members of the state whose places the library tells.
    header, footer : str
        Texts before and after.
    units : int
        Parts, but two.
    """
    design = _Design(whole, plan)
    number = len(plan.clusters)
    watches = sum(cell.kind == "watch" for cell in whole.cells)
    state = [
        f"#define CLUSTERS {number}",
        f"#define MARKS {-(-number // 64)}",
        f"#define WATCHES {watches}",
        f"#define OUTSIDE {1 + sum(-(-width // 32) for _, _, _, width in whole.outside)}",
        *header.splitlines(),
        "struct S : Machine {",
        *design.fields(),
        "};",
    ]
    calls = [f"void c{n}(S&); void e{n}(S&);" for n in range(number)]
    calls += ["void reset_registers(S&); void set_initial(S&);"]
    head = "\n".join([*state, *calls, ""])
    functions = [_Function(design, n).emit() for n in range(number)]
    sizes = [sum(map(len, lines)) for lines in functions]
    parts: list[list[str]] = [[]]
    grouped: list[str] = []
    filled, share = 0, sum(sizes) / units
    for cluster, lines, size in zip(plan.clusters, functions, sizes, strict=True):
        if _is_group(whole, cluster):
            grouped += lines
            continue
        parts[-1] += lines
        filled += size
        if filled > share:
            parts.append([])
            filled = 0
    table = [
        "typedef void (*Function)(S&);",
        f"const Function functions[] = {{{', '.join(f'c{n}' for n in range(number))}}};",
        f"const Function edges[] = {{{', '.join(f'e{n}' for n in range(number))}}};",
    ]
    table += [
        '#pragma GCC diagnostic ignored "-Winvalid-offsetof"',
        f"const long places[] = {{{', '.join(f'offsetof(S, {place})' for place in places)}}};",
    ]
    main = [*design.initial(), *table, *_ports(whole, plan), footer]
    texts = [head + "\n".join([*part, ""]) for part in parts if part]
    texts.append('#pragma GCC optimize("O3")\n' + head + "\n".join([*grouped, ""]))
    return [head + "\n".join([*main, ""]), *texts]


def _is_group(whole: Words, cluster: Cluster) -> bool:
    return any(whole.cells[index].kind in ("outs", "step") for index in cluster.cells)


def _ports(whole: Words, plan: Plan) -> list[str]:
    """Return the function that sets an input, by its cell."""
    out = ["void set_input(S& s, long cell, const u64* words) {", "switch (cell) {"]
    for index, cell in enumerate(whole.cells):
        if cell.kind == "input" and not cell.flag:
            size = 8 * -(-cell.width // 64)
            marks = _marks("d", plan.users.get(index, ()))
            out += [
                f"case {index}: {{ {type_of(cell.width)} v = {{}};",
                f"memcpy(&v, words, sizeof v < {size} ? sizeof v : {size});",
                f"if (differ(v, s.f{index})) {{ s.f{index} = v; {marks} }} break; }}",
            ]
    out += ["}", "}", "void take_from_outside(S& s) {"]
    for index, cell in enumerate(whole.cells):
        if cell.kind == "input" and cell.flag:
            marks = _marks("d", plan.users.get(index, ()))
            out += [
                f"{{ {type_of(cell.width)} v = {{}};",
                f"memcpy(&v, s.from_outside + {cell.stride}, {4 * -(-cell.width // 32)});",
                f"if (differ(v, s.f{index})) {{ s.f{index} = v; {marks} }} }}",
            ]
    listed = " ".join(f"{way} {name} {word} {width}" for way, name, word, width in whole.outside)
    reset = [word for way, name, word, _ in whole.outside if (way, name) == ("i", "rst")]
    return [
        *out,
        "}",
        f'#define PORTS "{listed}"',
        f"#define RESET_WORD {reset[0] if reset else 0}",
    ]
