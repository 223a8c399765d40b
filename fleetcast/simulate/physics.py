"""From demand and events to the fourteen metrics of the contract.

Every metric follows from the same few causes: demand drives CPU, network and connections; what waits for disks raises
I/O wait and load together; memory pressure fills swap and makes pages fault. Compiled; a server is worked through in
blocks of steps, each stage a loop over a block's rows in one scratch array, which the compiler vectorises.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fleetcast.compiling import compiled, compiled_and_kept
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.simulate.arithmetic import F, expf, limited
from fleetcast.simulate.episode_steps import BOOT, CLEAN_UP
from fleetcast.simulate.kinds import CHANNELS
from fleetcast.simulate.randomness import BLOCK, Stream, fill_normals, fill_words
from fleetcast.simulate.state import MEMORIES
from fleetcast.simulate.traits import DISK_FULL, MEMORY_FULL

B = BLOCK
SLOW_SPREAD, FAST_SPREAD, FLEET_SPREAD = 0.10, 0.06, 0.04
BURST_FROM, BURST_SIZE, BURST_MEMORY = 2.6, 0.45, 0.7  # a burst comes where a normal number exceeds the first
WORK_EXTREME, IOWAIT_EXTREME, LOAD_EXTREME = 1.3, 0.65, 6.0
CLOSE_WAIT_EXTREME = 350.0
NETWORK_CAPACITY = 1.18e9  # bytes/s of a 10 Gbit/s interface in practice
PRESSURE_FROM = 0.88  # memory from which pages are swapped

# Rows of the scratch array: noises (in the order in which they are drawn) ...
SLOW, FAST, SYSTEM, WAIT, MEMORY, SWAP, RECEIVE, TRANSMIT, CONNECTIONS, LOAD = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
BURST, DISK, FAULTS = 10, 11, 12
# ... what drives the server ...
COURSE, COMMON, SHOCK, BACKUP, FACTOR, KEPT, DEMAND, ACTIVITY, GROWN, USED, PRESSURE = (
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    24,
)
CHANNEL = 25  # to 32: intensities squared where the response is
OUT = 33  # to 45: the metrics but the uptime, in the contract's order
ROWS = 46
_WORK, _KERNEL, _IOWAIT, _MEMORY, _DISK, _LOAD, _LINKS, _NETWORK = (CHANNEL + i for i in range(8))
assert CHANNELS == ("work", "kernel", "iowait", "memory", "disk", "load", "connections", "network")
(
    O_CPU,
    O_USER,
    O_SYSTEM,
    O_IOWAIT,
    O_MEMORY,
    O_SWAP,
    O_DISK,
    O_IO,
    O_RECEIVE,
    O_TRANSMIT,
    O_LINKS,
    O_LOAD,
    O_FAULTS,
) = (OUT + i for i in range(13))
assert (
    *("cpu_utilization", "cpu_user", "cpu_system", "cpu_iowait", "memory_used", "swap_used", "filesystem_used"),
    *("disk_io_time", "network_receive_bytes", "network_transmit_bytes", "tcp_close_wait", "load1_per_core"),
    *("major_page_faults", "uptime_seconds"),
) == METRIC_NAMES
_POLES = tuple(F(memory) for memory in MEMORIES)
_DRIVES = tuple(F(math.sqrt(1 - memory * memory)) for memory in MEMORIES)
_NOISE = int(Stream.NOISE)
_HEADROOM = F(NETWORK_CAPACITY)
_STEP = float(STEP_SECONDS)


@compiled_and_kept
def run_physics(
    seed: int, sample: int, first: int, steps: int, servers: Any, rows: Any, traits: Any, state: Any, courses: Any,
    common: Any, shock: Any, slot: Any, gains: Any, noise: Any, demand: Any, memory: Any, own: Any, followed: Any,
    own_gains: Any, followed_gains: Any, flags: Any, out: Any, uptime: Any,
) -> None:  # fmt: skip
    """Fill `out` [metric, server, time] float32 and `uptime` [server, time] float64 of the servers in `rows`.

    `courses` is [profile, time + padding], `noise` the fleet's scale of noise; the rest as `run_events` takes and
    fills it. `rows` picks rows of the cell; row i of the output is that of `rows[i]`.
    """
    words, x = np.empty(16 * B, np.uint32), np.zeros(ROWS * B, np.float32)
    padding = (courses.shape[1] - steps) // 2
    for at in range(len(rows)):
        row = rows[at]
        s, trait = state[row], traits[row]
        for offset in range(0, steps, B):
            n, stop = min(B, steps - offset), min(offset + B, steps)
            for call in range(4):
                fill_words(words, 4 * call, first + offset, n, servers[row], _NOISE + call, sample, seed)
            for pair in range(7):
                fill_normals(words, x, 2 * pair, n)
            begin = padding + offset + trait.phase
            _copy(x, COURSE, courses[trait.profile, begin : begin + n])
            _copy(x, COMMON, common[offset:stop])
            _copy(x, SHOCK, shock[offset:stop])
            _copy(x, FACTOR, demand[row, offset:stop])
            _copy(x, KEPT, memory[row, offset:stop])
            _backup(x, slot[offset:stop], trait)
            _channels(
                x, own[row, offset:stop], own_gains[row, offset:stop], followed[row, offset:stop],
                followed_gains[row, offset:stop], gains,
            )  # fmt: skip
            _noises(x, s, n)
            _demand(x, trait, noise, n)
            _activity(x, s, trait, flags[row, offset:stop], n)
            _memory_and_disk(x, trait, n)
            _pressure(x, s, n)
            _cpu(x, trait, n)
            _rest(x, trait, n)
            for metric in range(13):
                out[metric, at, offset:stop] = x[(OUT + metric) * B : (OUT + metric) * B + n]
            _count_uptime(uptime[at, offset:stop], flags[row, offset:stop], s)


@compiled
def _copy(x: Any, row: int, source: Any) -> None:
    x[row * B : row * B + len(source)] = source


@compiled
def _backup(x: Any, slot: Any, trait: Any) -> None:
    """The nightly backup's weight at each step."""
    target = x[BACKUP * B : BACKUP * B + len(slot)]
    weight, begins, lasts = trait.backup, trait.backup_slot, trait.backup_steps
    for i in range(len(slot)):
        since = np.int32(slot[i]) - begins
        since = since + STEPS_PER_DAY if since < 0 else since
        target[i] = weight if since < lasts else F(0)


