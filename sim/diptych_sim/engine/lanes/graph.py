# SPDX-License-Identifier: BSD-2-Clause
"""Operations on lanes: single bits, kept as a bit per lane, and words of up to 64 bits.

A net is ``node << 6 | bit``. Nodes 0 and 1 are the constant bits. Words are zero-extended.
Equal operations on equal operands are one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Graph", "Net", "Nets", "Node"]

Net = int
Nets = tuple[int, ...]
ZERO: Net = 0
ONE: Net = 1 << 6
RIPPLE = 7
"""Bits of the widest sum that is computed bit by bit."""


class Node(NamedTuple):
    """An operation.

    Bits: ``const``, ``source``, ``bit`` (of a word), ``and``, ``or``, ``xor``, ``not``, ``mux``,
    ``any`` (of a word), ``eq``, ``ult``, ``slt`` (of words).
    Words: ``const``, ``source``, ``mux``, ``wand``, ``wor``, ``wxor``, ``wnot``, ``add``, ``sub``,
    ``mul``, ``shl``, ``shr``, ``sar``, ``cat`` (pieces), ``sext``, ``aread``.
    """

    op: str
    width: int
    args: tuple


class Graph:
    """A growing set of nodes.

    Attributes
    ----------
    nodes : list of Node
        The nodes.
    module : int
        Module of the netlist that new nodes belong to.
    origin : list of int
        Modules of the nodes.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = [Node("const", 1, (0,)), Node("const", 1, (1,))]
        self.module = 0
        self.origin = [0, 0]
        self._known: dict[Node, int] = {}

    def add(self, op: str, width: int, *args: object) -> int:
        """Return the node of an operation."""
        node = Node(op, width, args)
        if op != "source":
            known = self._known.get(node)
            if known is not None:
                return known
        self.nodes.append(node)
        self.origin.append(self.module)
        index = len(self.nodes) - 1
        self._known[node] = index
        return index

    def nets(self, node: int) -> Nets:
        """Return all bits of a node."""
        return tuple(node << 6 | bit for bit in range(self.nodes[node].width))

    # --- bits ---

    def bit(self, net: Net) -> int:
        """Return the one-bit node of a net."""
        index, at = net >> 6, net & 63
        node = self.nodes[index]
        if node.width == 1:
            return index
        if node.op == "const":
            return node.args[0] >> at & 1
        if node.op == "cat":
            for source, low, length, place in node.args:
                if place <= at < place + length:
                    return self.bit(source << 6 | low + at - place)
            return 0
        if node.op == "sext":
            narrow = self.nodes[node.args[0]].width
            return self.bit(node.args[0] << 6 | min(at, narrow - 1))
        if node.op in ("wand", "wor", "wxor", "wnot"):
            parts = [self.bit(a << 6 | at) for a in node.args]
            op = {"wand": self.and_, "wor": self.or_, "wxor": self.xor, "wnot": self.not_}[node.op]
            return op(*parts)
        return self.add("bit", 1, index, at)

    def not_(self, a: int) -> int:
        if a < 2:
            return 1 - a
        node = self.nodes[a]
        return node.args[0] if node.op == "not" else self.add("not", 1, a)

    def _opposite(self, a: int, b: int) -> bool:
        return self.nodes[a] == Node("not", 1, (b,)) or self.nodes[b] == Node("not", 1, (a,))

    def and_(self, a: int, b: int) -> int:
        a, b = min(a, b), max(a, b)
        if a == 0 or self._opposite(a, b):
            return 0
        return b if a in (1, b) else self.add("and", 1, a, b)

    def or_(self, a: int, b: int) -> int:
        a, b = min(a, b), max(a, b)
        if a == 1 or self._opposite(a, b):
            return 1
        return b if a in (0, b) else self.add("or", 1, a, b)

    def xor(self, a: int, b: int) -> int:
        a, b = min(a, b), max(a, b)
        if a == b:
            return 0
        if a == 0:
            return b
        return self.not_(b) if a == 1 else self.add("xor", 1, a, b)

    def mux(self, c: int, a: int, b: int) -> int:
        """Return ``a`` where ``c``, and ``b`` elsewhere."""
        if c < 2:
            return a if c else b
        if a == b:
            return a
        if a < 2:
            return self.or_(c, b) if a else self.and_(self.not_(c), b)
        if b < 2:
            return self.or_(self.not_(c), a) if b else self.and_(c, a)
        if a == c:
            return self.or_(c, b)
        if b == c:
            return self.and_(c, a)
        return self.add("mux", 1, c, a, b)

    def all_of(self, parts: Sequence[int]) -> int:
        out = 1
        for part in parts:
            out = self.and_(out, part)
        return out

    def any_of(self, parts: Sequence[int]) -> int:
        out = 0
        for part in parts:
            out = self.or_(out, part)
        return out

    # --- words ---

    def pieces(self, nets: Nets) -> list[tuple[int, int, int, int]]:
        """Split into (node, first bit, length, place) where the source changes; no zeros."""
        out: list[tuple[int, int, int, int]] = []
        for place, net in enumerate(nets):
            node, at = self._resolve(net)
            if node == 0:
                continue
            if out:
                last, low, length, start = out[-1]
                if last == node and low + length == at and start + length == place:
                    out[-1] = (last, low, length + 1, start)
                    continue
            out.append((node, at, 1, place))
        return out

    def _resolve(self, net: Net) -> tuple[int, int]:
        node, at = net >> 6, net & 63
        kind = self.nodes[node]
        if kind.op == "const" and kind.width > 1:
            return kind.args[0] >> at & 1, 0
        if kind.op == "cat":
            for source, low, length, place in kind.args:
                if place <= at < place + length:
                    return self._resolve(source << 6 | low + at - place)
            return 0, 0
        return node, at

    def is_word(self, nets: Nets) -> bool:
        """Return whether a value has a part that is kept as a word."""
        return any(length > 1 for _, _, length, _ in self.pieces(nets))

    def word(self, nets: Nets) -> int:
        """Return the word of a value of 2 to 64 bits."""
        width = len(nets)
        pieces = self.pieces(nets)
        if all(node < 2 for node, _, _, _ in pieces):
            return self.add("const", width, sum(1 << p[3] for p in pieces))
        if len(pieces) == 1:
            node, low, length, place = pieces[0]
            if (low, length, place) == (0, width, 0) and self.nodes[node].width == width:
                return node
        top = nets[-1]
        same = width
        while same > 1 and nets[same - 2] == top:
            same -= 1
        if top > ONE and same < width and same > 1:
            return self.add("sext", width, self.word(nets[:same]))
        return self.add("cat", width, *pieces)

    def mux_nets(self, c: int, a: Nets, b: Nets, words: bool | None = None) -> Nets:
        """Return ``a`` where ``c``, and ``b`` elsewhere, as a word if either has one."""
        if c < 2:
            return a if c else b
        if a == b:
            return a
        if words is None:
            words = len(a) > RIPPLE - 1 and (self.is_word(a) or self.is_word(b))
        if words:
            return self.nets(self.add("mux", len(a), c, self.word(a), self.word(b)))
        return tuple(self.mux(c, self.bit(x), self.bit(y)) << 6 for x, y in zip(a, b, strict=True))

    def bitwise(self, op: str, *values: Nets) -> Nets:
        """Return ``and``, ``or``, ``xor`` or ``not`` of values."""
        width = len(values[0])
        if width > RIPPLE and any(self.is_word(v) for v in values):
            words = [self.word(v) for v in values]
            return self.nets(self.add(f"w{op}", width, *words))
        function = {"and": self.and_, "or": self.or_, "xor": self.xor, "not": self.not_}[op]
        return tuple(function(*(self.bit(v[n]) for v in values)) << 6 for n in range(width))

    def sum(self, a: Nets, b: Nets, subtract: bool = False) -> Nets:
        """Return ``a + b`` or ``a - b``, as wide as they are."""
        width = len(a)
        if width > RIPPLE:
            op = "sub" if subtract else "add"
            return self.nets(self.add(op, width, self.word(a), self.word(b)))
        carry = int(subtract)
        out = []
        for x, y in zip(a, b, strict=True):
            p, q = self.bit(x), self.bit(y)
            q = self.not_(q) if subtract else q
            half = self.xor(p, q)
            out.append(self.xor(half, carry) << 6)
            carry = self.or_(self.and_(p, q), self.and_(half, carry))
        return tuple(out)

    def equal(self, a: Nets, b: Nets) -> int:
        """Return whether values are equal."""
        if len(a) > RIPPLE and (self.is_word(a) or self.is_word(b)):
            return self.add("eq", 1, self.word(a), self.word(b))
        pairs = zip(a, b, strict=True)
        return self.all_of([self.not_(self.xor(self.bit(x), self.bit(y))) for x, y in pairs])

    def less(self, a: Nets, b: Nets, signed: bool) -> int:
        """Return whether ``a < b``."""
        if len(a) > RIPPLE:
            op = "slt" if signed else "ult"
            return self.add(op, 1, self.word(a), self.word(b))
        if signed:
            a, b = (*a[:-1], b[-1]), (*b[:-1], a[-1])
        out = 0
        for x, y in zip(a, b, strict=True):
            p, q = self.bit(x), self.bit(y)
            out = self.mux(self.xor(p, q), q, out)
        return out

    def any(self, nets: Nets) -> int:
        """Return whether a bit is set."""
        out = 0
        for node, low, length, _ in self.pieces(nets):
            if length == 1:
                out = self.or_(out, self.bit(node << 6 | low))
            elif low == 0 and length == self.nodes[node].width:
                out = self.or_(out, self.add("any", 1, node))
            else:
                part = self.word(tuple(node << 6 | low + n for n in range(length)))
                out = self.or_(out, self.add("any", 1, part))
        return out
