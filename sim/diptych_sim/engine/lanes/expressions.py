# SPDX-License-Identifier: BSD-2-Clause
"""Writes operations on lanes as C++ expressions.

Names of values are left open: ``@n@`` is the value of node ``n`` for all lanes of a block, and
``#n#`` for the 64 lanes of part ``j``.
"""

from __future__ import annotations

from .graph import Graph
from .layout import Layout, element_bytes, type_of
from .lower import Lowered

__all__ = ["BYTE", "Expressions"]

BYTE = 3
"""So many single bits are put into a byte of an element, or taken from it, faster by way of bytes."""
_BITWISE = {"and": "&", "or": "|", "xor": "^"}


class Expressions:
    """Expressions of one design; ``wide`` tells whether they are for a block or for a part."""

    def __init__(self, low: Lowered, layout: Layout) -> None:
        self.low, self.layout = low, layout
        self.graph: Graph = low.graph
        self.nodes = low.graph.nodes
        self.wide = False
        self.uses: set[int] = set()

    # --- operands ---

    def ref(self, node: int) -> str:
        kind = self.nodes[node]
        if kind.op == "not":
            return f"~{self.ref(kind.args[0])}"
        if kind.op == "const" and kind.width == 1:
            bits = "W" if self.wide else "B"
            return f"~{bits}{{}}" if kind.args[0] else f"{bits}{{}}"
        if kind.op == "const":
            return f"all<{type_of(kind.width)}>({kind.args[0]}ull)"
        if kind.op == "source":
            return self.state(node)
        self.uses.add(node)
        return f"@{node}@" if self.wide else f"#{node}#"

    def state(self, node: int) -> str:
        place = self.layout.nodes[node]
        return self.at(place.offset, place.width)

    def at(self, offset: int, width: int, base: str = "s") -> str:
        """Return what is at an offset from the block's state, or from elsewhere."""
        if self.wide:
            return f"(*(W*)({base} + {offset}))"
        type_ = "B" if width == 1 else f"V<{type_of(width)}>"
        return f"(({type_}*)({base} + {offset}))[j]"

    def cast(self, node: int, width: int) -> str:
        have, want = type_of(self.nodes[node].width), type_of(width)
        if self.nodes[node].op == "const":
            return f"all<{want}>({self.nodes[node].args[0]}ull)"
        ref = self.ref(node)
        return ref if have == want else f"cast<{want}>({ref})"

    def masked(self, text: str, width: int) -> str:
        full = 8 * element_bytes(width)
        if width == full:
            return text
        return f"band<{type_of(width)}>({text}, {type_of(width)}({(1 << width) - 1}ull))"

    # --- operations ---

    def of_bits(self, node: int) -> bool:
        """Return whether an operation takes and gives single bits only."""
        kind = self.nodes[node]
        return kind.width == 1 and kind.op in ("and", "or", "xor", "mux", "aread")

    def expression(self, node: int) -> str:
        op, width, args = self.nodes[node]
        ref = self.ref
        if width == 1 and op in _BITWISE:
            return f"{ref(args[0])} {_BITWISE[op]} {ref(args[1])}"
        if op == "mux" and width == 1:
            c, a, b = (ref(arg) for arg in args)
            return f"({c} & {a}) | (~{c} & {b})"
        if op == "any":
            return f"nonzero({ref(args[0])})"
        if op in ("eq", "ult", "slt"):
            return self.compare(op, args)
        if op == "mux":
            a, b = self.cast(args[1], width), self.cast(args[2], width)
            return f"select({ref(args[0])}, {a}, {b})"
        if op in ("wand", "wor", "wxor"):
            name = {"wand": "band", "wor": "bor", "wxor": "bxor"}[op]
            return f"{name}({self.cast(args[0], width)}, {self.cast(args[1], width)})"
        if op == "wnot":
            full = (1 << width) - 1
            return f"bxor({self.cast(args[0], width)}, all<{type_of(width)}>({full}ull))"
        if op in ("add", "sub"):
            text = f"{op}({self.cast(args[0], width)}, {self.cast(args[1], width)})"
            return self.masked(text, width)
        if op in ("mul", "shl", "shr", "sar"):
            return self.arithmetic(op, width, args)
        if op == "sext":
            narrow = self.nodes[args[0]].width
            return self.masked(f"extend<{narrow}>({self.cast(args[0], width)})", width)
        if op == "cat":
            return self.cat(width, args)
        if op == "aread":
            return self.read_now(width, *args)
        raise AssertionError(op)

    def compare(self, op: str, args: tuple) -> str:
        size = max(self.nodes[arg].width for arg in args)
        a, b = (self.cast(arg, size) for arg in args)
        rest = 8 * element_bytes(size) - size
        if op == "slt" and rest:
            a, b = (f"left<{rest}>({x})" for x in (a, b))
        name = {"eq": "equal", "ult": "below", "slt": "less"}[op]
        return f"{name}({a}, {b})"

    def arithmetic(self, op: str, width: int, args: tuple) -> str:
        # There is no arithmetic of this kind on bytes.
        size = max(width, 16, *(self.nodes[arg].width for arg in args[1:] if op != "mul"))
        a, b = self.cast(args[0], size), self.cast(args[1], size)
        if op == "sar":
            a = f"extend<{width}>({a})"
        name = {"mul": "mul", "shl": "shiftl", "shr": "shiftr", "sar": "shifta"}[op]
        text = f"{name}({a}, {b})"
        if type_of(size) != type_of(width):
            text = f"cast<{type_of(width)}>({text})"
        return self.masked(text, width)

    def cat(self, width: int, pieces: tuple) -> str:
        type_ = type_of(width)
        text = ""
        constant = sum(1 << place for node, _, _, place in pieces if node == 1)
        for node, low, length, place in pieces:
            if node < 2 or self.nodes[node].width == 1:
                continue
            have = self.nodes[node].width
            part = self.ref(node)
            if low and length > 1:
                part = f"right<{low}>({part})"
            if low + length < have and (low == 0 or length > 1):
                part = f"band<{type_of(have)}>({part}, {type_of(have)}({(1 << length) - 1}ull))"
            if length == 1 and have > 1:
                part = f"band<{type_of(have)}>(right<{low}>({self.ref(node)}), {type_of(have)}(1))"
            if type_of(have) != type_:
                part = f"cast<{type_}>({part})"
            if place:
                part = f"left<{place}>({part})"
            text = f"bor({text}, {part})" if text else part
        if constant or not text:
            base = f"all<{type_}>({constant}ull)"
            text = f"bor({text}, {base})" if text else base
        singles: dict[int, list[tuple[int, int]]] = {}
        for node, _, _, place in pieces:
            if node > 1 and self.nodes[node].width == 1:
                singles.setdefault(place // 8, []).append((node, place))
        for number, bits in singles.items():
            if len(bits) < BYTE or element_bytes(width) == 1:
                for node, place in bits:
                    text = self.put_bit(type_, node, text, place)
                continue
            byte = "all<uint8_t>(0)"
            for node, place in bits:
                byte = self.put_bit("uint8_t", node, byte, place % 8)
            byte = f"cast<{type_}>({byte})"
            text = f"bor({text}, {f'left<{8 * number}>({byte})' if number else byte})"
        return text

    def put_bit(self, type_: str, node: int, text: str, place: int) -> str:
        """Return elements with a bit set where a node of a bit is."""
        return f"put<{type_}>({self.ref(node)}, {text}, {type_}({1 << place}ull))"

    def read_now(self, width: int, memory: int, low: int, address: tuple[int, ...]) -> str:
        state = self.low.memories[memory]
        number = [first for first, _ in state.pieces].index(low)
        if state.shared:
            raise AssertionError("asynchronous read of a table")
        piece = self.layout.memories[memory][number]
        step = self.layout.step(piece.size)

        def choose(at: int, index: int) -> str:
            if at < 0:
                return self.at(piece.offset + index * step, width)
            bit = address[at]
            if bit < 2:
                return choose(at - 1, index | bit << at)
            above, below = choose(at - 1, index | 1 << at), choose(at - 1, index)
            if width == 1:
                return f"(({self.ref(bit)} & {above}) | (~{self.ref(bit)} & {below}))"
            return f"select({self.ref(bit)}, {above}, {below})"

        return choose(len(address) - 1, 0)
