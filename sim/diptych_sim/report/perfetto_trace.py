# SPDX-License-Identifier: BSD-2-Clause
"""Writes traces for Perfetto: tracks, slices, counters and arrows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
from perfetto.trace_builder.proto_builder import TraceProtoBuilder

from diptych_sim.report.whole_file import write_whole

__all__ = ["PerfettoTrace"]

# Members of generated classes, which type checkers do not see.
_TrackEvent: Any = pb.TrackEvent  # pyright: ignore[reportAttributeAccessIssue]
_TrackDescriptor: Any = pb.TrackDescriptor  # pyright: ignore[reportAttributeAccessIssue]
_TracePacket: Any = pb.TracePacket  # pyright: ignore[reportAttributeAccessIssue]


class PerfettoTrace:
    """A trace in which a cycle is a nanosecond.

    Names are interned: each is written once.
    """

    def __init__(self) -> None:
        self._builder = TraceProtoBuilder()
        self._tracks = 0
        self._names: dict[tuple[str, str], int] = {}
        self._started = False

    def track(self, name: str, parent: int | None = None, *, unit: str | None = None) -> int:
        """Add a track below another, in order, and return its number; with a unit, of a counter.

        Tracks of one name and parent are shown as one, with as many lines.
        """
        self._tracks += 1
        descriptor = self._builder.add_packet().track_descriptor
        descriptor.uuid = self._tracks
        descriptor.name = name
        descriptor.child_ordering = _TrackDescriptor.EXPLICIT
        descriptor.sibling_order_rank = self._tracks
        if parent is not None:
            descriptor.parent_uuid = parent
        if unit is not None:
            descriptor.counter.unit_name = unit
        return self._tracks

    def slice(
        self,
        track: int,
        start: int,
        end: int,
        name: str,
        category: str,
        *,
        about: Mapping[str, int | str] | None = None,
        starts: Iterable[int] = (),
        ends: Iterable[int] = (),
    ) -> None:
        """Add what lasts from ``start`` to before ``end``.

        Slices of a track do not overlap. ``about`` is shown with the slice; ``starts`` and ``ends``
        are the numbers of arrows that pass through it, and of those that end in it.
        """
        packet = self._event(track, start, _TrackEvent.TYPE_SLICE_BEGIN)
        event = packet.track_event
        event.name_iid = self._intern(packet, "event_names", name)
        event.category_iids.append(self._intern(packet, "event_categories", category))
        for key, value in (about or {}).items():
            annotation = event.debug_annotations.add()
            annotation.name_iid = self._intern(packet, "debug_annotation_names", key)
            if isinstance(value, str):
                annotation.string_value = value
            else:
                annotation.int_value = int(value)
        event.flow_ids.extend(starts)
        event.terminating_flow_ids.extend(ends)
        self._event(track, end, _TrackEvent.TYPE_SLICE_END)

    def count(self, track: int, cycle: int, value: float) -> None:
        """Set a counter from a cycle on."""
        event = self._event(track, cycle, _TrackEvent.TYPE_COUNTER).track_event
        event.double_counter_value = value

    def write(self, path: Path) -> None:
        """Write the file."""
        write_whole(path, self._builder.serialize())

    def _event(self, track: int, cycle: int, kind: int) -> Any:
        packet: Any = self._builder.add_packet()
        packet.timestamp = int(cycle)
        packet.trusted_packet_sequence_id = 1
        packet.sequence_flags = _TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        if not self._started:
            packet.sequence_flags |= _TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
            self._started = True
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet

    def _intern(self, packet: Any, kind: str, name: str) -> int:
        if (kind, name) not in self._names:
            self._names[kind, name] = len(self._names) + 1
            entry = getattr(packet.interned_data, kind).add()
            entry.iid = self._names[kind, name]
            entry.name = name
        return self._names[kind, name]
