# SPDX-License-Identifier: Apache-2.0
"""The suite tells in a few words what Spark says when things go wrong."""

import pytest

from suite.spark.failures import cause, disturbance, meaning

SOUND = [
    {"Event": "SparkListenerJobStart"},
    {"Event": "SparkListenerExecutorAdded", "Executor ID": "0"},
    {"Event": "SparkListenerTaskEnd", "Task End Reason": {"Reason": "Success"}},
    {"Event": "SparkListenerTaskEnd", "Task End Reason": {"Reason": "ExceptionFailure"}},
]


def removed(reason):
    return {"Event": "SparkListenerExecutorRemoved", "Executor ID": "1", "Removed Reason": reason}


def task_end(reason, **more):
    return {"Event": "SparkListenerTaskEnd", "Task End Reason": {"Reason": reason, **more}}


LOST = {"Executor ID": "1", "Exit Caused By App": True, "Loss Reason": "Command exited with code 137"}


def test_a_sound_stretch_is_not_disturbed():
    assert disturbance(SOUND) is None
    assert disturbance([]) is None


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (removed("Command exited with code 137"), "executor 1 was lost: a worker's process was killed"),
        (removed("Executor heartbeat timed out after 61234 ms"), "executor 1 was lost: an executor fell silent"),
        (removed("worker\n lost:\tgone"), "executor 1 was lost: worker lost: gone"),
        (removed(""), "executor 1 was lost: no reason given"),
        (task_end("ExecutorLostFailure", **LOST), "executor 1 was lost: a worker's process was killed"),
        (task_end("FetchFailed"), "a task could not fetch what another had written"),
    ],
)
def test_what_disturbed_is_told(event, said):
    assert disturbance([*SOUND, event, *SOUND]).startswith(said)


FAILED = """An error occurred while calling o42.collect.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 4 times, most recent \
failure: Lost task 0.3 in stage 1.0 (TID 7) (10.0.0.3 executor 1): {reason}
Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2898)
"""
PYTHON = """org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 1, in main
ZeroDivisionError: division by zero
"""


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("java.lang.OutOfMemoryError: Java heap space", "an executor ran out of memory (its heap)"),
        (
            "ExecutorLostFailure (executor 3 exited) Reason: Command exited with code 52",
            "an executor ran out of memory",
        ),
        (
            "java.io.IOException: No space left on device",
            "the disk of Spark's local folders is full on a worker; here see TMPDIR",
        ),
        ("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)", "a Python worker was killed"),
        (PYTHON, "ZeroDivisionError: division by zero"),
        ("something new", "Task 0 in stage 1.0 failed 4 times"),
    ],
)
def test_the_cause_of_a_failed_job_is_told_in_one_line(reason, told):
    text = cause(RuntimeError(FAILED.format(reason=reason)))
    assert text.startswith("a Spark job failed: ")
    assert told in text
    assert "\n" not in text
    assert len(text) <= 300


def test_a_session_that_was_stopped():
    error = RuntimeError("Job 3 cancelled because SparkContext was shut down\n\tat x")
    assert cause(error) == "a Spark job failed: Spark's session was stopped"


def test_other_errors_speak_for_themselves():
    assert cause(ValueError("folds must be at least 2")) is None
    assert meaning("all is well") is None
