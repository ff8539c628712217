# SPDX-License-Identifier: BSD-2-Clause
"""Faults that can be planted in a source of the hardware."""

import ast
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fault", "draw", "faults_of", "planted"]

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}
NO_HARDWARE = ("Assert", "Format", "Print", "ValueError", "TypeError")
"""Calls in which a fault changes no hardware, or only a check of it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One change of a source.

    Attributes
    ----------
    file : Path
        The source.
    line : int
        Line of the change, from 1.
    kind : str
        "operator", "constant", "condition", "width", "dropped" or "exchanged".
    start, end : int
        The bytes that are replaced.
    old, new : str
        What is there, and what comes there.
    """

    file: Path
    line: int
    kind: str
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.kind}: {old} -> {new}"


def planted(text: str, fault: Fault) -> str:
    """Return a source with a fault."""
    data = text.encode()
    return (data[: fault.start] + fault.new.encode() + data[fault.end :]).decode()


def draw(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """Return up to ``count`` different faults at random, each kind as likely as any other."""
    rng = random.Random(seed)
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        kinds[fault.kind].append(fault)
    for members in kinds.values():
        rng.shuffle(members)
    drawn: list[Fault] = []
    while kinds and len(drawn) < count:
        kind = rng.choice(sorted(kinds))
        drawn.append(kinds[kind].pop())
        if not kinds[kind]:
            del kinds[kind]
    return drawn


def faults_of(file: Path, text: str) -> list[Fault]:
    """Return all faults that can be planted in a source.

    Docstrings, annotations, defaults, names, checks of parameters and assertions of the hardware
    stay as they are.
    """
    return list(_Finder(file, text).all())


class _Finder:
    """Walks through one source."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._data = text.encode()
        self._tree = ast.parse(text)
        self._begins = [0]
        for line in text.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line.encode()))
        # Members of enumerations by the enumeration: Cause.READING, Cause.WRITING.
        self._members: dict[str, list[str]] = defaultdict(list)
        for node in ast.walk(self._tree):
            match node:
                case ast.Attribute(value=ast.Name(owner), attr=attr) if attr.isupper():
                    if attr not in self._members[owner]:
                        self._members[owner].append(attr)

    def all(self) -> Iterator[Fault]:
        for node in self._tree.body:
            yield from self._walk(node)

    def _walk(self, node: ast.AST) -> Iterator[Fault]:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.Assert() | ast.JoinedStr():
                return
            case ast.FunctionDef(body=body) | ast.ClassDef(body=body):
                # Not its decorators, defaults and annotations.
                children: list[ast.AST] = list(body)
            case ast.AnnAssign(value=value):
                children = [value] if value is not None else []
            case ast.If(body=[ast.Raise()]):
                return
            case ast.Call() if _is_no_hardware(node):
                return
            case _:
                children = list(ast.iter_child_nodes(node))
        yield from self._faults(node)
        for child in children:
            yield from self._walk(child)

    def _faults(self, node: ast.AST) -> Iterator[Fault]:
        """Yield the faults of a node itself."""
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                for other in OPERATORS.get(type(op), ()):
                    changed = ast.BinOp(left=left, op=other(), right=right)  # pyright: ignore
                    yield self._fault("operator", node, f"({ast.unparse(changed)})")
                if isinstance(op, ast.BitAnd | ast.BitOr):
                    for side in (left, right):
                        yield self._fault("condition", node, f"({self._text(side)})")
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                for other in OPERATORS.get(type(op), ()):
                    changed = ast.Compare(left=left, ops=[other()], comparators=[right])  # pyright: ignore
                    yield self._fault("operator", node, f"({ast.unparse(changed)})")
            case ast.UnaryOp(op=ast.Invert() | ast.USub(), operand=operand):
                yield self._fault("operator", node, self._text(operand))
            case ast.Constant(value=bool(value)):
                yield self._fault("constant", node, str(not value))
            case ast.Constant(value=int(value)):
                for other in (value + 1, value - 1):
                    if other >= 0:
                        yield self._fault("constant", node, str(other))
            case ast.Attribute(value=ast.Name(owner), attr=attr) if attr.isupper():
                for other in self._members[owner]:
                    if other != attr:
                        yield self._fault("exchanged", node, f"{owner}.{other}")
            case ast.Call():
                yield from self._faults_of_call(node)
            case ast.AugAssign(target=target, value=value) if _is_domain(target):
                if isinstance(value, ast.List) and len(value.elts) > 1:
                    for element in value.elts:
                        yield self._fault("dropped", element, "*()")
                elif not _is_no_hardware(value):
                    yield self._fault("dropped", node, "pass")
            case ast.Assign(targets=[ast.Attribute(value=ast.Name("m"), attr="next")]):
                yield self._fault("dropped", node, "pass")
            case ast.Expr(value=ast.Call(func=func)):
                if not isinstance(func, ast.Attribute) or func.attr != "__init__":
                    yield self._fault("dropped", node, "pass")

    def _faults_of_call(self, node: ast.Call) -> Iterator[Fault]:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("m"), attr="If" | "Elif"), args=[test]):
                yield self._fault("condition", test, f"~({self._text(test)}).bool()")
                yield self._fault("condition", test, "1")
                yield self._fault("condition", test, "0")
            case ast.Call(func=ast.Name("Mux"), args=[test, yes, no]):
                test_text, yes_text, no_text = (self._text(part) for part in (test, yes, no))
                yield self._fault("exchanged", node, f"Mux({test_text}, {no_text}, {yes_text})")
            case ast.Call(func=ast.Attribute(attr="eq"), args=[value]):
                if not isinstance(value, ast.Constant):
                    yield self._fault("width", value, f"({self._text(value)})[:-1]")
            case ast.Call(func=ast.Name("Signal" | "unsigned" | "signed" | "range"), args=[width]):
                if isinstance(width, ast.Name | ast.Attribute | ast.BinOp):
                    yield self._fault("width", width, f"({self._text(width)}) - 1")

    def _place(self, node: ast.AST) -> tuple[int, int]:
        where = node if isinstance(node, ast.expr | ast.stmt) else None
        assert where is not None
        assert where.end_lineno is not None
        assert where.end_col_offset is not None
        start = self._begins[where.lineno - 1] + where.col_offset
        return start, self._begins[where.end_lineno - 1] + where.end_col_offset

    def _text(self, node: ast.expr) -> str:
        start, end = self._place(node)
        return self._data[start:end].decode()

    def _fault(self, kind: str, node: ast.expr | ast.stmt, new: str) -> Fault:
        start, end = self._place(node)
        old = self._data[start:end].decode()
        return Fault(
            file=self._file, line=node.lineno, kind=kind, start=start, end=end, old=old, new=new
        )


def _is_no_hardware(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(name)):
            return name in NO_HARDWARE
    return False


def _is_domain(target: ast.AST) -> bool:
    """Return whether an assignment is to ``m.d.comb``, ``m.d.sync`` or ``m.d[...]``."""
    match target:
        case ast.Attribute(value=ast.Attribute(attr="d")):
            return True
        case ast.Subscript(value=ast.Attribute(attr="d")):
            return True
    return False
