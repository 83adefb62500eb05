# SPDX-License-Identifier: Apache-2.0
"""`compare` from outside: two revisions of a user's recipes, in processes of their own."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from suite.cli import main
from suite.cluster.connect import existing_cluster
from suite.errors import UsageError
from suite.gate import command
from suite.gate import comparison as comparison_module
from suite.gate import sides as sides_module
from suite.gate.comparison import Comparison, make_plans
from suite.gate.sides import SIDES, Side, check_out, make_interpreter
from suite.gate.sign_flip import Look
from suite.machine import environment
from suite.machine.environment import ROOT, GitError
from suite.machine.signals import InterruptError
from suite.plan.cells import GATE_CALLS, Request
from suite.run.turns import take_turns
from suite.spark.java import find_java

RECIPE = (Path(__file__).resolve().parents[1] / "recipes" / "gated.py").read_text()
TOTAL = "def total(numbers: list[int]) -> int:\n    return sum(numbers)\n"


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """A repository with one recipe, committed."""
    monkeypatch.setattr(command, "SCREEN", (Look(1, 0, 0),))
    folder = tmp_path / "project" / "recipes"
    folder.mkdir(parents=True)
    (folder / "gated.py").write_text(RECIPE)
    git(folder.parent, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def run(recipes, out, *words):
    code = main(["compare", *words, "--scenarios", str(recipes), "--out", str(out)])
    verdict = json.loads((out / "verdict.json").read_text())
    assert code == verdict["exit_code"]
    return verdict


def test_a_changed_answer_between_two_revisions(recipes, tmp_path, monkeypatch, capsys):
    # There a file of head has the name of one of base; a `.` on the path of who runs the tests would lead to it.
    monkeypatch.chdir(recipes)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (recipes / "gated.py").write_text(RECIPE.replace("return sum(numbers)", "return sum(numbers) + 1"))
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert verdict["verdict"] == "regression"
    (finding,) = verdict["findings"]
    assert finding["name"] == "gated.many"
    # The sizes differ from those of the recipe's other user: `gate` is missing, so it is `ci`.
    assert finding["text"] == "its answer changed: AssertionError: total is 191, not 190"
    assert verdict["sides"]["base"]["revision"] == git(recipes, "rev-parse", "main")
    assert verdict["sides"]["head"]["revision"] == "."
    said = capsys.readouterr().out
    assert "REGRESSION: gated.many its answer changed" in said
    shown = (tmp_path / "out" / "compare.md").read_text()
    assert "### ❌ Regression" in shown
    assert "| gated.many |" in shown


def test_a_changed_size_is_no_change_of_the_job(recipes, tmp_path):
    (recipes / "gated.py").write_text(RECIPE.replace('"rows": 20', '"rows": 30'))
    (recipes / "new.py").write_text(RECIPE)
    verdict = run(recipes, tmp_path / "out", "main", ".")
    # One block gives no interval, so there is no pass; but there is nothing else to say against it.
    assert verdict["verdict"] == "inconclusive"
    assert [(one["kind"], one["name"]) for one in verdict["findings"]] == [("note", "new.many")]
    assert list(verdict["screened"]) == ["gated.many"]
    for side in ("base", "head"):
        (record,) = [
            json.loads(line)
            for line in (tmp_path / "out" / "screen" / "1-1" / side / "records.jsonl").read_text().splitlines()
            if '"gated"' in line
        ]
        assert record["factors"]["rows"] == 30
        assert record["status"] == "ok"


def test_what_is_not_decided_gets_more_blocks(recipes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "SCREEN", (Look(1, 0, 0), Look(2, 0, 0)))
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert sorted(folder.name for folder in (tmp_path / "out" / "screen").iterdir()) == ["1-1", "2-2"]
    assert verdict["screened"]["gated.many"]["blocks"] == 2
    for what in ("times", "cpu_seconds"):
        assert {side: len(values) for side, values in verdict[what]["gated.many"].items()} == {"base": 2, "head": 2}
    assert len(verdict["order"]["screen"]) == 2
    said = capsys.readouterr().out
    assert "not decided after 1 blocks: gated.many" in said
    assert "screen block 2/2" in said


def test_a_recipe_that_broke_and_one_that_went(recipes, tmp_path):
    (recipes / "other.py").write_text(RECIPE)
    git(recipes, "add", ".")
    git(recipes, "commit", "-qm", "second")
    (recipes / "gated.py").write_text("import no_such_package\n" + RECIPE)
    (recipes / "third.py").write_text(RECIPE)
    (recipes / "other.py").unlink()
    verdict = run(recipes, tmp_path / "out", "main", ".")
    found = {(one["kind"], one["name"]) for one in verdict["findings"]}
    assert found == {("regression", "gated"), ("unclear", "other.many"), ("note", "third.many")}
    assert verdict["exit_code"] == 3


def test_a_recipe_that_is_no_longer_under_test_is_not_passed_over(recipes, tmp_path):
    (recipes / "other.py").write_text(RECIPE)
    git(recipes, "add", ".")
    git(recipes, "commit", "-qm", "second")
    (recipes / "gated.py").write_text(RECIPE + "\nGATED = ()\n")
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert [(one["kind"], one["name"]) for one in verdict["findings"]] == [("unclear", "gated.many")]
    assert verdict["exit_code"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "."], "'nowhere' is not a revision of"),
        ([".", ".", "--base-lock", "no.txt"], "there is no lock no.txt"),
        ([".", ".", "--head-conf", "cores=3"], "'cores=3' is not a setting such as spark."),
        (
            [".", ".", "--master", "standalone", "--head-conf", "spark.executor.memory=4g"],
            "spark.executor.memory is what the workers of the cluster have",
        ),
        ([".", ".", "--master", "compose"], "compare does not run in containers"),
        ([".", ".", "--data", "nowhere"], "--data nowhere: there is no such folder"),
        ([".", ".", "unheard_of"], "no scenario 'unheard_of' on either side"),
    ],
)
def test_wrong_usage_is_one_line(recipes, tmp_path, capsys, words, said):
    assert main(["compare", *words, "--scenarios", str(recipes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert not (tmp_path / "out").exists()


def test_recipes_that_a_pull_request_brings_with_their_folder_are_new(recipes, tmp_path, capsys):
    """It is not told that the base has no such folder, but that there is nothing to compare."""
    folder = recipes.parent / "others"
    folder.mkdir()
    (folder / "gated.py").write_text(RECIPE)
    code = main(["compare", "main", ".", "--scenarios", str(folder), "--out", str(tmp_path / "out")])
    said = "".join(capsys.readouterr())
    assert code in (2, 4), said
    assert "nothing to compare" in said or "is new" in said, said


def test_a_branch_that_only_the_remote_has_is_named(recipes, tmp_path, capsys):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(recipes.parent), str(clone))
    git(clone, "checkout", "-q", "-b", "feature")
    git(clone, "branch", "-q", "-D", "main")
    for revision, said in (("main", "there is origin/main: give that"), ("other", "fetch --unshallow origin` may")):
        assert (
            main(["compare", revision, ".", "--scenarios", str(clone / "recipes"), "--out", str(tmp_path / "o")]) == 2
        )
        assert said in capsys.readouterr().err


def test_where_no_recipe_can_be_used_the_reasons_are_told(recipes, tmp_path, capsys):
    (recipes / "gated.py").write_text(f"{RECIPE}\nimport no_such_package\n")
    words = ["--scenarios", str(recipes), "--out", str(tmp_path / "out")]
    assert main(["compare", "main", ".", "gated", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: there is nothing to compare: gated.py: it does not import: ModuleNotFoundError")


def test_files_that_are_written_to_meanwhile_give_no_verdict(recipes, tmp_path, capsys):
    """As by whoever goes on working: later blocks would be of other code."""
    label = '    """Many at once"""\n'
    written = RECIPE.replace(label, f'{label}    __import__("pathlib").Path(__file__).touch()\n')
    (recipes / "gated.py").write_text(written)
    words = ["--scenarios", str(recipes), "--out", str(tmp_path / "out")]
    assert main(["compare", "main", ".", *words]) == 2
    assert f"error: {recipes / 'gated.py'} was changed while it was compared" in capsys.readouterr().err
    assert not (tmp_path / "out" / "verdict.json").exists()


OTHER = (
    '\n\nREQUIRES = {"other": "no_such_package"}\n\n\ndef run_other(data, *, parallelism):\n    return {"total": 1}\n'
)


def test_recipes_with_data_of_the_users_and_a_variant_that_cannot_run_here(recipes, tmp_path, capsys):
    wants = RECIPE.replace("def make_data(*, rows)", "def make_data(*, data_folder, rows)")
    (recipes / "gated.py").write_text(wants.replace("range(rows)", 'range(len(list(data_folder.glob("*"))))') + OTHER)
    git(recipes, "commit", "-qam", "data")
    (tmp_path / "data" / "one").mkdir(parents=True)
    verdict = run(recipes, tmp_path / "out", "main", ".", "--data", str(tmp_path / "data"))
    assert [(one["kind"], one["name"]) for one in verdict["findings"]] == [("note", "gated.other")]
    assert list(verdict["screened"]) == ["gated.many"]
    capsys.readouterr()
    assert main(["compare", "main", ".", "--scenarios", str(recipes), "--out", str(tmp_path / "none")]) == 2
    assert (
        "there is nothing to compare: gated.many: it needs a folder of data: give it by --data DIR; gated.other"
        in capsys.readouterr().err
    )


def test_a_package_that_head_alone_needs_and_lacks_is_no_note(recipes, tmp_path):
    (recipes / "gated.py").write_text(RECIPE + OTHER.replace("other", "many"))
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert [(one["kind"], one["name"]) for one in verdict["findings"]] == [("regression", "gated.many")]


def test_a_folder_outside_of_any_repository_has_no_revisions(tmp_path):
    with (
        pytest.raises(UsageError, match="is in no git repository"),
        check_out("main", tmp_path),
    ):
        pass


def test_what_git_refuses_is_told_in_its_own_words(recipes, tmp_path, monkeypatch, capsys):
    """It is no missing repository, and the packages that are locked in it are not passed over."""

    def refuse(folder, *_):
        raise GitError(f"fatal: detected dubious ownership in repository at '{folder}'")

    monkeypatch.setattr(environment, "ask_git", refuse)
    for revisions in (("main", "."), (".", ".")):
        assert main(["compare", *revisions, "--scenarios", str(recipes), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert said == f"error: fatal: detected dubious ownership in repository at '{recipes}'\n"


def test_a_git_hook_names_no_other_repository(recipes, tmp_path, monkeypatch):
    commit = git(recipes, "rev-parse", "main")
    git(tmp_path, "init", "-q", "-b", "main", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    with check_out("main", recipes) as side:
        assert side.revision == commit
        assert (side.scenarios / "gated.py").read_text() == RECIPE


def test_a_revision_brings_its_own_lock(recipes):
    (recipes.parent / "requirements").mkdir()
    (recipes.parent / "requirements" / "run.txt").write_text("one==1\n")
    git(recipes, "add", "../requirements")
    git(recipes, "commit", "-qm", "a lock")
    (recipes.parent / "requirements" / "run.txt").write_text("one==2\n")
    with check_out("main", recipes) as side:
        assert side.lock.read_text() == "one==1\n"
        assert (side.scenarios / "gated.py").read_text() == RECIPE
        assert side.revision == git(recipes, "rev-parse", "main")
    assert not side.scenarios.exists()
    with check_out(".", recipes) as side:
        assert (side.revision, side.scenarios, side.lock.read_text()) == (".", recipes, "one==2\n")
    with check_out("main~1", recipes) as side:
        assert side.lock is None


def test_a_revision_has_what_a_checkout_of_it_has(recipes):
    """Also what archives leave out, and links wherever they lead."""
    (recipes.parent / ".gitattributes").write_text("recipes export-ignore\n")
    (recipes.parent / "lib").mkdir()
    (recipes.parent / "lib" / "common.py").write_text("x = 1\n")
    (recipes / "common.py").symlink_to("../lib/common.py")
    (recipes / "data").symlink_to("/srv/data")
    git(recipes.parent, "add", ".")
    git(recipes, "commit", "-qm", "links")
    status = git(recipes, "status", "--porcelain")
    with check_out("main", recipes) as side:
        assert (side.scenarios / "gated.py").read_text() == RECIPE
        assert (side.scenarios / "common.py").read_text() == "x = 1\n"
        assert (side.scenarios / "data").readlink() == Path("/srv/data")
        assert git(recipes, "status", "--porcelain") == status == ""


def test_what_git_cannot_read_of_a_revision_is_an_error_in_its_own_words(recipes):
    blob = git(recipes, "rev-parse", "main:recipes/gated.py")
    (recipes.parent / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitError, match=r"unable to read.*gated\.py"), check_out("main", recipes):
        pass


@pytest.fixture
def shop(recipes):
    """A package in the repository, which the recipe imports; the working tree has another answer than the commit."""
    package = recipes.parent / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.py").write_text("def total(numbers):\n    return sum(numbers)\n")
    (recipes / "gated.py").write_text(RECIPE.replace(TOTAL, "from shop.model import total\n"))
    git(recipes.parent, "add", ".")
    git(recipes, "commit", "-qm", "a package")
    (package / "model.py").write_text("def total(numbers):\n    return sum(numbers) + 1\n")
    return package


@pytest.mark.parametrize("found", ["by PYTHONPATH", "from the current folder"])
def test_a_revision_imports_its_own_package_and_not_the_working_trees(recipes, shop, tmp_path, monkeypatch, found):
    if found == "by PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(shop.parent))
    else:
        monkeypatch.chdir(shop.parent)
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert [one["text"] for one in verdict["findings"]] == ["its answer changed: AssertionError: total is 191, not 190"]


def test_a_revision_that_imports_the_working_trees_package_is_refused(recipes, shop, tmp_path, capsys):
    """As one does that is installed as editable."""
    text = (recipes / "gated.py").read_text()
    leads = f"import sys\nsys.path.append({str(shop.parent)!r})\nfrom shop"
    (recipes / "gated.py").write_text(text.replace("from shop", leads))
    git(recipes, "commit", "-qm", "an installed package", "gated.py")
    words = ["--scenarios", str(recipes), "--out", str(tmp_path / "out")]
    assert main(["compare", "main", ".", *words]) == 2
    said = capsys.readouterr().err
    assert "error: base imports shop/__init__.py of the working tree, not of " in said
    assert "PYTHONPATH" in said


def test_the_same_lock_means_the_same_interpreter(tmp_path):
    same = tmp_path / "copy.txt"
    same.write_bytes((ROOT / "requirements" / "run.txt").read_bytes())
    assert make_interpreter(None, tmp_path) == make_interpreter(same, tmp_path) == sys.executable


@pytest.mark.parametrize(
    ("lock", "kept"),
    [
        ("one==1 \\\n    --hash=sha256:12\n--index-url https://here\n\n# a note\n", True),
        ("-r pins.txt\n", False),
        ("one==1\n--constraint pins.txt\n", False),
        ("one==1\n-e .\n", False),
        ("./dist/one-1-py3-none-any.whl\n", False),
        ("one\n", False),
        ('one; python_version == "3.11"\n', False),
    ],
)
def test_packages_are_kept_for_a_lock_that_says_all_of_them(tmp_path, monkeypatch, lock, kept):
    """Else the next comparison would have the old ones, whatever the files now hold that the lock names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    installed = []
    monkeypatch.setattr(sides_module, "_install", lambda lock, folder: folder.mkdir() or installed.append(folder))
    (tmp_path / "lock.txt").write_text(lock)
    for comparison in ("first", "second"):
        (tmp_path / comparison).mkdir()
        base, head = (make_interpreter(tmp_path / "lock.txt", tmp_path / comparison) for _ in SIDES)
        assert base == head
    assert len(installed) == (1 if kept else 2)
    assert (Side(".", tmp_path, tmp_path / "lock.txt", head).packages is not None) == kept


