# SPDX-License-Identifier: Apache-2.0
"""Child processes read names of files as UTF-8, whatever the user's locale."""

import locale

import pytest

from suite.machine.locales import CANDIDATES, is_utf8, utf8_locale
from suite.machine.processes import child_environment

UTF8 = next(name for name in CANDIDATES if is_utf8(name))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "LANG": UTF8},
        {"LC_ALL": "xx_YY.UTF-8"},  # not installed: Java takes it for C
        {"LC_CTYPE": "C", "LANG": UTF8},
        {"LANG": "C", "LC_ALL": ""},
    ],
)
def test_where_no_locale_of_utf8_is_named_one_is_set(variables):
    before = locale.setlocale(locale.LC_CTYPE)
    assert utf8_locale(variables) == {"LC_ALL": UTF8}
    assert locale.setlocale(locale.LC_CTYPE) == before


@pytest.mark.parametrize("variables", [{"LC_ALL": UTF8}, {"LANG": UTF8}, {"LC_CTYPE": UTF8, "LANG": "C"}])
def test_a_locale_of_utf8_stays(variables):
    assert utf8_locale(variables) == {}


def test_children_get_it(monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.setenv(name, "C")
    assert child_environment()["LC_ALL"] == UTF8