@compiled
def _channels(x: Any, own: Any, own_gains: Any, followed: Any, followed_gains: Any, gains: Any) -> None:
    """Intensity of each channel: the stronger of the two episodes'."""
    n = len(own)
    troubled = False
    for i in range(n):
        troubled |= own[i] != F(0) or followed[i] != F(0)
    for channel in range(8):
        target = x[(CHANNEL + channel) * B : (CHANNEL + channel) * B + n]
        if not troubled:
            target[:] = F(0)
            continue
        for i in range(n):
            one, other = own[i] * gains[own_gains[i], channel], followed[i] * gains[followed_gains[i], channel]
            target[i] = max(one, other)


@compiled
def _noises(x: Any, s: Any, n: int) -> None:
    """AR(1) noises from the normal numbers, and bursts that fade."""
    y0, y1, y2, y3, y4 = s.slow, s.fast, s.system, s.iowait, s.memory_noise
    y5, y6, y7, y8, y9 = s.swap, s.receive, s.transmit, s.connections, s.load
    burst = s.burst
    for i in range(n):
        y0 = y0 * _POLES[0] + x[0 * B + i] * _DRIVES[0]
        y1 = y1 * _POLES[1] + x[1 * B + i] * _DRIVES[1]
        y2 = y2 * _POLES[2] + x[2 * B + i] * _DRIVES[2]
        y3 = y3 * _POLES[3] + x[3 * B + i] * _DRIVES[3]
        y4 = y4 * _POLES[4] + x[4 * B + i] * _DRIVES[4]
        y5 = y5 * _POLES[5] + x[5 * B + i] * _DRIVES[5]
        y6 = y6 * _POLES[6] + x[6 * B + i] * _DRIVES[6]
        y7 = y7 * _POLES[7] + x[7 * B + i] * _DRIVES[7]
        y8 = y8 * _POLES[8] + x[8 * B + i] * _DRIVES[8]
        y9 = y9 * _POLES[9] + x[9 * B + i] * _DRIVES[9]
        burst = burst * F(BURST_MEMORY) + max(x[BURST * B + i] - F(BURST_FROM), F(0)) * F(BURST_SIZE)
        x[0 * B + i], x[1 * B + i], x[2 * B + i], x[3 * B + i], x[4 * B + i] = y0, y1, y2, y3, y4
        x[5 * B + i], x[6 * B + i], x[7 * B + i], x[8 * B + i], x[9 * B + i] = y5, y6, y7, y8, y9
        x[BURST * B + i] = burst
    s.slow, s.fast, s.system, s.iowait, s.memory_noise = y0, y1, y2, y3, y4
    s.swap, s.receive, s.transmit, s.connections, s.load = y5, y6, y7, y8, y9
    s.burst = burst


