# SPDX-License-Identifier: Apache-2.0
"""The README's first lines work as they stand, CI runs them, and all files agree on Pythons and environments."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser, RawConfigParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from suite.cli import main, parse
from suite.gate.side_process import ask
from suite.gate.sides import Side

ROOT = Path(__file__).resolve().parent.parent
LINES = re.findall(r"^    ([^ #].*)$", (ROOT / "README.md").read_text(), re.MULTILINE)[:2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NEW_AND_OLD = [(3, 15, 0, "final", 0), (4, 0, 0, "final", 0), (3, 10, 9, "final", 0), (3, 8, 1, "final", 0)]

# A machine's `python3`: `-m venv DIR` makes a `python` and a `pip` there that write down how they were called. That
# `python` can import tox from when that `pip` has installed it.
PYTHON3 = """#!/bin/sh
echo "python3 $*" >> "$LOG"
[ "$1 $2" = "-m venv" ] || exit 1
mkdir -p "$3/bin"
cat > "$3/bin/python" <<'END'
#!/bin/sh
if [ "$1" = -c ]; then [ "$2" = "import tox" ] && [ -e .venv/tox ]; exit; fi
echo "python $*" >> "$LOG"
END
cat > "$3/bin/pip" <<'END'
#!/bin/sh
echo "pip $*" >> "$LOG"
[ -z "$OFFLINE" ] && touch .venv/tox
END
chmod +x "$3"/bin/*
"""


@pytest.fixture
def paste(tmp_path):
    """Runs a line of the README in a clone on a machine with nothing but Python; what it called, and its exit code."""
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON3)
    (tmp_path / "bin" / "python3").chmod(0o755)
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path / "clone")
    shutil.copy(ROOT / ".ci" / "readme-line", tmp_path / "clone" / ".ci")

    def run(*command: str, offline: str = "") -> tuple[list[str], int]:
        log.write_text("")
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=tmp_path / "clone",
            env={"PATH": path, "LOG": str(log), "OFFLINE": offline},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "No such file" not in done.stderr
        return log.read_text().splitlines(), done.returncode

    return run


MADE = ["python3 -m venv .venv", "pip install -q tox"]


@pytest.mark.parametrize(("line", "called"), list(zip(LINES, ["python -m tox -e bench", "python -m tox"], strict=True)))
def test_a_line_makes_its_environment_and_the_second_time_only_runs_tox(line, called, paste):
    assert paste("sh", "-c", line) == ([*MADE, called], 0)
    assert paste("sh", "-c", line) == ([called], 0)


def test_after_a_failure_a_line_begins_again(paste):
    assert paste("sh", "-c", LINES[1], offline="yes") == (MADE, 1)
    assert paste("sh", "-c", LINES[1]) == ([*MADE, "python -m tox"], 0)


def test_ci_runs_the_lines_word_for_word(paste):
    called, code = paste(".ci/readme-line", "1", "--", "--size", "smoke", "--out", "a folder")
    assert (called, code) == ([*MADE, "python -m tox -e bench -- --size smoke --out a folder"], 0)
    assert paste(".ci/readme-line", "2") == (["python -m tox"], 0)
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"(?m)^\.ci/readme-line (\d)(.*)$", ci) == [
        ("1", ' -- --size smoke --out "$out/smoke"'),
        ("2", ""),
    ]
    # On the clone as it is: nothing is put into it beforehand.
    assert not re.search(r"(?m)^\s*(cp|mv|ln|touch|sed) ", ci)
    assert "docker/certs" not in ci


TOX_OF_ACTION = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 1
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "pip $*" >> "$LOG"\\n' > "$3/bin/pip"
printf '#!/bin/sh\\necho "python $*" >> "$LOG"\\nexit $CODE\\n' > "$3/bin/python"
chmod +x "$3"/bin/*
"""


@pytest.fixture
def act(tmp_path):
    """Runs the action's script as a runner would, with a Python that writes down what it is asked; what it did."""
    action = YAML(typ="safe").load(ROOT / ".github" / "actions" / "regress" / "action.yml")
    (script,) = [step["run"] for step in action["runs"]["steps"] if step.get("name") == "Compare"]
    assert {name: step for name, step in action["inputs"].items() if "description" not in step} == {}
    (tmp_path / "python").write_text(TOX_OF_ACTION)
    (tmp_path / "python").chmod(0o755)

    def run(**variables):
        environment = {
            "PATH": os.environ["PATH"],
            "LOG": str(tmp_path / "log"),
            "CODE": "0",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ACTION_PATH": str(ROOT / ".github" / "actions" / "regress"),
            "SETUP_PYTHON": str(tmp_path / "python"),
            "BASE": "",
            "RECIPES": "recipes",
            "MORE": "",
            "INCONCLUSIVE": "warn",
            **variables,
        }
        command = ["bash", "-eo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        log, output = ((tmp_path / name) for name in ("log", "output"))
        told = dict(line.split("=") for line in output.read_text().splitlines()) if output.exists() else {}
        return done, log.read_text().splitlines() if log.exists() else [], told

    return run


def test_the_action_compares_the_recipes_of_its_caller_with_the_base(act):
    folders = set()
    for _ in range(2):  # a job may compare two folders of recipes
        more = "\n--head-conf spark.x=1\n--size  ci\n"
        done, called, told = act(BASE="origin/my; branch", RECIPES="my recipes", MORE=more)
        assert done.returncode == 0, done.stderr
        assert told["code"] == "0"
        folders.add(told["folder"])
    assert len(folders) == 2
    words = f"-e regress -- origin/my; branch . --scenarios my recipes --out {told['folder']}"
    assert called[-1].endswith(f"{words} --head-conf spark.x=1 --size ci")
    tox = Path(called[-1].split(" -c ")[1].split(" -e ")[0]) / "tox.ini"
    assert tox.samefile(ROOT / "tox.ini")
    (pinned,) = re.findall(r"^tox==[\d.]+", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert called[-2] == f"pip install -q {pinned}"


def test_the_base_of_a_pull_request_is_the_commit_that_it_was_merged_with(act, tmp_path):
    def git(*words):
        named = ("-c", "user.name=x", "-c", "user.email=x@y.z", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "recipes").mkdir()
    git("init", "-q", "-b", "topic")
    git("commit", "-q", "--allow-empty", "-m", "merged with")
    merged_with = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "a later one of main")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("reset", "-q", "--hard", merged_with)
    git("commit", "-q", "--allow-empty", "-m", "the pull request's")
    done, called, _ = act(GITHUB_BASE_REF="main")
    assert done.returncode == 0, done.stderr
    assert f"-- {merged_with} . --scenarios" in called[-1]
    # A clone without the history is for `compare` to say, in its own words.
    _, called, _ = act(GITHUB_BASE_REF="gone")
    assert "-- origin/gone . --scenarios" in called[-1]
    done, _, _ = act()
    assert (done.returncode, done.stdout) == (
        2,
        "::error::only a pull request has a base of its own: give the input base\n",
    )


@pytest.mark.parametrize(
    ("code", "inconclusive", "ends", "said"),
    [
        (3, "warn", 3, "::error::no pass (exit code 3)"),
        (4, "warn", 0, "::warning::inconclusive"),
        (4, "fail", 4, "::error::no pass (exit code 4)"),
        (2, "warn", 2, ""),
    ],
)
def test_the_action_ends_as_the_comparison_does(act, code, inconclusive, ends, said):
    done, _, told = act(BASE="main", CODE=str(code), INCONCLUSIVE=inconclusive)
    assert (done.returncode, told["code"]) == (ends, str(code))
    assert done.stdout.startswith(said)
    assert bool(done.stdout) == bool(said)


def tox_config(folder: Path, names: list[str], *words: str) -> RawConfigParser:
    """What tox makes of words that are typed behind `--` in a folder, without making an environment."""
    keys = ["change_dir", "pass_env", "set_env", "commands"]
    # tox-uv makes environments, which is not looked at.
    command = [sys.executable, "-m", "tox", "config", "-c", str(ROOT), "--override", "tox.requires="]
    done = subprocess.run(
        [*command, "--workdir", str(folder / "work"), "-e", ",".join(names), "-k", *keys, "--", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = RawConfigParser()
    found.read_string(done.stdout)
    return found


def environments_with_words() -> list[str]:
    """Those that take words behind `--`."""
    tox = RawConfigParser()
    tox.read(ROOT / "tox.ini")
    return [
        name.removeprefix("testenv:")
        for name in tox.sections()
        if name.startswith("testenv:") and "{posargs" in tox[name]["commands"]
    ]


def test_tox_hands_on_what_was_typed_in_another_projects_folder(tmp_path):
    """A revision may be called like a folder there, and paths are those of that folder."""
    (tmp_path / "main").mkdir()
    (tmp_path / "my recipes").mkdir()
    words = ("main", ".", "--scenarios", "my recipes", "--out", "new")
    names = environments_with_words()
    assert {"bench", "regress", "suite", "tests"} <= set(names)
    config = tox_config(tmp_path, names, *words)
    for name in names:
        made = config[f"testenv:{name}"]
        assert f" {shlex.join(words)}" in made["commands"], name
        for_users = "-m suite" in made["commands"]
        assert Path(made["change_dir"]) == (tmp_path if for_users else ROOT), name
        # None of that folder's modules is taken for ours.
        assert for_users == ("python -P" in made["commands"]), name


def test_through_tox_a_recipe_has_the_variables_and_the_packages_of_the_user(tmp_path, monkeypatch):
    """But for a Spark, which would be measured in place of the one that is locked, and the folder itself."""
    (tmp_path / "spark" / "python" / "pyspark").mkdir(parents=True)
    (tmp_path / "spark" / "python" / "pyspark" / "__init__.py").touch()
    given = ["", str(tmp_path / "src"), str(tmp_path / "spark" / "python"), str(tmp_path / "spark/python/lib/py4j.zip")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(given))
    config = tox_config(tmp_path, environments_with_words())
    for_users = {name for name in config.sections() if "-m suite" in config[name]["commands"]}
    assert {"testenv:bench", "testenv:suite"} <= for_users
    for name in {*for_users, "testenv:tests"}:
        found, users = config[name], name in for_users
        assert ("*" in found["pass_env"].split()) == users, name
        leads = os.pathsep.join([str(ROOT), *given[1:2]] if users else [str(ROOT)])
        assert {f"PYTHONPATH={leads}", "MPLBACKEND=agg"} <= set(found["set_env"].split("\n")), name


@pytest.mark.parametrize("inside", [True, False], ids=["in the clone", "elsewhere"])
def test_what_is_printed_to_be_typed_calls_the_same_tox_from_the_same_folder(inside, tmp_path):
    folder = ROOT / "tests" if inside else tmp_path
    asks = "from suite.machine.environment import suite_command as say; print(say('bench'), say('doctor'), sep='\\n')"
    code = f"import runpy; runpy.run_path({str(ROOT / 'toxfile.py')!r}); {asks}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    bench, doctor = map(shlex.split, done.stdout.splitlines())
    assert folder / bench[0] == Path(sys.executable)
    tox = [bench[0], "-m", "tox", *([] if inside else ["-c", str(ROOT)])]
    assert bench == [*tox, "-e", "bench", "--"]
    assert doctor == [*tox, "-e", "suite", "--", "doctor"]


def test_every_environment_that_is_named_is_in_tox_ini():
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    known = {name.removeprefix("testenv:") for name in tox.sections()}
    assert set(tox["tox"]["env_list"].split(", ")) <= known
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run", *WORKFLOWS]
    for path in files:
        named = {
            name
            for names in re.findall(r"tox\S* (?:-c \S+ )?-e ([\w,-]+)", path.read_text())
            for name in names.split(",")
        }
        assert named, path.name
        assert named <= known, path.name


def supported() -> list[str]:
    """The Pythons of pyproject.toml, oldest first."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, above = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", declared).groups())
    return [f"3.{minor}" for minor in range(oldest, above)]


def test_all_files_name_the_same_pythons():
    pythons = supported()
    for name in ("README.md", "CONTRIBUTING.md", "toxfile.py", "suite/__main__.py"):
        assert SPAN in (ROOT / name).read_text(), name
    matrix = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == pythons
    assert f"--python-version {pythons[0]} " in (ROOT / "tox.ini").read_text()


SPAN = f"Python {supported()[0]} to {supported()[-1]}"


def run_as(version: tuple, *code: str) -> subprocess.CompletedProcess:
    """Run code under a Python that says that it is another version."""
    shown = ".".join(map(str, version[:3]))
    fake = f"import sys; sys.version_info = {version}; sys.version = '{shown} (fake)'"
    return subprocess.run(
        [sys.executable, "-c", "\n".join([fake, *code])], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("version", NEW_AND_OLD, ids=lambda version: f"{version[0]}.{version[1]}")
def test_another_python_gets_one_line_from_the_suite(version):
    done = run_as(version, "import runpy", "runpy.run_module('suite', run_name='__main__')")
    assert done.stderr.count("\n") == 1
    assert f"needs {SPAN}; this is {'.'.join(map(str, version[:3]))}" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("version", NEW_AND_OLD, ids=lambda version: f"{version[0]}.{version[1]}")
def test_another_python_gets_one_line_through_tox(version):
    # tox is imported first, so that it sees the Python that there is; our file then sees the other one.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from tox.run import run\nimport sys\nsys.version_info = {version}\nrun(['-e', 'bench'])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.count("\n") == 1
    assert f"needs {SPAN}," in done.stderr
    assert f"python{supported()[-1]}" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("version", [tuple(map(int, name.split("."))) for name in supported()])
@pytest.mark.parametrize("name", ["toxfile.py", "suite/__main__.py"])
def test_a_supported_python_passes(name, version):
    code = (ROOT / name).read_text().replace("from suite.cli import main", "main = lambda: 7")
    done = run_as((*version, 0, "final", 0), f"__name__ = 'imported'; __file__ = {str(ROOT / name)!r}\n{code}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["toxfile.py", "suite/__main__.py"])
def test_an_old_python_can_read_what_refuses_it(name):
    ast.parse((ROOT / name).read_text(), feature_version=(3, 6))


def test_a_reader_that_ends_early_and_a_terminal_without_utf8_are_no_crash():
    command = [sys.executable, "-m", "suite", "variance", str(ROOT / "results" / "local")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| ? |" in done.stdout  # a dash
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        closed = subprocess.run([*command[:3], "list"], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (closed.returncode, closed.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "suite", "list"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "error: the disk is full: free some space, then go on with --resume\n"


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "main", ".", "one", "two", "--out", "x"],
        ["compare", "main", ".", "--out", "x", "one", "two"],
        ["compare", "--out", "x", "main", ".", "one", "two"],
        ["bench", "one", "--out", "x", "two"],
    ],
    ids=" ".join,
)
def test_names_of_recipes_may_stand_anywhere(words, capsys):
    assert parse(words).scenario == ["one", "two"]
    for wrong in ([*words, "--no-such"], ["doctor", "one"]):
        with pytest.raises(SystemExit) as refused:
            parse(wrong)
        assert refused.value.code == 2
        assert f"unrecognized arguments: {wrong[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "--out", ""], "argument --out: the name is empty: is a variable not set?"),
        (["list", "--scenarios", ""], "argument --scenarios: the name is empty"),
        (["report", ""], "argument DIR: the name is empty"),
        (["bench", "--timeout", "inf"], "argument --timeout: inf is not above zero and below ten million"),
        (["bench", "--minutes", "1e8"], "argument --minutes: 1e8 is not above zero and below ten million"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_for_what_it_is(words, said, capsys):
    with pytest.raises(SystemExit) as refused:
        parse(words)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


WITHOUT_PACKAGES = (("doctor",), ("list",), ("report", "results/local"), ("bench",), ("cluster", "status"))


@pytest.mark.parametrize("words", WITHOUT_PACKAGES, ids=lambda words: words[0])
def test_a_python_without_the_packages_says_which_command_to_use(words):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = {words!r}; "
         "from suite.cli import main; sys.exit(main())"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"python -m tox -e suite -- {' '.join(words)}\n")


def test_the_version_needs_no_package():
    command = [sys.executable, "-S", "-m", "suite", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"foldout \d+\.\d+\S*, Python 3\.\d+\.\d+\n", done.stdout), done.stderr


def suite(*words: str, shell: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run the suite from a shell, with what follows the command there, such as `>&-`."""
    command = f"{shlex.join([sys.executable, '-m', 'suite', *words])} {shell}"
    environment = {**os.environ, **variables}
    return subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&-"])
def test_where_a_stream_is_closed_no_file_is_taken_for_it(closed):
    done = suite("report", "results/none", shell=f"{closed}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: results/none is not a run folder: it has no plan.json\n"
    version = suite("--version", shell=closed)
    assert (version.returncode, version.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["bench", "--help"]], ids=" ".join)
def test_a_full_disk_is_one_line_where_the_parser_ends_the_program(words):
    done = suite(*words, shell="> /dev/full", PYTHONUNBUFFERED="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the disk is full: free some space, then go on with --resume\n"


def test_what_the_system_refuses_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = suite("new", str(tmp_path / "file" / "mine.py"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path}/file")
    nowhere = "import sys, tempfile; tempfile.tempdir = None; tempfile._candidate_tempdir_list = lambda: ['/none']\n"
    code = f"{nowhere}from suite.cli import main; sys.exit(main(['doctor']))"
    lost = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert lost.returncode == 2
    assert lost.stderr == "error: No usable temporary directory found in ['/none']\n"


RECIPE = """'Warns at its import, and says so in Ünicode'
import warnings
warnings.warn("old", DeprecationWarning, stacklevel=1)

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"smoke": {"rows": 1}}

def make_data(*, rows):
    return rows

def run_it(data):
    'Ä way'

def check(reference, answer):
    pass
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONWARNINGS": "error"},
        {"PYTHONINSPECT": "1"},
        {"PYTHONOPTIMIZE": "1"},
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_variables_of_the_users_python_change_nothing(variables, tmp_path):
    (tmp_path / "warning.py").write_text(RECIPE, encoding="utf-8")
    done = suite("list", "--scenarios", str(tmp_path), shell="< /dev/null", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["warning", "    Warns at its import, and says so in Ünicode",
                                        f"      {'it':<24} Ä way"]  # fmt: skip


def test_a_list_names_helpers_beside_the_recipes(tmp_path, capsys):
    (tmp_path / "a_recipe.py").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    assert main(["list", "--scenarios", str(tmp_path)]) == 0
    assert "helper.py\n    no recipe: it has no line" in capsys.readouterr().out


AT_IMPORT = {
    "a_session": "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate()",
    "a_thread": "import threading, time; threading.Thread(target=time.sleep, args=(600,), name='idle').start()",
    "an_exit": "import sys; sys.exit('enough')",
    "some_words": "print('one'); print('two'); import sys; sys.stdout.reconfigure(errors='replace')",
}


def test_what_a_recipe_does_at_its_import_is_one_line_that_names_it(tmp_path):
    for name, line in AT_IMPORT.items():
        (tmp_path / f"{name}.py").write_text(f"{RECIPE}\n{line}\n", encoding="utf-8")
    done = suite("list", "--json", "--scenarios", str(tmp_path))  # it ends, though the thread does not
    assert done.returncode == 0, done.stderr
    assert done.stderr == "note: some_words.py prints when it is imported: one\ntwo\n"
    found = json.loads(done.stdout)
    assert [scenario["name"] for scenario in found["scenarios"]] == ["some_words"]
    assert found["broken"] == {
        "a_session.py": "it starts a Spark session when it is imported: make_data and the variants get one as `spark`",
        "a_thread.py": "it starts a thread when it is imported (idle): start it in a variant",
        "an_exit.py": "it does not import: SystemExit: enough",
    }


def test_a_side_of_a_comparison_ends_though_a_thread_does_not(tmp_path):
    (tmp_path / "a_thread.py").write_text(f"{RECIPE}\n{AT_IMPORT['a_thread']}\n", encoding="utf-8")
    side = Side(".", tmp_path, None, sys.executable)
    reply = ask(side, "check", {"pairs": [[str(tmp_path / "a_thread.py"), 1, 1]]})
    assert reply["said"][0].startswith("it starts a thread when it is imported")


@pytest.mark.parametrize("line", ["", "OTHER = True\n"], ids=["a copy", "another"])
def test_of_two_files_of_one_name_workers_would_import_that_of_the_folder_so_it_has_to_be_a_copy(line, tmp_path):
    (tmp_path / "recipes").mkdir()
    for folder, text in ((tmp_path, RECIPE + line), (tmp_path / "recipes", RECIPE)):
        (folder / "mine.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "suite", "list", "--scenarios", "recipes"]  # as tox does
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    refused = f"'mine' is also the name of {tmp_path}/mine.py: rename one of the two" in done.stdout
    assert (refused, "Warns at its import" in done.stdout) == (bool(line), not line)


def test_a_name_that_is_no_utf8_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "./mine.py", "--size", "smoke", "--out", "caf\udce9"]) == 2
    assert capsys.readouterr().err == f"error: '{tmp_path}/caf\\udce9' is not UTF-8: rename it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["toxfile.py", "suite/__main__.py"])
def test_a_clone_that_pythonpath_cannot_name_is_refused_in_one_line(name, tmp_path):
    copy = tmp_path / "a:b" / name
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / name, copy)
    done = subprocess.run([sys.executable, str(copy)], capture_output=True, text=True, timeout=60)
    said = f"error: no ':' and no line break may be in the path of a clone, {str(tmp_path / 'a:b')!r}: move it\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_charts_need_no_backend_of_a_notebook():
    code = "import suite.__main__, matplotlib; print(matplotlib.get_backend())"
    environment = {**os.environ, "MPLBACKEND": "module://no_such_package"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip().lower() == "agg", done.stderr


def test_a_bench_whose_reader_ends_says_how_to_go_on(tmp_path):
    out = tmp_path / "a run"
    (tmp_path / "warning.py").write_text(RECIPE.replace("'Ä way'", "return {'rows': data}"), encoding="utf-8")
    command = ["bench", str(tmp_path / "warning.py"), "--size", "smoke", "--out", str(out)]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "suite", *command], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 141
    assert done.stderr.splitlines()[-1] == f"  python -m suite bench --resume --out '{out}'"
    assert suite("bench", "--resume", "--out", str(out)).returncode == 0


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("plan.json", "null", ["bench", "--resume", "--out"]),
        ("plan.json", "[]", ["bench", "--resume", "--out"]),
        ("plan.json", '{"schema": 1, "options": null}', ["bench", "--resume", "--out"]),
        ("plan.json", '{"schema": 1, "options": {}}', ["bench", "--resume", "--out"]),
        ("plan.json", '{"cells": [{}], "scenarios": {}, "master": "x"}', ["report"]),
        ("plan.json", '{"cells": 3, "scenarios": [], "master": "x"}', ["report"]),
        ("plan.json", "null", ["report"]),
        ("environment.json", "null", ["report"]),
    ],
)
def test_a_file_of_a_run_that_holds_something_else_is_one_line(file, content, words, tmp_path, capsys):
    for name in ("plan.json", "environment.json"):
        shutil.copy(ROOT / "results" / "local" / name, tmp_path)
    (tmp_path / file).write_text(content)
    assert main([*words, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"error: {tmp_path / file} ")


def test_no_library_pins_the_suite_to_a_core_and_no_parent_hides_how_programs_end():
    names = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
    code = f"""
import os, signal, sys
if "again" not in sys.argv:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.execv(sys.executable, [*sys.orig_argv, "again"])
import suite.__main__
print(sorted(set(os.environ) & set({names})), signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
"""
    environment = {**os.environ, **dict.fromkeys(names, "1")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[] True", done.stderr


def test_a_recipe_may_print_what_the_terminal_of_its_user_has_no_letter_for(tmp_path):
    (tmp_path / "warning.py").write_text(f"{RECIPE}\nprint('é')\n", encoding="utf-8")
    for encoding in ("latin-1", "ascii"):
        words = ("compare", ".", ".", "--scenarios", str(tmp_path), "--out", str(tmp_path / encoding))
        done = suite(*words, PYTHONIOENCODING=encoding)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "SIZES has no 'ci', only smoke" in done.stderr
