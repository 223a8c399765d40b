"""Remote write, protocol 1.0: a body of snappy and protobuf to the raw samples of node_exporter that are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from fleetcast.errors import ContractError
from fleetcast.sources.prometheus.raw import RAW

CPU = "node_cpu_seconds_total"
DISK = "node_disk_io_time_seconds_total"
RECEIVE, TRANSMIT = "node_network_receive_bytes_total", "node_network_transmit_bytes_total"
FAULTS = "node_vmstat_pgmajfault"
AVAILABLE, TOTAL = "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"
SWAP_FREE, SWAP_TOTAL = "node_memory_SwapFree_bytes", "node_memory_SwapTotal_bytes"
FILES_FREE, FILES_SIZE = "node_filesystem_avail_bytes", "node_filesystem_size_bytes"
TCP, LOAD, BOOT, UNAME = "node_tcp_connection_states", "node_load1", "node_boot_time_seconds", "node_uname_info"

COUNTERS = frozenset({CPU, DISK, RECEIVE, TRANSMIT, FAULTS})
_FILES = ("device", "mountpoint", "fstype")
OWN_LABELS: dict[str, tuple[str, ...]] = {
    **{CPU: ("cpu", "mode"), DISK: ("device",), RECEIVE: ("device",), TRANSMIT: ("device",), FAULTS: ()},
    **{AVAILABLE: (), TOTAL: (), SWAP_FREE: (), SWAP_TOTAL: (), FILES_FREE: _FILES, FILES_SIZE: _FILES},
    **{TCP: ("state",), LOAD: (), BOOT: (), UNAME: ("nodename",)},
}
"""The series that become metrics, and the labels that tell the series of one host apart."""

_REMEMBERED, _SHORT = 2**16, 1024  # a fleet has the same labels again and again; of longer series none is kept
_OF_UNAME = ("domainname", "machine", "release", "sysname", "version")
_MODES = frozenset({"idle", "user", "nice", "system", "irq", "softirq", "iowait"})
_WANTED: dict[str, Callable[[Mapping[str, str]], bool]] = {
    CPU: lambda labels: labels.get("mode") in _MODES,
    RECEIVE: lambda labels: labels.get("device") != "lo",
    TRANSMIT: lambda labels: labels.get("device") != "lo",
    TCP: lambda labels: labels.get("state") == "close_wait",
    **dict.fromkeys(
        (FILES_FREE, FILES_SIZE), lambda labels: labels.get("fstype") not in {"tmpfs", "overlay", "squashfs"}
    ),
}


def decode_write(body: bytes, most_bytes: int, most_samples: int) -> pa.Table:
    """The samples (`RAW`) of the series that become metrics; others, and stale marks, are left out.

    Raises `ContractError` for what is no remote write of protocol 1.0, larger than `most_bytes` when unpacked, or of
    more than `most_samples`, those included that are left out.
    """
    size = _unpacked_size(body)
    if size > most_bytes:
        raise ContractError(f"the request unpacks to {size} bytes, at most {most_bytes}: send fewer samples at once")
    try:
        plain = pa.decompress(body, decompressed_size=size, codec="snappy", asbytes=True)
        request = messages()["WriteRequest"].FromString(plain)
    except (pa.ArrowException, OSError, ValueError, DecodeError) as error:
        raise ContractError(f"the body is no remote write 1.0 (snappy, protobuf): {error}") from None
    sent = sum(len(one.samples) for one in request.timeseries)
    if sent > most_samples:
        raise ContractError(f"the request has {sent} samples, at most {most_samples}: send fewer at once")
    series, counts, stamps, values = list[tuple[str, str, str]](), list[int](), list[int](), list[float]()
    try:
        for one in request.timeseries:
            found = _series(one.labels)
            if found is not None:
                series.append(found)
                counts.append(len(one.samples))
                for sample in one.samples:
                    stamps.append(sample.timestamp)
                    values.append(sample.value)
    except (ValueError, DecodeError) as error:
        raise ContractError(f"a label of the request is none: {error}") from None
    ms, value = np.array(stamps, np.int64), np.array(values, np.float64)
    of = np.repeat(np.arange(len(series)), counts)
    words = [pa.array(column, pa.string()).dictionary_encode().take(pa.array(of)) for column in _columns(series)]
    table = pa.Table.from_arrays([*words, pa.array(ms), pa.array(value)], schema=RAW)
    return table.filter(pa.array(np.isfinite(value) & (ms >= 0) & (ms < 2**53)))


def _columns(series: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    return [[one[place] for one in series] for place in range(3)]


def _series(encoded: Sequence[bytes]) -> tuple[str, str, str] | None:
    """Host, name and part of a series' labels; None for a series that becomes no metric."""
    kept = sum(map(len, encoded)) <= _SHORT
    labels = dict(map(_label if kept else _parsed, encoded))
    name = labels.pop("__name__", "")
    if name not in OWN_LABELS or (name in _WANTED and not _WANTED[name](labels)):
        return None
    part = "|".join([labels.pop(own, "") for own in OWN_LABELS[name]])
    for own in _OF_UNAME if name == UNAME else ():
        labels.pop(own, None)
    return (_host if kept else _in_json)(tuple(labels.items())), name, part


def _parsed(encoded: bytes) -> tuple[str, str]:
    """A label's name and value."""
    label = messages()["Label"].FromString(encoded)
    return label.name, label.value


def _in_json(labels: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(labels), sort_keys=True)


_label = lru_cache(maxsize=_REMEMBERED)(_parsed)
_host = lru_cache(maxsize=_REMEMBERED)(_in_json)


def _unpacked_size(body: bytes) -> int:
    """The length that a snappy block begins with."""
    size = 0
    for place, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return size
    raise ContractError("the body is no snappy block")


@lru_cache(maxsize=1)
def messages() -> dict[str, Any]:
    """The classes of `prometheus.WriteRequest` and its parts, as far as they are read (prometheus/prompb/remote.proto).

    A series' labels are left as bytes, which are the same on the wire: most of them were seen before.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="fleetcast/remote.proto", package="prometheus", syntax="proto3")
    fields = {
        "Label": [("name", 1, kinds.TYPE_STRING, ""), ("value", 2, kinds.TYPE_STRING, "")],
        "Sample": [("value", 1, kinds.TYPE_DOUBLE, ""), ("timestamp", 2, kinds.TYPE_INT64, "")],
        "TimeSeries": [("labels", 1, kinds.TYPE_BYTES, ""), ("samples", 2, kinds.TYPE_MESSAGE, "Sample")],
        "WriteRequest": [("timeseries", 1, kinds.TYPE_MESSAGE, "TimeSeries")],
    }
    for message, members in fields.items():
        found = file.message_type.add(name=message)
        for name, number, kind, of in members:
            repeated = of or name == "labels"
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            field = found.field.add(name=name, number=number, type=kind, label=label)
            if of:
                field.type_name = f".prometheus.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"prometheus.{name}")) for name in fields}
