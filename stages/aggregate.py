"""Stage `aggregate`: what was measured of all nets of params.yaml as tidy CSV, summary and tables, and in MLflow."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd

from robustness.benchmark import Baseline, undefined_relative
from robustness.names import CORRUPTIONS, MAIN_CORRUPTIONS, PERTURBATIONS
from stages.mirror import mirror
from stages.params import Params, load_params
from stages.results import choose_baseline, gather, pairs, summarise_nets
from stages.tables import write_csv, write_text

HEADINGS = {
    "E_clean": "E clean",
    "E_best": "E clean, best epoch (paper protocol)",
    "E_corr": "E",
    "mCE": "mCE",
    "rCE": "rCE",
    "mCE_15": "mCE, main 15",
    "rCE_15": "rCE, main 15",
    "mFP": "mFP",
    "mFP_official": "mFP, official protocol",
}


@click.command()
def main() -> None:
    """Gather the results of every net of params.yaml into metrics/<data>/."""
    params = load_params()
    folder = Path("metrics") / params.data.name
    corruption = gather(folder / "corruption", params, ["corruption", "severity"])
    perturbation = gather(folder / "perturbation", params, ["perturbation", "protocol", "metric"])
    history = gather(folder / "history", params, ["epoch"])
    own_corruption, own_perturbation = corruption, perturbation
    corruption = with_official(corruption, folder / "official" / "corruption.csv")
    perturbation = with_official(perturbation, folder / "official" / "perturbation.csv")
    archs = {name: net.arch for name, net in params.nets.items()}
    layers = {name: params.blocks[net.block].layers for name, net in params.nets.items()}
    couples = pairs(archs, layers)
    baseline = choose_baseline(params.data.name, corruption, archs)
    summary = summarise_nets(corruption, perturbation, history, baseline)

    write_csv(folder / "corruption.csv", corruption)
    write_csv(folder / "perturbation.csv", perturbation)
    write_csv(folder / "summary.csv", summary)
    means = summary.drop(columns="seed").groupby("net", sort=False).mean()
    rounded = {
        net: {key: round(value, 4) for key, value in row.dropna().items()} for net, row in means.iterrows()
    }
    write_text(folder / "summary.json", json.dumps(rounded, indent=2) + "\n")
    write_csv(folder / "bars.csv", corruption_bars(corruption))
    text = report(params, corruption, perturbation, summary, baseline, couples)
    write_text(folder / "tables.md", text)
    click.echo(text)
    mirror(params, folder, own_corruption, own_perturbation, history, summary[summary.net.isin(params.nets)])


def with_official(own: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Our own measurements and below them those of the authors' weights, if any were measured."""
    official = pd.read_csv(path)
    return own if official.empty else pd.concat([own, official], ignore_index=True)


def corruption_bars(corruption: pd.DataFrame) -> pd.DataFrame:
    """Mean error of each net on each corruption, one row each, for `dvc plots`."""
    bars = corruption.groupby(["net", "corruption"], sort=False).error.mean().reset_index()
    return bars.assign(bar=bars.corruption + " " + bars.net)[["bar", "net", "corruption", "error"]]


def report(
    params: Params,
    corruption: pd.DataFrame,
    perturbation: pd.DataFrame,
    summary: pd.DataFrame,
    baseline: Baseline | None,
    couples: Sequence[tuple[str, str]],
) -> str:
    """The Markdown tables, with what is needed to read them."""
    measured = [name for name in CORRUPTIONS if name in set(corruption.corruption)]
    main = [name for name in measured if name in MAIN_CORRUPTIONS]
    made = "published" if params.data.corrupted == "download" else "generated from the test images"
    lines = [
        f"# {params.data.name}",
        "",
        f"Errors in percent, mean over {len(params.train.seeds)} seeds ± standard deviation; last epoch of training. "
        f"Corrupted and perturbed sets: {made}. {len(measured)} corruptions at 5 severities, {len(main)} of them "
        "of the benchmark's main set.",
    ]
    if baseline is None:
        lines += ["No mCE and rCE: there is no AlexNet among the nets to normalise them."]
    else:
        lines += [f"CE and rCE are normalised by {baseline.source}."]
        if undefined := undefined_relative(baseline, measured):
            lines += [
                f"rCE leaves out {', '.join(undefined)}: that AlexNet errs no more there than on clean images."
            ]
    columns = [column for column in HEADINGS if column in summary and summary[column].notna().any()]
    lines += ["", "## Overall", "", overall(summary, columns)]
    if couples:
        lines += [
            "",
            "## Push-pull minus baseline, paired by seed",
            "",
            differences(summary, columns, couples),
        ]
    lines += ["", "## Error by corruption, mean over severities", ""]
    lines += [by_condition(corruption, "corruption", "error", ["clean", *measured], 1)]
    flips = perturbation[(perturbation.protocol == "hendrycks") & (perturbation.metric == "flip_probability")]
    if not flips.empty:
        names = [name for name in PERTURBATIONS if name in set(flips.perturbation)]
        lines += ["", "## Flip probability by perturbation, percent", ""]
        lines += ["Noises are compared with the first frame, all others with the previous one.", ""]
        lines += [by_condition(flips, "perturbation", "value", names, 100)]
    return "\n".join(lines) + "\n"


def overall(summary: pd.DataFrame, columns: Sequence[str]) -> str:
    """One row a net."""
    rows = []
    for net, table in summary.groupby("net", sort=False):
        rows.append({"net": net} | {HEADINGS[column]: spread(table[column]) for column in columns})
    return markdown(pd.DataFrame(rows))


def differences(summary: pd.DataFrame, columns: Sequence[str], couples: Sequence[tuple[str, str]]) -> str:
    """One row a couple: the mean over common seeds of push-pull minus baseline."""
    by_seed = summary.set_index(["net", "seed"])[list(columns)]
    rows = []
    for plain, pushpull in couples:
        difference = (by_seed.loc[pushpull] - by_seed.loc[plain]).dropna(how="all")
        rows.append(
            {"nets": f"{pushpull} - {plain}"}
            | {HEADINGS[c]: spread(difference[c], signed=True) for c in columns}
        )
    return markdown(pd.DataFrame(rows))


def by_condition(table: pd.DataFrame, key: str, value: str, names: Sequence[str], factor: float) -> str:
    """One row a corruption or perturbation, one column a net, the best net of a row in bold."""
    by_seed = factor * table.groupby(["net", "seed", key], sort=False)[value].mean()
    nets = list(dict.fromkeys(table.net))
    rows = []
    for name in names:
        cells = {net: by_seed[net].xs(name, level=key) for net in nets}
        best = min(round(values.mean(), 2) for values in cells.values())
        texts = {}
        for net, values in cells.items():
            text = spread(values)
            texts[net] = f"**{text}**" if round(values.mean(), 2) == best else text
        rows.append({key: name} | texts)
    return markdown(pd.DataFrame(rows))


def spread(values: pd.Series, signed: bool = False) -> str:
    """`12.34 ± 0.56`, mean and standard deviation; the mean alone for a single seed."""
    mean = f"{values.mean():{'+' if signed else ''}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1):.2f}"


def markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    main()
