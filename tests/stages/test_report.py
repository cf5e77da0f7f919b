"""The report page and its charts: what it says, and that a browser shows it without a network."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image

from archives import form
from common_corruptions.recipes.names import CORRUPTION_GROUPS
from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from stages.page import charts, figures, paired, provenance, sections
from stages.report import main, put_away
from stages.tables import table
from tests.conftest import ROOT
from tests.stages.yaml_files import without_presets, write_yaml

NETS = {
    "alexnet": {"block": "conv", "arch": "alexnet"},
    "resnet20": {"block": "conv", "arch": "resnet20"},
    "resnet20-pp": {"block": "pushpull", "arch": "resnet20"},
}
CORRUPTIONS = ["gaussian_noise", "defocus_blur", "snow", "contrast"]
# Error at severity s of corruption c is base + slope * s + seed, so that every mean is known.
BASE = {"alexnet": 20.0, "resnet20": 9.0, "resnet20-pp": 7.0}
SLOPE = {"gaussian_noise": 4.0, "defocus_blur": 3.0, "snow": 2.0, "contrast": 1.0}


def write(folder: Path, name: str, rows: list, columns: list[str]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory, empty_store) -> Path:
    """A folder with parameters, images and measurements that follow a formula."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.setenv("DVC_ROOT", str(root))
        shutil.copy(empty_store, root)
        Path("data").symlink_to(ROOT / "data")
        params = without_presets(read_yaml(ROOT / "params.yaml"))
        params["nets"] = NETS
        params["data"] |= {
            "corruptions": CORRUPTIONS,
            "perturbations": ["translate"],
            "path": "/home/someone/set",
        }
        params["train"] |= {"epochs": 2, "milestones": [1]}
        write_yaml(Path("params.yaml"), params)
        images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        labels = np.arange(12, dtype=np.uint8) % 3
        form.save_clean(Path("datasets/digits/clean"), {"train": (images, labels), "test": (images, labels)})
        write_measurements(Path("metrics/digits"))
        result = CliRunner().invoke(main, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        yield root


def write_measurements(folder: Path) -> None:
    seeds = (0, 1)
    corruption = [(net, seed, "clean", 0, base + seed) for net, base in BASE.items() for seed in seeds]
    corruption += [
        (net, seed, name, severity, BASE[net] + slope * severity + seed)
        for net in BASE for seed in seeds for name, slope in SLOPE.items() for severity in range(1, 6)
    ]  # fmt: skip
    columns = ["net", "seed", "corruption", "severity", "error"]
    write(folder, "corruption.csv", corruption, columns)
    for net in NETS:
        write(folder, f"corruption/{net}.csv", [row for row in corruption if row[0] == net], columns)
    flips = [
        (net, seed, "translate", protocol, "flip_probability", 0.125)
        for net in NETS for seed in seeds for protocol in ("hendrycks", "official")
    ]  # fmt: skip
    write(folder, "perturbation.csv", flips, ["net", "seed", "perturbation", "protocol", "metric", "value"])
    for net in NETS:
        rows = [(net, s, epoch, 0.1, 1.0, 50.0 / epoch, 40.0 / epoch + s) for s in seeds for epoch in (1, 2)]
        columns = ["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"]
        write(folder, f"history/{net}.csv", rows, columns)
    summary = [(net, s, BASE[net] + s, BASE[net] + 7.5 + s, 100.0, 12.5) for net in NETS for s in seeds]
    write(folder, "summary.csv", summary, ["net", "seed", "E_clean", "E_corr", "mCE", "mFP"])
    difference = [
        ("resnet20-pp", "resnet20", name, -2.0, -3.0, -1.0, -2.5, -1.5, "error")
        for name in ("clean", *CORRUPTIONS, "mean")
    ]
    columns = ["pushpull", "baseline", "condition", "difference", "low", "high", "low_images", "high_images"]
    write(folder, "tables/difference.csv", difference, [*columns, "measure"])
    shown = pd.DataFrame({"net": ["b", "c", "a"], "E": ["**9.5 ± 1.0**", "10.5", ""]})
    for name in ("tables/table2", "tables/another", "tables/difference", "studies/table4"):
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        content = table.data(shown, f"Title of {path.stem}", "A note with <b>.")
        path.write_text(json.dumps(content), encoding="utf-8")
    counts = [
        ("corrupted", label, guess, 8 if label == guess else 1) for label in range(3) for guess in range(3)
    ]
    write(folder, "tables/confusion/resnet20.csv", counts, ["set", "label", "predicted", "count"])
    for name in ("corruptions.png", "perturbations.png"):
        shutil.copy(ROOT / "metrics" / "digits" / name, folder / name)
    shutil.copy(ROOT / "metrics" / "digits" / "studies" / "figure4.png", folder / "studies")


@pytest.fixture(scope="module")
def page(project) -> str:
    return (project / "metrics" / "digits" / "report.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body).replace("&nbsp;", " "))


def test_headline_is_the_paired_difference(page):
    text = text_of(page)
    assert "−2.00 points" in text
    assert "resnet20 errs on 17.00 % of the corrupted images, resnet20-pp on 15.00 %" in text
    assert "over 2 seeds and images, reaches from −3.00 to −1.00;" in text
    assert "from −2.50 to −1.50" in text
    assert "On clean images they err on 9.50 % and 7.50 %" in text


def test_heat_map_holds_means_over_severities_and_seeds(page):
    row = re.search(r'<th scope="row">contrast</th>.*?</tr>', page, re.S)[0]
    # The mean of severities is 3, that of seeds 0.5: base + slope * 3 + 0.5, with a deviation of 1 / sqrt(2).
    assert re.findall(r">(\d+\.\d\d)<", row) == ["23.50", "12.50", "10.50"]
    assert re.findall(r"± (\d+\.\d\d)", row) == ["0.71"] * 3
    shades = re.findall(r"--shade:([\d.]+)", row)
    assert float(shades[0]) == pytest.approx(23.5 / 32.5, abs=1e-3)  # the most is alexnet's on gaussian noise
    assert row.count("best") == 1


def test_tables_stand_in_order_and_are_escaped(page):
    assert re.findall(r"Title of (\w+)", page) == ["difference", "table2", "table4", "another"]
    assert "A note with &lt;b&gt;." in page
    assert '<td class="num"><strong>9.5 ± 1.0</strong></td>' in page


def test_how_it_was_run(page, project):
    text = text_of(page)
    assert "12 training and 12 test images, 32 × 32 pixels" in text
    assert "3 of them are of the benchmark's main set" not in text  # all four are of the main set
    assert "4 at 5 severities, of 12 images each; 4 of them are" in text
    assert "normalised by the mean of our own alexnet" in text.replace("&#39;", "'")
    assert "/home/someone" not in page


def test_page_stands_alone_and_is_small(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#|https://doi\.org)[^"]*"', page)
    assert not re.findall(r"url\(|@import|<iframe|<object", page)
    assert "default-src 'none'" in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert len(page) < 1.5e6


def test_page_depends_on_the_dependencies_of_the_stage_alone(project, tmp_path):
    """Another folder with these alone, another commit, locale and hash seed, and no MLflow give the same bytes."""
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["report"]
    named = [name.replace("${data.name}", "digits") for name in stage["deps"]]
    code = ("archives/", "common_corruptions/", "pushpull", "stages/")
    for name in (name for name in named if not name.startswith(code)):
        place, source = tmp_path / name, project / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    params = read_yaml(project / "params.yaml")
    params["evaluate"] |= {"batch_size": 7}
    params["official"] |= {"path": "/home/someone/nets"}
    assert not {"evaluate", "official"} & set(stage["params"])
    write_yaml(tmp_path / "params.yaml", params)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", *identity, "commit", "-qm", "a", "--allow-empty"], cwd=tmp_path, check=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", "DVC_ROOT": str(tmp_path),
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    without = "from stages.page import provenance; provenance.attach = print"
    command = [sys.executable, "-c", f"{without}; from stages.report import main; main()"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for out in ("report.html", "curves.csv", "figures/figure2.png", "figures/figure7.png"):
        assert (tmp_path / "metrics/digits" / out).read_bytes() == (
            project / "metrics/digits" / out
        ).read_bytes()


def test_mlflow_keeps_what_made_the_page(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.data.tags["version.torch"] == metadata.version("torch")
    assert "cores" in run.data.tags["machine"]
    assert run.data.tags["code"]


def test_curves_for_dvc_are_means_over_seeds(project):
    curves = pd.read_csv(project / "metrics/digits/curves.csv")
    assert curves[curves.net == "resnet20"].test_error.tolist() == [40.5, 20.5]
    assert curves.net.unique().tolist() == list(NETS)


@pytest.fixture
def copy(project, tmp_path, monkeypatch) -> None:
    """A copy of the project as the current folder, for its text: figures stay as they are, and nothing is logged."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "copy"))
    monkeypatch.setattr(figures, "save", lambda figure, path: figures.plt.close(figure))
    monkeypatch.setattr(provenance, "attach", lambda params, page: None)


def test_page_says_what_is_missing(copy):
    metrics = Path("metrics/digits")
    for name in ("corruption.csv", "summary.csv", "perturbation.csv", "corruption/resnet20-pp.csv"):
        table = pd.read_csv(metrics / name)
        lost = table.net == "resnet20-pp"
        if name.startswith("corruption"):
            lost &= table.corruption == "contrast"
        table[~lost].to_csv(metrics / name, index=False)
    (metrics / "history" / "resnet20-pp.csv").unlink()
    shutil.rmtree(metrics / "tables")
    assert CliRunner().invoke(main, catch_exceptions=False).exit_code == 0
    page = (metrics / "report.html").read_text(encoding="utf-8")
    missing = re.search(r'<section id="warnings".*?</section>', page, re.S)[0]
    assert re.search(r"resnet20-pp.*contrast", missing)
    assert "history/resnet20-pp.csv" in missing
    assert 'id="result"' not in page  # no mean over corruptions without one of them
    row = re.search(r'<th scope="row">contrast</th>.*?</tr>', page, re.S)[0]
    assert re.findall(r">(\d+\.\d\d|–)<", row) == ["23.50", "12.50", "–"]
    assert "resnet20-pp, training error" not in page


@pytest.mark.parametrize("whose", ["all", "own"])
def test_page_says_on_what_the_nets_were_trained(page, copy, whose):
    text = text_of(page)
    assert "images corrupted in ways it never saw?" in text and "trained on clean images alone, with" in text
    assert "4 corruptions at five severities that neither has seen. " in text
    params = read_yaml(Path("params.yaml"))
    train = params["train"] if whose == "all" else params["nets"]["alexnet"].setdefault("train", {})
    train["augment"] = "trivial"
    write_yaml(Path("params.yaml"), params)
    assert CliRunner().invoke(main, catch_exceptions=False).exit_code == 0
    text = text_of(Path("metrics/digits/report.html").read_text(encoding="utf-8"))
    assert (
        "are trained on clean images alone" not in text
        and "never saw" not in text
        and "neither has seen" not in text
    )
    nets = " (alexnet)" if whose == "own" else ""
    assert "err less on corrupted images? Nets are trained with a convolution" in text
    others = " The other nets were trained on clean images alone." if whose == "own" else ""
    told = f"Trained here on images augmented by TrivialAugment{nets}.{others} Brightness, contrast, color"
    assert f"five severities. {told}" in text


def test_results_of_another_set_that_dvc_put_away_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mine", "other"):
        write(Path("metrics") / name, "curves.csv", [], ["net"])
        write(Path("metrics") / name, "history/a.csv", [], ["net"])
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "."], check=True)
    assert put_away("mine") == []
    for name in ("digits", "mine"):
        shutil.rmtree(Path("metrics") / name)
    assert put_away("mine") == ["digits"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.csv", "", "summary.csv is not a table"),
        ("summary.csv", None, "no metrics/digits/summary.csv; `dvc repro aggregate` makes it"),
        ("corruption.csv", "<html>", "corruption.csv has no column net, seed, corruption, severity, error"),
        ("perturbation.csv", 'net,seed\n"a,0', "perturbation.csv is not a table"),
        ("tables/difference.csv", "net\na", "difference.csv has no column measure"),
        ("tables/confusion/resnet20.csv", "\0", "resnet20.csv has no column set"),
    ],
)
def test_damaged_table_is_one_line(copy, name, content, message):
    path = Path("metrics/digits", name)
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert message in done.output
    assert done.output.count("\n") == 1


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(Exception, match=r"no .*corruptions\.png; `dvc repro` makes it"):
        sections.picture(tmp_path / "corruptions.png")


def test_severity_chart_draws_what_it_is_given():
    table = pd.DataFrame(
        [("net", seed, severity, 10.0 * severity + seed) for seed in (0, 2) for severity in range(6)],
        columns=["net", "seed", "severity", "error"],
    )
    svg = charts.severity(table, {"net": 1}, 60, "a label")
    assert "<title>net: 1.0, 11.0, 21.0, 31.0, 41.0, 51.0 %</title>" in svg
    assert 'aria-label="a label"' in svg
    assert "var(--s1)" in svg
    assert "#" not in svg  # no colour of its own
    line = re.search(r'</title><path d="([^"]+)"', svg)[1]
    x, y = np.array(re.findall(r"[-\d.]+", line), dtype=float).reshape(-1, 2).T
    assert np.allclose(np.diff(x), np.diff(x)[0], atol=0.02)
    assert np.allclose(np.diff(y), np.diff(y)[0], atol=0.02)
    assert np.diff(y)[0] < 0  # upwards


def test_difference_chart_colours_by_the_interval():
    rows = [("a", -2, -3, -1, -2.5, -1.5), ("b", 2, 1, 3, 1.5, 2.5), ("c", 0, -50, 50, -1, 1)]
    columns = ["condition", "difference", "low", "high", "low_images", "high_images"]
    svg = charts.differences(pd.DataFrame(rows, columns=columns), "label")
    marks = re.findall(r"<title>(\w): [^<]*</title><path d=\"([^\"]+)\" style=\"[^\"]*var\(--(\w+)\)", svg)
    assert [(name, colour) for name, _, colour in marks] == [
        (n, c) for n, c in (("a", "s1"), ("b", "s0"), ("c", "s4")) for _ in range(3)
    ]
    one_seed = pd.DataFrame([("d", -2, np.nan, np.nan, -2.5, -1.5)], columns=columns)
    assert (
        charts.differences(one_seed, "label").count("<title>d: -2.00 points; over images -2.50 to -1.50<")
        == 2
    )
    across = [float(value) for value in re.findall(r"[ML] ([-\d.]+)", marks[6][1])]
    assert across[0] >= 104  # the long interval is cut at the edges of the axes
    assert across[1] <= 346


def test_push_pull_keeps_to_its_response_under_noise(tmp_path, monkeypatch):
    y, x = np.mgrid[:32, :32]
    bar = np.where(abs(x - y) < 6, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    kept = figures.response_maps(tmp_path / "figure2.png", bar, alpha=1.0, scale=2.0)
    assert [kept["convolution"][0], kept["push-pull"][0]] == pytest.approx([1, 1])
    assert kept["push-pull"][-1] > kept["convolution"][-1]
    assert (tmp_path / "figure2.png").stat().st_size > 10_000
    monkeypatch.setattr(figures, "save", lambda figure, path: figures.plt.close(figure))
    without = figures.response_maps(tmp_path / "figure2.png", bar, alpha=0.0, scale=2.0)["push-pull"]
    assert without[-1] < kept["push-pull"][-1]  # the pull is what keeps it


def opened(chromium, path: Path, **options):
    """The page of a file, and lists that fill with what goes wrong and with requests for anything else."""
    tab = chromium.new_context(**options).new_page()
    errors, requests = [], []
    tab.on(
        "console",
        lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: errors.append(str(error)))

    def judge(route):
        if route.request.url == path.as_uri() or route.request.url.startswith("data:"):
            return route.continue_()
        requests.append(route.request.url)
        return route.abort()

    tab.route("**/*", judge)
    tab.goto(path.as_uri())
    return tab, errors, requests


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_browser_shows_the_page(chromium, project, width, scheme):
    tab, errors, requests = opened(
        chromium,
        project / "metrics/digits/report.html",
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
    )
    assert errors == requests == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # tables scroll, the page does not
    broken = "[...document.images].filter(image => !image.naturalWidth).length"
    assert tab.evaluate(broken) == 0
    charts_drawn = (
        1 + 1 + len(CORRUPTIONS) + 2
    )  # bars, differences, severities, training of two architectures
    assert tab.locator("svg.chart").count() == charts_drawn
    assert tab.locator("svg.chart").first.bounding_box()["width"] > 250
    paper, ink = tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 250


def test_columns_sort(chromium, project):
    tab, errors, _ = opened(chromium, project / "metrics/digits/report.html")
    table = tab.locator("#table-table2 table")
    heading = table.locator("th").nth(1)
    assert heading.get_attribute("aria-sort") == "none"
    assert heading.get_attribute("class") == "num"
    orders = {"ascending": ["b", "c", "a"], "descending": ["c", "b", "a"]}  # 9.5, 10.5, empty last
    for order, nets in orders.items():
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == order
        assert table.locator("tbody td:first-child").all_inner_texts() == nets
    table.locator("th").first.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert table.locator("tbody td:first-child").all_inner_texts() == ["a", "b", "c"]
    assert errors == []


def test_print_fits_the_paper(chromium, project, tmp_path):
    tab, errors, requests = opened(chromium, project / "metrics/digits/report.html", color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    tab.set_viewport_size({"width": 688, "height": 1000})  # A4 less the margins, at 96 pixels an inch
    wide = "[...document.querySelectorAll('table, svg, img')].filter(e => e.getBoundingClientRect().right > 690).length"
    assert tab.evaluate(wide) == 0
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert errors == requests == []


def test_kinds_cover_the_benchmark():
    assert sections.kinds()["fog"] == "weather"
    assert len(sections.kinds()) == sum(map(len, CORRUPTION_GROUPS.values())) == 19


def test_the_figure_of_differences_shows_every_source(tmp_path):
    """Ours and the authors' weights with bounds, the published ones without; equal numbers give equal bytes."""
    names = ["mean", "clean", "fog"]
    panels = {
        "resnet20": [
            figures.Differences("ours", names, [-1.0, 1.0, 0.5], [-2.0, 0.0, -1.0], [0.0, 2.0, 2.0]),
            figures.Differences("theirs", names, [-1.0, 1.0, 0.5], [-2.0, 0.0, -1.0], [0.0, 2.0, 2.0]),
            figures.Differences("published", names, [-0.9, 0.7, 1.0]),
        ],
        "resnet44": [figures.Differences("published", names[1:], [0.1, 0.0])],
    }
    content = []
    for name in ("first", "second"):
        figures.differences(tmp_path / f"{name}.png", panels)
        content.append((tmp_path / f"{name}.png").read_bytes())
    assert content[0] == content[1]
    picture = Image.open(tmp_path / "first.png").convert("RGB")
    drawn = {colour for _, colour in picture.getcolors(1 << 24)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in (*figures.DIFFERENCES[:2], figures.INK)} <= drawn


def test_series_of_the_figure_are_those_of_the_tables(project, monkeypatch):
    monkeypatch.chdir(project)
    params = load_params()
    empty = pd.DataFrame()
    corruption = pd.read_csv("metrics/digits/corruption.csv")
    study = sections.Study(params, corruption, empty, empty, empty, Path("metrics/digits"))
    read = paired.read_differences(Path("metrics/digits/tables/difference.csv"))
    (panel,) = paired.panels(study, read, paired.read_agreement(Path("absent.csv"))).values()
    (own,) = panel  # the digits have no published figures
    assert own.conditions == ["clean", *CORRUPTIONS, "mean"] and own.label.endswith("over seeds and images")
    assert (own.difference[0], own.low[0], own.high[0]) == (-2.0, -3.0, -1.0)
