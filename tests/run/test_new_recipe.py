# SPDX-License-Identifier: Apache-2.0
"""A new recipe runs as it is, alone and in the suite, and nothing of the user's is overwritten."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from suite import records
from suite.cli import main
from suite.plan.scenario import SCENARIOS
from suite.run.new_recipe import TEMPLATE

ROOT = Path(__file__).resolve().parents[2]


def bench(recipe: Path, out: Path, *more: str) -> list[records.Record]:
    command = [sys.executable, "-m", "suite", "bench", str(recipe), "--size", "smoke", "--out", str(out), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return records.read(out / "records.jsonl")


def test_the_template_runs_alone_and_in_the_suite_and_with_data_of_ones_own(tmp_path, capsys):
    recipe = tmp_path / "mine" / "my_search.py"
    assert main(["new", str(recipe)]) == 0
    assert f"written: {recipe}" in capsys.readouterr().out
    assert (recipe.parent / "grid_search_spark_backend.py").is_file()
    command = [sys.executable, recipe.name]
    alone = subprocess.run(command, cwd=recipe.parent, capture_output=True, text=True, timeout=300)
    assert alone.stdout.startswith("best score 0.9"), alone.stderr
    assert {record.status for record in bench(recipe, tmp_path / "out")} == {"ok"}
    # Only the lines that are marked have to be changed.
    table = pd.DataFrame({"x": range(200), "text": ["ab"[i % 2] for i in range(200)], "y": [i % 2 for i in range(200)]})
    table.to_csv(tmp_path / "mine.csv")  # with an index, and a column that no forest takes
    text = recipe.read_text()
    for old, new in {
        'FILE = ""': 'FILE = "mine.csv"',
        'LABEL = "target"': 'LABEL = "y"',
        "NO_FEATURES = []": 'NO_FEATURES = ["Unnamed: 0", "text"]',
        "MODEL = RandomForestClassifier(random_state=0)": "MODEL = DecisionTreeClassifier(random_state=0)",
        "from sklearn.ensemble import RandomForestClassifier": "from sklearn.tree import DecisionTreeClassifier",
        'GRID = {"n_estimators": [50, 100], "max_depth": [3, 6, None]}': 'GRID = {"max_depth": [1, 2, 3]}',
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    recipe.write_text(text)
    found = bench(recipe, tmp_path / "own", "--data", str(tmp_path))
    assert {record.status for record in found} == {"ok"}
    assert {record.workload for record in found} == {"my_search"}
    assert {record.variant for record in found} == {"serial", "loky", "spark_pool", "joblib_spark"}


@pytest.mark.parametrize("name", ["t.parquet", "no_ending", "t.csv", "T.CSV", "t.csv.gz", "t.xlsx", "t.tsv"])
def test_the_template_reads_parquet_and_csv_and_says_what_to_change_for_another_file(name, tmp_path):
    table, file = pd.DataFrame({"x": [1, 2]}), tmp_path / name
    write = table.to_csv if ".csv" in name.lower() else table.to_parquet
    write(file, index=False)
    template = {"__name__": "template"}
    exec(TEMPLATE.read_text(), template)
    template["FILE"] = str(file)
    if name in ("t.xlsx", "t.tsv"):
        with pytest.raises(ValueError, match=r"is neither \.csv nor \.parquet: read it here, in load\(\)"):
            template["load"]()
    else:
        pd.testing.assert_frame_equal(template["load"](), table)


@pytest.mark.parametrize("like", ["grid_search_single_node", "time_series_cv_waiting"])
def test_a_copy_comes_with_the_files_that_it_needs(like, tmp_path, capsys):
    recipe = tmp_path / "like_it.py"
    assert main(["new", str(recipe), "--like", like]) == 0
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import like_it"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert "python like_it.py" in recipe.read_text()
    # That the project gates it elsewhere does not keep a copy out of its user's gate.
    assert "GATED" not in recipe.read_text()
    copied = {path.name for path in tmp_path.glob("*.py")} - {"like_it.py"}
    assert all((tmp_path / name).read_text() == (SCENARIOS / name).read_text() for name in copied)
    assert ("time_series_folds.py" in copied) == (like == "time_series_cv_waiting")


def test_what_is_there_stays_as_it_is(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text("precious")
    assert main(["new", str(recipe)]) == 2
    assert "is there already" in capsys.readouterr().err
    (tmp_path / "time_series_folds.py").write_text("precious")
    assert main(["new", str(tmp_path / "other.py"), "--like", "time_series_cv"]) == 2
    assert {path.read_text() for path in tmp_path.iterdir()} == {"precious"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "time_series_folds.py"]


def test_a_copy_that_is_gated_is_a_sibling_like_any_other(tmp_path):
    text = (SCENARIOS / "time_series_cv_pool.py").read_text()
    assert "\nGATED = ()" in text
    (tmp_path / "time_series_cv_pool.py").write_text(re.sub("(?m)^GATED.*\n", "", text))
    assert main(["new", str(tmp_path / "mine.py"), "--like", "time_series_cv_waiting"]) == 0


def test_a_recipe_beside_the_suite_is_refused(monkeypatch, capsys):
    """The copies that come with it would hide the project's own."""
    monkeypatch.chdir(ROOT)
    assert main(["new", "search_of_mine.py"]) == 2
    assert "take a folder of its own, such as my_recipes/search_of_mine.py" in capsys.readouterr().err
    assert not (ROOT / "search_of_mine.py").exists()


def test_the_template_takes_rows_in_the_order_of_the_file_which_folds_in_time_need():
    template = {"__name__": "template"}
    exec(TEMPLATE.read_text(), template)
    taken = template["make_data"](rows=50)
    assert len(taken) == 50
    assert list(taken.index) == sorted(set(taken.index))
    assert len(template["make_data"](rows=10_000)) == len(template["load"]())


def test_the_pipeline_that_the_template_proposes_takes_text_and_gaps():
    """The lines that are commented out, as they stand there."""
    text = TEMPLATE.read_text()
    proposed = re.search(r"(?:^# .*\n)+", text[text.index("# MODEL = make_pipeline") :], re.MULTILINE)[0]
    imports = """
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
"""
    found = {}
    exec(imports + re.sub(r"^# ", "", proposed, flags=re.MULTILINE), found)
    table = pd.DataFrame({"x": [1.0, None, 3.0, 4.0] * 5, "text": ["a", "b", None, "a"] * 5})
    model = found["MODEL"].fit(table, [0, 1, 1, 0] * 5)
    assert model.score(table, [0, 1, 1, 0] * 5) == 1
    assert "randomforestclassifier__max_depth" in model.get_params()


def test_a_path_with_blanks_can_be_pasted(tmp_path, capsys):
    recipe = tmp_path / "my folder" / "mine_here.py"
    assert main(["new", str(recipe)]) == 0
    assert f"bench -- '{recipe}' --size smoke" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["my-search.py"], "a name such as my_search.py"),
        (["search.txt"], "a name such as my_search.py"),
        (["numpy.py"], "'numpy' is also the name of "),
        (["class.py"], "'class' is also the name of a part of Python"),
        (["sys.py"], "'sys' is also the name of a part of Python"),
        (
            ["search.py", "--like", "none_such"],
            "there is no recipe 'none_such': there are cross_validator_sklearn, file_inference, grid",
        ),
    ],
)
def test_a_wrong_name_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
