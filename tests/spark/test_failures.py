# SPDX-License-Identifier: Apache-2.0
"""Why a JVM did not start is found in what it wrote."""

import pytest

from suite.spark.failures import why_no_java

END = "Error: Could not create the Java Virtual Machine.\nError: A fatal exception has occurred. Program will exit.\n"
AT_START = "Error occurred during initialization of VM"
PYTHONS = "PySparkRuntimeError: [JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.\n"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (f"Invalid maximum heap size: -Xmxjunk\n{END}{PYTHONS}", "Invalid maximum heap size: -Xmxjunk"),
        (f"Picked up X\nUnrecognized VM option 'NoSuch'\n{END}", "Unrecognized VM option 'NoSuch'"),
        (
            "spark-class: line 71: /t/java: Permission denied\nspark-class: line 97: CMD: bad array subscript\n",
            "spark-class: line 71: /t/java: Permission denied",
        ),
        (
            'Exception in thread "main" java.lang.IllegalArgumentException: no\n\tat x.y\nCaused by: '
            "java.net.UnknownHostException: box\n",
            "Caused by: java.net.UnknownHostException: box",
        ),
        (
            f"{AT_START}\nCould not reserve enough space for 8388608KB object heap\n{END}",
            f"{AT_START}: Could not reserve enough space for 8388608KB object heap",
        ),
        (
            f"{AT_START}\nInitial heap size set to a larger value than the maximum\n{END}",
            f"{AT_START}: Initial heap size set to a larger value than the maximum",
        ),
        (
            "#\n# There is insufficient memory for the Java Runtime Environment to continue.\n# An error report file\n",
            "# There is insufficient memory for the Java Runtime Environment to continue.",
        ),
        (
            "OpenJDK 64-Bit Server VM warning: INFO: os::commit_memory failed; error='Not enough space' (errno=12)\n",
            "OpenJDK 64-Bit Server VM warning: INFO: os::commit_memory failed; error='Not enough space' (errno=12)",
        ),
        (PYTHONS, "it ended without a word"),
        ("", "it ended without a word"),
    ],
)
def test_the_line_that_tells_most_is_found(written, why):
    assert why_no_java(written) == why
