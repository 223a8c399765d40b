"""Remote write, protocol 1.0: a body of snappy and protobuf to the raw samples of node_exporter that are needed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from fleetcast.errors import ContractError

RAW = pa.schema(
    [("host", pa.string()), ("name", pa.string()), ("part", pa.string()), ("ms", pa.int64()), ("value", pa.float64())]
)
"""`host` is the host's labels as JSON, `part` the rest of a series' labels, joined by `|`; `ms` is Unix time."""

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


def decode_write(body: bytes, most_bytes: int) -> pa.Table:
    """The samples (`RAW`) of the series that become metrics; others, and stale marks, are left out.

    Raises `ContractError` for what is no remote write of protocol 1.0, or larger than `most_bytes` when unpacked.
    """
    size = _unpacked_size(body)
    if size > most_bytes:
        raise ContractError(f"the request unpacks to {size} bytes, at most {most_bytes}: send fewer samples at once")
    try:
        plain = pa.decompress(body, decompressed_size=size, codec="snappy", asbytes=True)
        request = _message().FromString(plain)
    except (pa.ArrowException, OSError, ValueError, DecodeError) as error:
        raise ContractError(f"the body is no remote write 1.0 (snappy, protobuf): {error}") from None
    columns: dict[str, list[Any]] = {name: [] for name in RAW.names}
    for series in request.timeseries:
        if any(label.name == "__name__" and label.value in OWN_LABELS for label in series.labels):
            _add(columns, {label.name: label.value for label in series.labels}, series.samples)
    return pa.table(columns, schema=RAW)


def _add(columns: dict[str, list[Any]], labels: dict[str, str], samples: Any) -> None:
    name = labels.pop("__name__")
    wanted = _WANTED.get(name)
    if wanted is not None and not wanted(labels):
        return
    part = "|".join(labels.pop(own, "") for own in OWN_LABELS[name])
    for own in _OF_UNAME if name == UNAME else ():
        labels.pop(own, None)
    host = json.dumps(labels, sort_keys=True)
    for sample in samples:
        if math.isfinite(sample.value) and 0 <= sample.timestamp < 2**53:
            for column, value in zip(RAW.names, (host, name, part, sample.timestamp, sample.value), strict=True):
                columns[column].append(value)


def _unpacked_size(body: bytes) -> int:
    """The length that a snappy block begins with."""
    size = 0
    for place, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return size
    raise ContractError("the body is no snappy block")


@lru_cache(maxsize=1)
def _message() -> Any:
    """The class of `prometheus.WriteRequest`, as far as it is read (prometheus/prompb/remote.proto)."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="fleetcast/remote.proto", package="prometheus", syntax="proto3")
    fields = {
        "Label": [("name", 1, kinds.TYPE_STRING, ""), ("value", 2, kinds.TYPE_STRING, "")],
        "Sample": [("value", 1, kinds.TYPE_DOUBLE, ""), ("timestamp", 2, kinds.TYPE_INT64, "")],
        "TimeSeries": [("labels", 1, kinds.TYPE_MESSAGE, "Label"), ("samples", 2, kinds.TYPE_MESSAGE, "Sample")],
        "WriteRequest": [("timeseries", 1, kinds.TYPE_MESSAGE, "TimeSeries")],
    }
    for message, members in fields.items():
        found = file.message_type.add(name=message)
        for name, number, kind, of in members:
            label = kinds.LABEL_REPEATED if of else kinds.LABEL_OPTIONAL
            field = found.field.add(name=name, number=number, type=kind, label=label)
            if of:
                field.type_name = f".prometheus.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))
