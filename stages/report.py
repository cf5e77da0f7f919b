"""Stage `report`: one self-contained page with the question, the result, every table and plot, and how it was run.

The page needs no network: styles, script, charts and pictures are embedded, and its content security policy lets the
browser load nothing else. Numbers come from the tidy files of `aggregate`; the tables that `aggregate` and the studies
write to metrics/<data>/{tables,studies} are shown unchanged. The page's bytes depend only on the stage's dependencies
in dvc.yaml: it holds no time, commit, machine or content of MLflow.
"""

import re
from pathlib import Path

import click
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from common_corruptions.recipes.names import MAIN_CORRUPTIONS, PERTURBATIONS
from stages.files import workspace
from stages.files.datasets import full_name, load_split
from stages.files.interruption import stopping
from stages.files.measurements import check
from stages.files.params import load_params
from stages.files.published import origin
from stages.files.schema import Block
from stages.files.writing import read_table, write_csv, write_text
from stages.files.yaml_file import yaml_text
from stages.page import figures, paired, provenance, sections
from stages.page.sections import Study
from stages.tables import paper
from stages.tables.augmentation import augmentation_beside_the_test
from stages.tables.caption import describe_run, seeds_of_nets
from stages.tables.summary import choose_baseline

TOLERANCE = 1e-4  # for a difference in points: the tables of measurements hold eight digits

TEMPLATES = Path(__file__).parent / "page" / "templates"


@click.command()
@stopping("starts over")
def main() -> None:
    """Write metrics/<data>/report.html, its figures, and the training curves of all nets for `dvc plots`."""
    params = load_params()
    folder = Path("metrics") / params.data.name
    measured = check(folder / "corruption", params, ["corruption", "severity"])
    history = check(folder / "history", params, ["epoch"])
    study = Study(
        params=params,
        corruption=aggregated(folder / "corruption.csv", ["corruption", "severity", "error"]),
        perturbation=aggregated(folder / "perturbation.csv", ["perturbation", "protocol", "metric", "value"]),
        history=history.rows,
        summary=aggregated(folder / "summary.csv", []),
        folder=folder,
    )
    train, test = load_split(params.data.name, "train"), load_split(params.data.name, "test")
    published = published_errors(study)
    write_csv(folder / "curves.csv", mean_curves(study.history))
    differences = paired.read_differences(folder / "tables" / "difference.csv")
    panels = paired.panels(study, differences, paired.read_agreement(folder / "tables" / "agreement.csv"))
    if panels:
        figures.differences(folder / "figures" / "differences.png", panels)
    coupled = dict.fromkeys(net for couple in study.couples for net in couple)
    shown = [net for net in coupled if net in study.nets] or study.nets
    figures.error_bars(
        folder / "figures" / "figure7.png", study.corruption, sections.panels(study), published
    )
    blocks = map(params.block, params.nets)
    papers = (
        block for block in blocks if block.layers and block.pull == "upsampled" and block.alpha != "uniform"
    )
    layer = next(papers, Block())
    kept = figures.response_maps(
        folder / "figures" / "figure2.png", np.array(test.images[0]), layer.alpha, layer.scale
    )

    tested = min(
        len(test.labels), params.data.corrupted_images or len(test.labels)
    )  # the clean error is of the same images as the corrupted ones
    baseline, normaliser = choose_baseline(params, measured.rows, measured.faults)
    private = {"official": True, "data": {"path", "archives"}}  # folders of this machine
    untrained = {} if params.nets else {"train": True}
    described = params.model_dump(exclude={"evaluate": True, **private, **untrained})
    page = render(
        name=full_name(params.data.name, tested),
        augmentation=augmentation_beside_the_test(params),
        measured=[name for name in sections.kinds() if name in set(study.corruption.corruption)],
        about=describe_run(params, normaliser, baseline, tested),
        warnings=measured.warnings + history.warnings,
        headline=headline(study, differences),
        overall=sections.overall(study),
        keys=sections.legend(study, study.nets),
        difference_figure=sections.picture(folder / "figures" / "differences.png") if panels else None,
        coupled_keys=sections.legend(study, shown),
        by_corruption=sections.by_corruption(study, published, differences),
        has_published=bool(published),
        has_intervals=not differences.empty,
        severities=sections.severities(study),
        heat=sections.heat(
            study.corruption, "corruption", "error", ["clean", *sections.kinds()], sections.kinds()
        ),
        flips=sections.heat(sections.flips(study.perturbation), "perturbation", "value", PERTURBATIONS, {}),
        corruptions=sections.picture(folder / "corruptions.png"),
        perturbations=sections.picture(folder / "perturbations.png"),
        response=sections.picture(folder / "figures" / "figure2.png"),
        kept={name: values[-1] for name, values in kept.items()},
        noise=figures.NOISE[-1],
        training=sections.training(study),
        tables=sections.tables(folder / "tables", folder / "studies"),
        study_figures=sections.study_figures(folder / "studies"),
        confusions=sections.confusions(folder / "tables" / "confusion", study.nets),
        run=how_it_was_run(study, len(train.labels), test.images.shape, normaliser),
        params=yaml_text(described),
    )
    write_text(folder / "report.html", page)
    provenance.attach(params, folder / "report.html")
    click.echo(f"{folder / 'report.html'}, {len(page.encode()) / 1e6:.2f} MB")
    if names := put_away(params.data.name):
        click.echo(
            f"Warning: DVC removed the tracked results of {', '.join(names)}, as the pipeline now runs on "
            f"{params.data.name}; `git checkout -- {' '.join(f'metrics/{name}' for name in names)}` restores them; "
            "`dvc exp run ... report`, with the stage named, keeps them",
            err=True,
        )