@compiled
def _demand(x: Any, trait: Any, noise: Any, n: int) -> None:
    """Demand relative to a healthy mean hour of the profile."""
    level, shock = trait.level, trait.shock * noise
    slow, fast, common = F(SLOW_SPREAD) * trait.noise, F(FAST_SPREAD) * trait.noise, F(FLEET_SPREAD) * noise
    for i in range(n):
        exponent = slow * x[SLOW * B + i] + fast * x[FAST * B + i] + common * x[COMMON * B + i]
        sudden = (F(1) + noise * x[BURST * B + i]) * (F(1) + shock * x[SHOCK * B + i])
        x[DEMAND * B + i] = level * x[COURSE * B + i] * expf(exponent) * sudden * x[FACTOR * B + i]


@compiled
def _activity(x: Any, s: Any, trait: Any, flags: Any, n: int) -> None:
    """Demand of the last hour, and how far the filesystem has grown: it falls to the low mark at a clean-up."""
    if not s.begun:
        s.begun, s.activity = True, x[DEMAND * B]
    activity, grown, width, rate = s.activity, s.disk, np.float64(trait.disk_width), trait.disk_rate
    for i in range(n):
        activity = activity * F(0.92) + x[DEMAND * B + i] * F(0.08)
        grown += np.float64(rate * activity)
        if grown >= width:
            flags[i] |= CLEAN_UP
        if (flags[i] & CLEAN_UP) != 0:
            grown = 0.0
        x[ACTIVITY * B + i] = activity
        x[GROWN * B + i] = F(grown)
    s.activity, s.disk = activity, grown


@compiled
def _memory_and_disk(x: Any, trait: Any, n: int) -> None:
    normal, low, wobble = trait.memory, trait.disk_low, F(0.01) * trait.noise
    for i in range(n):
        course = normal + F(0.05) * (x[ACTIVITY * B + i] - F(1)) + wobble * x[MEMORY * B + i]
        course = limited(course, F(0.80), F(0.90)) * x[KEPT * B + i]
        course = course + x[_MEMORY * B + i] * (F(MEMORY_FULL) - course)
        used = min(max(course, F(0.02)), F(0.992))
        x[O_MEMORY * B + i] = used
        x[PRESSURE * B + i] = max(used - F(PRESSURE_FROM), F(0))
        free = F(DISK_FULL) - (low + x[GROWN * B + i])
        x[O_DISK * B + i] = F(DISK_FULL) - free * (F(1) - x[_DISK * B + i])  # never falls by rounding


@compiled
def _pressure(x: Any, s: Any, n: int) -> None:
    pressure = s.pressure
    for i in range(n):
        pressure = pressure * F(0.85) + x[PRESSURE * B + i] * F(0.15)
        x[USED * B + i] = pressure
    s.pressure = pressure


