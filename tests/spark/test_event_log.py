# SPDX-License-Identifier: Apache-2.0
"""What ran is counted from Spark's own events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.spark import session
from suite.spark.event_log import Engaged, count_engaged, covered_length, most_at_once


def task(launch, run, *, executor="driver", finish=None, failed=False, metrics=True, unpack=0):
    parts = {"Executor Deserialize Time": unpack, "Executor Run Time": run - unpack, "Result Serialization Time": 0}
    info = {"Launch Time": launch, "Finish Time": finish or launch + run, "Executor ID": executor}
    info |= {"Failed": failed, "Killed": False}
    return {"Event": "SparkListenerTaskEnd", "Task Info": info, **({"Task Metrics": parts} if metrics else {})}


def test_counts_and_seconds():
    events = [
        {"Event": "SparkListenerJobStart", "Job ID": 7, "Submission Time": 0},
        {"Event": "SparkListenerJobStart", "Job ID": 8, "Submission Time": 400},
        {"Event": "SparkListenerJobEnd", "Job ID": 7, "Completion Time": 500},
        task(0, 1000, executor="1", unpack=150),
        task(500, 1000, executor="2"),
        task(1000, 500, executor="1", failed=True, metrics=False),
        {"Event": "SparkListenerStageCompleted"},
        {"Event": "SparkListenerExecutorAdded"},
    ]
    assert count_engaged(events) == Engaged(
        slots=2,
        executors=2,
        tasks=3,
        jobs=2,
        jobs_at_once=1,
        stages=1,
        task_seconds=2.5,
        longest_task=1.0,
        failed_tasks=1,
        shipping_seconds=0.15,
        covered_seconds=1.5,
    )


def test_bytes_that_passed_are_added_up_over_tasks():
    def accumulated(**amounts):
        return [{"Name": name.replace("_", " "), "Update": str(amount)} for name, amount in amounts.items()]

    sent, returned = task(0, 100), task(100, 100)
    sent["Task Info"]["Accumulables"] = accumulated(data_sent_to_Python_workers=1000, number_of_output_rows=7)
    returned["Task Info"]["Accumulables"] = [
        *accumulated(data_sent_to_Python_workers=24, data_returned_from_Python_workers=30),
        {"Name": "data returned from Python workers", "Value": "9000"},  # what all tasks so far have added
    ]
    returned["Task Metrics"]["Shuffle Write Metrics"] = {"Shuffle Bytes Written": 50}
    ran = count_engaged([sent, returned])
    assert (ran.to_python, ran.from_python, ran.shuffled) == (1024, 30, 50)


def test_the_length_of_fits_is_read_from_the_descriptions_of_their_jobs():
    def job(number, begin, end, description):
        properties = {"spark.job.description": description} if description else {}
        yield {
            "Event": "SparkListenerJobStart",
            "Job ID": number,
            "Submission Time": begin,
            "Properties": properties,
        }
        yield {"Event": "SparkListenerJobEnd", "Job ID": number, "Completion Time": end}

    events = [
        *job(0, 0, 90, None),
        *job(1, 100, 200, "nightly: fold 0, candidate 1"),
        *job(2, 250, 400, "nightly: fold 0, candidate 1"),
        *job(3, 400, 650, "fold 11, candidate 0"),
        *job(4, 700, 900, "refit"),
    ]
    ran = count_engaged(events)
    assert ran.fits == [(0, 1, 0.3), (11, 0, 0.25)]
    assert ran.refit_seconds == 0.2
    assert ran.jobs == 5
    assert ran.jobs_at_once == 1


def test_a_result_that_the_driver_handles_late_does_not_look_like_a_second_slot():
    # One slot: the second task starts when the first is through, which the driver notes 40 ms later.
    events = [task(0, 100, finish=140), task(100, 100, finish=205)]
    assert count_engaged(events).slots == 1


def test_tasks_of_an_earlier_call_count_for_their_time_in_the_last():
    # Between the seconds 2 and 4: one task and its job that began before, one that goes on, one from after the end.
    ended = {"Event": "SparkListenerJobEnd", "Job ID": 0, "Completion Time": 4100}
    events = [task(1000, 2500), task(2500, 5000), task(4200, 100), ended]
    ran = count_engaged(events, 2.0, 4.0)
    assert (ran.slots, ran.tasks, ran.jobs) == (2, 3, 1)
    assert (ran.task_seconds, ran.longest_task, ran.covered_seconds) == (3.0, 1.5, 2.0)


def test_a_task_of_an_earlier_call_ends_when_the_driver_says_so():
    # Taken up 300 ms after its launch, so it held its slot until 2.2 s, though launch and run time add up to 1.9.
    assert count_engaged([task(1000, 900, finish=2200)], 2.0, 2.1).slots == 1


def test_a_task_of_an_earlier_call_ends_where_its_executor_gets_another():
    # The driver has handled the results of the two at 2.3 s; their slots were free at 1.95 and taken again at 2.1.
    before = [task(1000, 900, finish=2300, executor=name) for name in "01"]
    ran = count_engaged([*before, *(task(2100, 500, executor=name) for name in "01")], 2.0, 3.0)
    assert (ran.slots, ran.tasks) == (2, 4)


def test_nothing_ran():
    assert count_engaged([]).slots == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=20))
def test_most_at_once_is_the_fullest_moment(spans):
    spans = [(start, start + length) for start, length in spans]
    fullest = max((sum(start <= moment < end for start, end in spans) for moment in range(41)), default=0)
    assert most_at_once(spans) == fullest


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=20))
def test_covered_counts_each_moment_once(spans):
    spans = [(start, start + length) for start, length in spans]
    assert covered_length(spans) == len({moment for start, end in spans for moment in range(start, end)})


@pytest.mark.parametrize(
    ("master", "local"), [("local", True), ("local[4]", True), ("local[*]", True), ("spark://host:7077", False)]
)
def test_local_listens_on_loopback_alone_and_a_cluster_gets_a_limit(master, local, tmp_path):
    conf = session.spark_conf(master, 3, tmp_path, {"spark.x": "y"})
    assert session.is_local(master) is local
    assert conf["spark.x"] == "y"
    assert conf["spark.ui.enabled"] == "false"
    if local:
        assert (conf["spark.master"], conf["spark.driver.bindAddress"]) == ("local[3]", "127.0.0.1")
    else:
        assert (conf["spark.master"], conf["spark.cores.max"]) == (master, "3")


@pytest.mark.parametrize("master", ["yarn", "k8s://https://host:6443"])
def test_masters_that_do_not_know_cores_max_are_asked_for_executors(master, tmp_path):
    conf = session.spark_conf(master, 8, tmp_path, {"spark.executor.cores": "4"})
    asked = {name: conf.get(name) for name in ("spark.executor.instances", "spark.executor.cores", "spark.cores.max")}
    assert asked == {"spark.executor.instances": "2", "spark.executor.cores": "4", "spark.cores.max": None}
    assert conf["spark.dynamicAllocation.enabled"] == "false"
    assert session.spark_conf(master, 3, tmp_path, {})["spark.executor.instances"] == "3"