def put_away(data_name: str) -> list[str]:
    """Other data sets whose results are in Git but missing from the workspace.

    When DVC starts an experiment, it removes outputs that dvc.yaml no longer names. Their names contain the name of the
    data set, so a change of data set removes the results of the previous one.
    """
    lost = workspace.git("ls-files", "--deleted", "--", "metrics").splitlines()
    return list(dict.fromkeys(name for path in lost if (name := Path(path).parts[1]) != data_name))


def aggregated(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a table of all nets; it must have the columns net, seed and these."""
    try:
        return read_table(path, ["net", "seed", *columns])
    except FileNotFoundError:
        raise click.ClickException(f"no {path}; `dvc repro aggregate` makes it") from None


def render(**content: object) -> str:
    """Fill the template; style and script are embedded."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.filters["bold"] = lambda cell: Markup(
        re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(cell)))
    )
    return environment.get_template("report.html").render(
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        **content,
    )


def mean_curves(history: pd.DataFrame) -> pd.DataFrame:
    """The training curves as means over seeds: net, epoch and the measured columns."""
    if history.empty:
        return history.drop(columns="seed")
    return history.groupby(["net", "epoch"], sort=False).mean().drop(columns="seed").reset_index()


def published_errors(study: Study) -> dict[tuple[str, str], float]:
    """Published errors by net and corruption (or "clean"), where they exist for that net and data set.

    For our nets these are the paper's errors, for the authors' weights the errors that the authors released.
    """
    params = study.params
    twins = paper.counterparts(params) if params.nets else study.authors
    figures = paper.table2() if params.nets else paper.released_errors()
    printed = paper.comparable(figures, params).set_index(["net", "condition"]).value
    return {
        (net, condition): value
        for net, twin in twins.items()
        for (printed_net, condition), value in printed.items()
        if printed_net == twin
    }


def headline(study: Study, differences: pd.DataFrame) -> list[dict]:
    """For each pair: E and clean error without and with the layer, the difference paired by seed, and its interval.

    All values are over the seeds that both nets have in common.

    Args:
        study: pairs without a common seed in its summary are left out.
        differences: as `paired.read_differences` returns it; an interval is left out if its difference is not that of
            these seeds.
    """
    by_seed = study.summary.set_index(["net", "seed"])
    intervals = differences[differences.condition == "mean"].set_index(["baseline", "pushpull"])
    baselines = [plain for plain, _ in study.couples]
    rows = []
    for plain, pushpull in study.couples:
        if not {plain, pushpull} <= set(study.summary.net) or "E_corr" not in by_seed:
            continue
        difference = (by_seed.loc[pushpull] - by_seed.loc[plain]).E_corr.dropna()
        if difference.empty:
            continue
        interval = intervals.loc[(plain, pushpull)] if (plain, pushpull) in intervals.index else None
        if interval is not None and abs(interval.difference - difference.mean()) > TOLERANCE:
            interval = None
        common = [by_seed.loc[net].loc[difference.index] for net in (plain, pushpull)]
        rows.append(
            {
                "nets": (plain, pushpull),
                "name": plain if baselines.count(plain) == 1 else f"{plain}, {pushpull}",
                "errors": [own.E_corr.mean() for own in common],
                "clean": [own.E_clean.mean() for own in common],
                "difference": difference.mean(),
                "interval": None
                if interval is None or pd.isna(interval.low)
                else (interval.low, interval.high),
                "images": None if interval is None else (interval.low_images, interval.high_images),
                "seeds": len(difference),
            }
        )
    return rows


def how_it_was_run(
    study: Study, train_images: int, shape: tuple[int, ...], normaliser: str
) -> dict[str, str]:
    """Label -> text of every fact about the run.

    Args:
        study: what was measured.
        train_images: number of training images.
        shape: shape of the test images, (N, H, W, C).
        normaliser: sentence that names the net by which CE and rCE are normalised.
    """
    params, data = study.params, study.params.data
    measured = [name for name in sections.kinds() if name in set(study.corruption.corruption)]
    added = "".join(f", {name} added to the benchmark's" for name in data.added_corruptions())
    main = [name for name in measured if name in MAIN_CORRUPTIONS]
    flipped = set(study.perturbation.perturbation)
    count, height, width, channels = shape
    made = origin(data)
    if "generated" in made:
        made += f", seed {data.seed}"
    corrupted, sequences = (
        count if first is None else min(first, count)
        for first in (data.corrupted_images, data.perturbed_images)
    )
    each = [(", ".join(map(str, seeds)), ", ".join(nets)) for seeds, nets in seeds_of_nets(params).items()]
    whole = f", on all {count:,} test images" if corrupted < count else ""
    trained = {
        "Seeds": "; ".join(seeds if i == 0 else f"{nets}: {seeds}" for i, (seeds, nets) in enumerate(each)),
        "Error": f"of the last epoch; “best epoch” is the smallest test error of a training{whole}, as the paper "
        "reports it",
    }
    authors = {"Nets": "the authors' weights as they were released; nothing was trained here"}
    return {
        "Data": f"{full_name(data.name, count)}: {train_images:,} training and {count:,} test images, "
        f"{height} × {width} pixels, {channels} channels",
        "Corrupted and perturbed sets": made,
        "Corruptions": f"{len(measured)} at 5 severities, of {corrupted:,} images each; {len(main)} of them are of the "
        f"benchmark's main set{added}",
        "Perturbations": f"{len(flipped)}, of {sequences:,} images each" if flipped else "none",
        **(trained if params.nets else authors),
        "mCE and rCE": normaliser,
        "Commit, versions, machine and times": "with the runs in MLflow, `make ui`: this page is the same wherever the "
        "results are",
    }


if __name__ == "__main__":
    main()
