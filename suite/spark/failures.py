# SPDX-License-Identifier: Apache-2.0
"""Says what went wrong on a cluster, from Spark's events and its long messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# What Spark says, and what it means to people. The first that fits wins.
MEANINGS = (
    (r"OutOfMemoryError|exit code 52\b|code 52\b", "an executor ran out of memory (its heap)"),
    (r"No space left on device", "the disk of Spark's local folders is full on a worker; here see TMPDIR"),
    (r"File too large", "Spark's local folders are full on a worker (FOLDOUT_LOCAL_DISK gives more)"),
    (r"exited with code 137|exit code 137|code 137\b", "a worker's process was killed, often for lack of memory"),
    (r"Python worker exited unexpectedly", "a Python worker was killed, often for lack of memory"),
    (r"heartbeat|heart beat", "an executor fell silent"),
    (r"Master removed our application|All masters are unresponsive", "the master is gone or refused the application"),
)


def disturbance(events: Iterable[Mapping[str, Any]]) -> str | None:
    """Say what disturbed the stretch of time that the events are from; None where nothing did.

    An answer from that time is right, since Spark computes again what was lost. A time from it is worth nothing.

    Parameters
    ----------
    events : iterable of mapping
        Parsed lines of Spark's event log.
    """
    for event in events:
        kind = event["Event"]
        if kind == "SparkListenerExecutorRemoved":
            return _lost(event["Executor ID"], event.get("Removed Reason"))
        if kind == "SparkListenerTaskEnd":
            why = event.get("Task End Reason", {})
            # Which of the two events Spark writes first is a matter of chance.
            if why.get("Reason") == "ExecutorLostFailure":
                return _lost(why.get("Executor ID", "?"), why.get("Loss Reason"))
            if why.get("Reason") == "FetchFailed":
                return "a task could not fetch what another had written (FetchFailed)"
    return None


def _lost(executor: str, reason: str | None) -> str:
    said = " ".join((reason or "").split())
    return f"executor {executor} was lost: {meaning(said) or said[:150] or 'no reason given'}"


def meaning(text: str) -> str | None:
    """Say what a message of Spark's means; None where `MEANINGS` does not have it."""
    return next((plain for pattern, plain in MEANINGS if re.search(pattern, text)), None)


# Of what Java and Spark's launcher write before they give up, what a user can do something about, in order of rank; and
# what only says that they do.
TELLING = (
    r"Unrecognized|Unsupported|Invalid|UnsatisfiedLink|Permission denied|No space left|UnknownHost|OutOfMemory|"
    r"Could not reserve|Not enough space|insufficient memory|Too many open files",
    r"Error|Exception|cannot |not found|No such",
)
EMPTY_WORDS = re.compile(r"Could not create the Java Virtual Machine|A fatal exception has occurred|GATEWAY_EXITED")


def why_no_java(text: str) -> str:
    """Find the line that says why a JVM did not start, in what it has written.

    Parameters
    ----------
    text : str
        The log of the process that started it, from there on.
    """
    # Java says on a line of its own what went wrong at that point.
    text = text.replace("initialization of VM\n", "initialization of VM: ")
    lines = [line.strip() for line in text.splitlines() if not EMPTY_WORDS.search(line)]
    found = (line for pattern in TELLING for line in lines if re.search(pattern, line))
    return next(found, "it ended without a word")[:200]


def cause(error: BaseException) -> str | None:
    """Say in one line why a Spark job failed, from the stack traces in its exception; None where they do not tell.

    Parameters
    ----------
    error : BaseException
        As raised by an action on a Spark cluster.
    """
    text = str(error)
    failed = re.search(r"Job aborted due to stage failure: (.*)", text) or re.search(r"Job \d+ cancelled.*", text)
    stopped = re.search(r"Job \d+ cancelled because SparkContext was shut down|stopped SparkContext", text)
    if failed is None and stopped is None:
        return None
    told = meaning(text)
    if told is None:
        # The last line of the innermost Python trace is what the recipe's own code raised.
        raised = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*", text, re.MULTILINE)
        own = [line for line in raised if not line.startswith(("org.apache.spark", "py4j", "java.lang.RuntimeEx"))]
        told = own[0].strip() if own else "Spark's session was stopped" if stopped else failed[1] if failed else None
    return None if told is None else f"a Spark job failed: {told}"[:300]
