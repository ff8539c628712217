# SPDX-License-Identifier: BSD-2-Clause
"""``make mutants``: plants random faults in a block and prints those that no test sees."""

import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from support import blocks

from .campaign import OUTCOMES, RTL, BaselineError, Campaign, Verdict, sources_of
from .faults import draw, faults_of


def _number(name: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {text!r}")
    return int(text)


def _line(verdict: Verdict) -> str:
    fault = verdict.fault
    return f"rtl/{fault.file}:{fault.line}: {fault}"


def main(
    block: str, count: str = "50", seed: str = "1", limit: str = "120", jobs: str = "1"
) -> int:
    """Run a campaign; return the exit status."""
    try:
        number, start = _number("N", count, 1), _number("SEED", seed, 0)
        seconds, threads = _number("LIMIT", limit, 1), _number("JOBS", jobs, 1)
        tests, files = blocks.targets(block), sources_of(block)
        if tests is None or not files:
            every = [name for name in blocks.names() if sources_of(name)]
            raise ValueError(f"BLOCK must be one of {' '.join(every)}, not {block!r}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    faults = [fault for file in files for fault in faults_of(file, (RTL / file).read_text())]
    drawn = draw(faults, number, start)
    print(f"{block}: {len(drawn)} of {len(faults)} faults, SEED={start}; tests without a fault ...")
    verdicts: list[Verdict] = []
    try:
        campaign = Campaign(tests, limit=seconds)
        with ThreadPoolExecutor(threads) as pool:
            try:
                for index, verdict in enumerate(pool.map(campaign.judge, drawn), 1):
                    verdicts.append(verdict)
                    place = f"{index}/{len(drawn)} {verdict.outcome}, {verdict.seconds:.0f} s"
                    print(f"{place}: {_line(verdict)}", flush=True)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                campaign.stop()
                print()
    except BaselineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # in the tests without a fault
        print()
    counts = Counter(verdict.outcome for verdict in verdicts)
    print(f"{block}: {', '.join(f'{counts[outcome]} {outcome}' for outcome in OUTCOMES)}")
    for verdict in verdicts:
        if verdict.outcome == "survived":
            print(f"survived: {_line(verdict)}")
    return 0 if len(verdicts) == len(drawn) else 130


if __name__ == "__main__":
    # The tests of a mutant are a process group of their own, which must not stay.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(*(sys.argv[1:] or [""])))
