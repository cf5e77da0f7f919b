"""The results of all nets as runs in MLflow: by `aggregate`, and after `make repro` those that DVC found in Git.

In a fresh clone the nets are trained, since models are not in Git, but come out as they were; DVC then keeps the
measurements that are in Git and runs no stage that could log them.
"""

from pathlib import Path

import click
import pandas as pd

from stages import tracking
from stages.params import Params, load_params
from stages.results import gather


@click.command()
def main() -> None:
    """Log the results in metrics/<data.name> to MLflow, unless the run of this state of the workspace has them."""
    params = load_params()
    folder = Path("metrics") / params.data.name
    client = tracking.connect()
    experiment = tracking.experiment_id(client, params.data.name)
    if client.get_run(tracking.parent_run(client, experiment, params)).data.metrics:
        return
    summary = pd.read_csv(folder / "summary.csv")
    mirror(
        params,
        folder,
        gather(folder / "corruption", params, ["corruption", "severity"]),
        gather(folder / "perturbation", params, ["perturbation", "protocol", "metric"]),
        gather(folder / "history", params, ["epoch"]),
        summary[summary.net.isin(params.nets)],
    )


def mirror(
    params: Params,
    folder: Path,
    corruption: pd.DataFrame,
    perturbation: pd.DataFrame,
    history: pd.DataFrame,
    summary: pd.DataFrame,
) -> None:
    """Give every net and seed its run in MLflow with all its measurements, and the parent run the means."""
    client = tracking.connect()
    experiment = tracking.experiment_id(client, params.data.name)
    parent = tracking.parent_run(client, experiment, params)
    by_seed = summary.set_index(["net", "seed"])
    for net, seed in by_seed.index:
        found = tracking.find_child(client, experiment, parent, net, seed)
        run = found.info.run_id if found else None
        if run is None:  # DVC took the net from its cache, so no training logged it
            run = tracking.child_run(client, experiment, parent, params, net, seed, {"dvc.cached": "true"})
            rows = history[(history.net == net) & (history.seed == seed)].drop(columns=["net", "seed"])
            tracking.log_curve(client, run, rows.to_dict("records"))
        values = {f"test/{key}": value for key, value in by_seed.loc[(net, seed)].dropna().items()}
        errors = corruption[(corruption.net == net) & (corruption.seed == seed)]
        values |= {
            f"corruption/{k}": v for k, v in errors.groupby("corruption").error.mean().items() if k != "clean"
        }
        flips = perturbation[(perturbation.net == net) & (perturbation.seed == seed)]
        flips = flips[(flips.protocol == "hendrycks") & (flips.metric == "flip_probability")]
        values |= {f"perturbation/{k}": v for k, v in zip(flips.perturbation, flips.value, strict=True)}
        tracking.log_metrics(client, run, values)
        client.set_terminated(run)
    means = summary.drop(columns="seed").groupby("net", sort=False).mean()
    values = {f"{key}/{net}": value for net, row in means.iterrows() for key, value in row.dropna().items()}
    tracking.log_metrics(client, parent, values)
    for name in ("tables.md", "corruption.csv", "perturbation.csv", "summary.csv"):
        client.log_artifact(parent, str(folder / name))
    client.set_terminated(parent)


if __name__ == "__main__":
    main()
