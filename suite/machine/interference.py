# SPDX-License-Identifier: Apache-2.0
"""Who else used this machine while a cell ran: other programs, and other guests of its hypervisor."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from suite.machine.processes import family

OTHERS_LIMIT = 0.10  # share of the machine that other programs may take before the reader is told
STEAL_LIMIT = 0.05  # share of the wanted time that went to other guests, likewise
LEAST_SECONDS = 0.2  # of a core: below it the clocks, which tick in hundredths, tell nothing

QUIET = 0.15  # share of the machine that may be busy where nothing is going on
SETTLE_LOOKS = 10  # looks of a third of a second

OTHERS = "other programs used more than a tenth of the machine"
STOLEN = "other guests of this machine's hardware took more than 5 % of the time that was wanted"


@dataclass(frozen=True)
class Clocks:
    """Readings of the machine's clocks, in seconds.

    Attributes
    ----------
    at : float
        Wall time.
    busy : float
        Time that any program used, of all cores.
    own : float
        Time that this process and all that descend from it used, of all cores.
    stolen : float
        Time that the hypervisor gave to other guests; 0 where it does not say.
    """

    at: float
    busy: float
    own: float
    stolen: float


def read_clocks() -> Clocks:
    """Read the clocks."""
    times = psutil.cpu_times()
    parts = ("user", "nice", "system", "irq", "softirq")
    busy = sum(getattr(times, part, 0.0) for part in parts)
    own = 0.0
    for process in family():
        try:
            # With the ended children that each has waited for.
            own += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return Clocks(time.monotonic(), busy, own, getattr(times, "steal", 0.0))


def settle() -> None:
    """Wait until the machine is quiet, for three seconds at most: a JVM's compilers go on when a call is over."""
    for _ in range(SETTLE_LOOKS):
        if psutil.cpu_percent(interval=0.3) <= 100 * QUIET:
            return


def interference_warnings(spans: Iterable[tuple[Clocks, Clocks]], cores: int) -> list[str]:
    """Say who else used the machine in some stretches of time together, each between two readings.

    Parameters
    ----------
    spans : iterable of (Clocks, Clocks)
        Before and after.
    cores : int
        Of the machine.
    """
    seconds = busy = own = stolen = 0.0
    for before, after in spans:
        seconds += after.at - before.at
        busy += after.busy - before.busy
        own += after.own - before.own
        stolen += after.stolen - before.stolen
    said = []
    if busy - own > max(LEAST_SECONDS, OTHERS_LIMIT * cores * seconds):
        said.append(OTHERS)
    if stolen > max(LEAST_SECONDS, STEAL_LIMIT * (busy + stolen)):
        said.append(STOLEN)
    return said