def noting(recipes, monkeypatch, file, recipe=RECIPE):
    """Two revisions of the recipe, whose calls write down who they are."""
    monkeypatch.setenv("CALLS", str(file))
    for side in ("base", "head"):
        noted = f'    with open(__import__("os").environ["CALLS"], "a") as file:\n        file.write("{side}\\n")\n'
        text = recipe.replace('    """Many at once"""\n', f'    """Many at once"""\n{noted}').replace("SIDE", side)
        (recipes / "gated.py").write_text(text)
        if side == "base":
            git(recipes, "commit", "-qam", "noting")


def test_both_sides_take_turns_with_timed_calls_there_and_back(recipes, tmp_path, monkeypatch):
    file = tmp_path / "calls"
    noting(recipes, monkeypatch, file)
    verdict = run(recipes, tmp_path / "out", "main", ".")
    first, second = verdict["order"]["screen"][0]
    assert {first, second} == {"base", "head"}
    calls = file.read_text().split()
    # Warm-up calls at the same time, then timed calls one by one.
    assert sorted(calls[:2]) == ["base", "head"]
    assert calls[2:] == [first, second, second, first]
    for side in ("base", "head"):
        (line,) = (tmp_path / "out" / "screen" / "1-1" / side / "records.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert len(record["warm_seconds"]) == GATE_CALLS == 2
        assert record["seconds"] == pytest.approx(sum(record["warm_seconds"]) / 2)
        # Both were computing at the time.
        assert record["cold_seconds"] is None


def settings_of_sides(recipes, folder, base, head):
    """With which settings of Spark each side runs, where its user sets some."""
    sides = {name: Side(".", recipes, None, sys.executable, conf) for name, conf in (("base", base), ("head", head))}
    request = Request("gate", None, None, None, 1, 2, gate=True)
    plans = make_plans(sides, request, None, "local[2]", "")
    comparison = Comparison(
        sides, folder, request, existing_cluster("local[2]"), find_java(), "", 1.0, random.Random(0)
    )
    return {name: comparison.make_loop(name, plans[name], folder / name).run.cluster.conf for name in sides}


def test_the_optimizing_compiler_stays_off_where_a_side_says_nothing_else(recipes, tmp_path):
    conf = settings_of_sides(recipes, tmp_path, {}, {"spark.driver.defaultJavaOptions": "-Xint"})
    steady = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseParallelGC"
    assert conf["base"]["spark.driver.defaultJavaOptions"] == steady
    assert conf["base"]["spark.executor.defaultJavaOptions"] == steady
    assert conf["head"]["spark.driver.defaultJavaOptions"] == "-Xint"


def test_a_collector_that_a_side_names_is_the_only_one(recipes, tmp_path):
    """Java does not start with two, and a side with ours is no measure of one with another."""
    own = {"spark.driver.extraJavaOptions": "-Dx=1 -XX:+UseZGC"}
    for name, conf in settings_of_sides(recipes, tmp_path, {}, own).items():
        options = " ".join(value for key, value in conf.items() if key.endswith("JavaOptions"))
        assert "TieredStopAtLevel=1" in options
        assert "ParallelGC" not in options
        assert ("UseZGC" in options) == (name == "head")


VARYING = RECIPE.replace("assert answer == reference", 'assert answer["total"] == reference["total"]').replace(
    """    \"\"\"Many at once\"\"\"
    return {"total": total(data)}
""",
    """    \"\"\"Many at once\"\"\"
    with open(__import__("os").environ["CALLS"]) as file:
        block = (file.read().split().count("SIDE") - 1) // 3
    return {"total": total(data), "varies": block * {"base": 1, "head": 2}["SIDE"]}
""",
)


def test_what_varies_from_block_to_block_varies_over_all_blocks_of_a_gate(recipes, tmp_path, monkeypatch):
    """The few blocks of a later look may agree with one another and differ between the sides: that says nothing."""
    monkeypatch.setattr(command, "SCREEN", (Look(1, 0, 0), Look(2, 0, 0)))
    noting(recipes, monkeypatch, tmp_path / "calls", VARYING)
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert verdict["findings"] == []
    assert verdict["screened"]["gated.many"]["blocks"] == 2


DEATHS = {
    "in its warm-up": ("os._exit(7)", "exit code 7"),
    "in its timed call": ('open(os.environ["CALLS"]).read().count("head") < 2 or os._exit(7)', "exit code 7"),
    "while it waits for its turn": ("threading.Timer(1, os.kill, (os.getpid(), 9)).start()", "ended by SIGKILL"),
}


@pytest.mark.parametrize(("dies", "said"), DEATHS.values(), ids=DEATHS.keys())
def test_a_side_that_dies_keeps_no_other_waiting(recipes, tmp_path, monkeypatch, dies, said):
    file = tmp_path / "calls"
    noting(recipes, monkeypatch, file)
    text = (recipes / "gated.py").read_text()
    text = text.replace("    return {", f"    import os, threading\n    {dies}\n    return {{")
    (recipes / "gated.py").write_text(text)
    # Both wait until the machine is quiet, before the first timed call.
    monkeypatch.setattr(comparison_module, "settle", lambda: time.sleep(3))
    verdict = run(recipes, tmp_path / "out", "main", ".")
    assert [(one["kind"], one["name"]) for one in verdict["findings"]] == [("regression", "gated.many")]
    assert said in verdict["findings"][0]["text"]
    # The other goes on to its end: a warm-up, and what is timed.
    assert file.read_text().split().count("base") == 1 + GATE_CALLS


def children():
    """Processes that run cells."""
    return [child for child in psutil.Process().children() if any("test_cell" in word for word in child.cmdline())]


def test_an_interrupt_ends_both_sides(recipes, tmp_path, monkeypatch, capsys):
    noting(recipes, monkeypatch, tmp_path / "calls")

    def stopped():
        # By then each side has a process. On a busy machine its command line takes a moment to be there.
        deadline = time.monotonic() + 20
        while len(children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(children()) == 2
        raise InterruptError("Ctrl-C")
        yield

    monkeypatch.setattr(comparison_module, "take_turns", lambda sides, settle: take_turns([*sides, stopped()], settle))
    code = main(["compare", "main", ".", "--scenarios", str(recipes), "--out", str(tmp_path / "out")])
    assert code == 130
    assert "no verdict" in capsys.readouterr().out
    assert children() == []
