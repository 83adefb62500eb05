# SPDX-License-Identifier: Apache-2.0
"""Whether a cell did side by side what it says it does, from what Spark's event log shows of its timed calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Driver threads whose tasks fill less than this share of the time may never meet on two slots, though nothing keeps
# them apart.
SHORT = 0.5


def why_not_parallel(needs: int, session: int, ran: Mapping[str, Any], seconds: float, *, threads: bool) -> str | None:
    """Why a cell's time does not count, or None where the log shows as many slots as it needs.

    There is no way around it: what was not seen to run side by side has no time and no speedup, also where its tasks
    are too short to be seen together.

    Parameters
    ----------
    needs : int
        Tasks that have to run at once: those of slots, or the jobs of driver threads.
    session : int
        Slots that the session should have.
    ran : mapping
        The fields of `spark.event_log.Engaged`.
    seconds : float
        That the call took.
    threads : bool
        Whether driver threads are what is parallel.
    """
    slots, jobs = ran["slots"], ran.get("jobs_at_once", needs)
    if slots > session:
        return f"{slots} slots were busy at once in a session of {session}"
    if needs and not ran.get("jobs", jobs):
        return (
            "it ran no Spark job, and has a session because it takes `spark`, or make_data does: where make_data gives "
            "that a default, what does not take it runs without"
        )
    if threads and jobs < needs:
        return f"only {jobs} of the {needs} jobs that it needs were in flight at once"
    if slots >= needs:
        return None
    idle = f"only {slots} of the {needs} slots that it needs were busy at once"
    if threads and ran.get("task_seconds", 0.0) < SHORT * seconds:
        return f"not shown to be parallel: {idle}, by tasks that filled less than half of the time"
    return idle
