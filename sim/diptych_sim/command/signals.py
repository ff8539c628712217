# SPDX-License-Identifier: BSD-2-Clause
"""Signals that end a command: they end what it has started, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

__all__ = ["Terminated", "die_of", "ended_by_signals"]

_NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_GRACE = 8.0
"""Seconds after which a command that is busy in C, as lanes are, ends without tidying up."""


class Terminated(BaseException):
    """A signal has come; no ``except Exception`` may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    for other in _NUMBERS:  # a second one must not stop the tidying up
        signal.signal(other, signal.SIG_IGN)
    raise Terminated(number)


def _end_late(reader: int, main: int) -> None:
    """End this process some time after a signal, whatever it does."""
    while number := os.read(reader, 1):
        if number[0] in _NUMBERS:
            # If another thread has got it, the main thread waits on for what it reads.
            signal.pthread_kill(main, number[0])
            time.sleep(_GRACE)
            os._exit(128 + number[0])
    os.close(reader)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise :class:`Terminated` when a signal comes, so that all is tidied up on its way."""
    # nohup has told the process to ignore one.
    caught = [number for number in _NUMBERS if signal.getsignal(number) == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, _raise)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_end_late, args=(reader, threading.get_ident()), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def die_of(number: int) -> NoReturn:
    """End as a process ends that does not catch a signal."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # not reached