@compiled
def _cpu(x: Any, trait: Any, n: int) -> None:
    """CPU modes, load and disk time. user + system + iowait is the utilisation, and never above 1."""
    g, mean_user, mean_system, mean_iowait = trait.noise, trait.cpu_user, trait.cpu_system, trait.cpu_iowait
    knee, ceiling = F(0.6) * trait.iowait_critical, F(0.8) * trait.iowait_critical
    per_load, depth = trait.load / (mean_user + mean_system + mean_iowait), trait.disk_depth
    for i in range(n):
        demand, backup = x[DEMAND * B + i], x[BACKUP * B + i]
        user = mean_user * demand
        system = mean_system * demand * expf(F(0.06) * g * x[SYSTEM * B + i]) * (F(1) + F(0.3) * backup)
        iowait = mean_iowait * demand * expf(F(0.25) * g * x[WAIT * B + i]) * (F(1) + F(1.2) * backup)
        iowait = limited(iowait, knee, ceiling)
        wanted = user + system + iowait
        admitted = limited(wanted, F(0.70), F(0.89)) / wanted
        user, system, iowait = user * admitted, system * admitted, iowait * admitted
        normal_work, normal_iowait = user + system, iowait
        work, kernel, waiting = x[_WORK * B + i], x[_KERNEL * B + i], x[_IOWAIT * B + i]
        waiting = waiting * waiting
        user = user + work * work * (F(WORK_EXTREME) - user - system)
        system = system + kernel * kernel * (F(WORK_EXTREME) - user - system)
        iowait = iowait + waiting * (F(IOWAIT_EXTREME) - iowait)
        iowait = iowait + F(1.2) * max(x[O_MEMORY * B + i] - F(0.92), F(0))
        jitter = expf(F(0.08) * g * x[LOAD * B + i])
        load = limited(per_load * wanted * jitter, F(1.6), F(2.4))
        load = load + (F(4) * (user + system - normal_work) + F(8) * (iowait - normal_iowait)) * jitter
        queue = x[_LOAD * B + i]
        x[O_LOAD * B + i] = load + queue * queue * max(F(LOAD_EXTREME) - load, F(0))
        running = F(1) - F(0.4) * waiting
        user, system = user * running, system * running
        total = user + system + iowait
        squeezed = limited(total, F(0.90), F(0.995)) / total
        user, system, iowait = user * squeezed, system * squeezed, iowait * squeezed
        x[O_USER * B + i], x[O_SYSTEM * B + i], x[O_IOWAIT * B + i] = user, system, iowait
        x[O_CPU * B + i] = user + system + iowait
        busy = depth * iowait * expf(F(0.08) * g * x[DISK * B + i])
        x[O_IO * B + i] = F(1) - expf(-busy)


@compiled
def _rest(x: Any, trait: Any, n: int) -> None:
    """Swap, page faults, network and connections."""
    g, swap, receive, transmit, waits = trait.noise, trait.swap, trait.receive, trait.transmit, trait.close_wait
    for i in range(n):
        demand, flood = x[DEMAND * B + i], x[_NETWORK * B + i]
        usual = swap * expf(F(0.2) * g * x[SWAP * B + i])
        x[O_SWAP * B + i] = min(usual + x[USED * B + i] * F(4.5), F(0.98))
        pressure = x[PRESSURE * B + i]
        x[O_FAULTS * B + i] = (F(0.8) * demand + F(2.5e4) * pressure * pressure) * expf(F(0.3) * g * x[FAULTS * B + i])
        received = receive * demand * expf(F(0.12) * g * x[RECEIVE * B + i])
        sent = transmit * demand * expf(F(0.12) * g * x[TRANSMIT * B + i]) * (F(1) + F(0.8) * x[BACKUP * B + i])
        received = limited(received, F(0.7 * NETWORK_CAPACITY), F(0.85 * NETWORK_CAPACITY))
        sent = limited(sent, F(0.7 * NETWORK_CAPACITY), F(0.85 * NETWORK_CAPACITY))
        x[O_RECEIVE * B + i] = received + flood * (_HEADROOM - received)
        x[O_TRANSMIT * B + i] = sent + flood * (_HEADROOM - sent)
        links = limited(waits * demand * expf(F(0.25) * g * x[CONNECTIONS * B + i]), F(60), F(110))
        links = links + x[_LINKS * B + i] * F(CLOSE_WAIT_EXTREME)
        x[O_LINKS * B + i] = (links + F(8388608.0)) - F(8388608.0)  # the nearest whole number


@compiled
def _count_uptime(uptime: Any, flags: Any, s: Any) -> None:
    """Seconds since the last boot; a boot happens half a step before the first sample after it."""
    seconds = s.uptime
    for i in range(len(uptime)):
        seconds = _STEP / 2 if (flags[i] & BOOT) != 0 else seconds + _STEP
        uptime[i] = seconds
    s.uptime = seconds
