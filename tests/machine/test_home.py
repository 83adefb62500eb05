# SPDX-License-Identifier: Apache-2.0
"""Where a user's files are kept, also where there is no home."""

import os
import pwd
from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.machine import home as module
from suite.machine.home import cache_folder, home, home_problem


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def nobody(_):
    raise KeyError


def test_a_home_that_can_be_written_is_taken(temporary, monkeypatch):
    monkeypatch.setenv("HOME", str(temporary))
    assert (home(), home_problem()) == (temporary, None)
    assert cache_folder() == temporary / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "a/relative/one")  # which is to be ignored, as XDG says
    assert cache_folder() == temporary / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


@pytest.mark.parametrize(("value", "problem"), [(None, "there is none"), ("/no/such", "/no/such is not there")])
def test_without_a_home_a_folder_of_the_users_own_takes_its_place(value, problem, temporary, monkeypatch):
    if value:
        monkeypatch.setenv("HOME", value)
    else:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert home_problem() == problem
    found = home()
    assert found.parent == temporary
    assert found.stat().st_mode & 0o777 == 0o700
    assert home() == found


def test_a_home_that_cannot_be_written_is_said_so(temporary, monkeypatch):
    monkeypatch.setenv("HOME", str(temporary))
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    assert home_problem() == f"{temporary} cannot be written"
    assert home() != temporary


def test_what_another_user_has_put_there_is_not_taken(temporary, monkeypatch):
    monkeypatch.setenv("HOME", "/no/such")
    (temporary / f"foldout-home-{os.getuid()}").symlink_to(temporary)
    with pytest.raises(UsageError, match="belongs to another user"):
        home()
