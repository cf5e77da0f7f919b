"""One table as CSV, Markdown and LaTeX."""

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest

from stages.tables.table import escape_latex, latex, markdown, write_table
from tests.conftest import ROOT

DISPLAY = pd.DataFrame({"net": ["resnet20", "resnet20-pp"], "E, %": ["9.00 ± 0.61", "**6.03 ± 0.32**"]})
TIDY = pd.DataFrame({"net": ["resnet20", "resnet20-pp"], "value": [9.0, 6.03]})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removesuffix(r"\\").split("&")]


def test_the_same_table_in_every_form(tmp_path):
    write_table(
        tmp_path / "tables", "table3", DISPLAY, tidy=TIDY, title="Errors of 2_nets", note="100 % sure."
    )
    folder = tmp_path / "tables"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"table3.{kind}" for kind in ("csv", "json", "md", "tex")
    ]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table3.csv"), TIDY)
    text = (folder / "table3.md").read_text(encoding="utf-8")
    assert text.startswith("# Errors of 2_nets\n\n100 % sure.\n\n| net")
    assert "| **6.03 ± 0.32** |" in text
    tex = (folder / "table3.tex").read_text(encoding="utf-8")
    assert r"\caption{Errors of 2\_nets. 100 \% sure.}" in tex
    body = tex.split("\\midrule\n")[1].split("\n\\bottomrule")[0].splitlines()
    assert [cells(line) for line in body] == [
        ["resnet20", r"9.00 $\pm$ 0.61"],
        ["resnet20-pp", r"\textbf{6.03 $\pm$ 0.32}"],
    ]
    assert r"\begin{tabular}{lr}" in tex
    assert r"net & E, \% \\" in tex
    assert json.loads((folder / "table3.json").read_text(encoding="utf-8")) == {
        "title": "Errors of 2_nets",
        "note": "100 % sure.",
        "parts": [
            {
                "heading": "",
                "columns": list(DISPLAY),
                "numeric": [False, True],
                "rows": DISPLAY.to_numpy().tolist(),
            }
        ],
    }


def test_parts_stand_below_their_headings():
    parts = {"resnet20": DISPLAY, "resnet32": DISPLAY}
    text = markdown(parts, level=3)
    assert re.findall(r"^### (.+)$", text, re.M) == ["resnet20", "resnet32"]
    tex = latex("table2", parts, "Errors", "The note.")
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 2
    assert re.findall(r"\\label{(.+)}", tex) == ["tab:table2", "tab:table2-2"]
    assert tex.count("The note.") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian_noise & 5 % of {x}", r"gaussian\_noise \& 5 \% of \{x\}"),
        ("a\\b~c^d#1 $2", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\#1 \$2"),
        ("-2.97 ± 0.92", r"$-$2.97 $\pm$ 0.92"),
        ("[-1.5, -0.5]", "[$-$1.5, $-$0.5]"),
        ("**-2.97**", r"\textbf{$-$2.97}"),
        ("resnet20-pp - resnet20, 1e-4, ResNet-20, 1-5", "resnet20-pp - resnet20, 1e-4, ResNet-20, 1-5"),
        ("26.23†", r"26.23$\dagger$"),
        ("a < b", "a $<$ b"),
    ],
)
def test_latex_prints_the_text(text, expected):
    assert escape_latex(text) == expected


def test_a_row_may_begin_with_a_bracket():
    tex = latex("t", pd.DataFrame({"interval": ["[1, 2]", "[3, 4]"]}), "T", "N.")
    assert "\n{}[1, 2] \\\\\n{}[3, 4] \\\\\n" in tex  # not `\\` followed by `[`, which would be its option


def test_numbers_in_place_of_text_are_refused(tmp_path):
    with pytest.raises(TypeError, match="text alone, got"):
        write_table(tmp_path, "t", pd.DataFrame({"E": [6.0]}), tidy=TIDY, title="T", note="N.")
    assert not list(tmp_path.iterdir())


def test_a_bar_in_a_cell_does_not_split_it():
    assert r"| a\|b |" in markdown(pd.DataFrame({"x": ["a|b"]}), level=2)


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "?"), ("ascii", "?"), ("utf-8", "–")])
def test_a_terminal_that_lacks_a_character_stops_no_stage(encoding, shown):
    script = "from stages.files.writing import show; show('9.00 – 0.61')"
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == f"9.00 {shown} 0.61\n".encode()
