"""After `make repro`: give MLflow the measurements that DVC found in Git and therefore did not make again.

In a fresh clone the nets are trained, since models are not in Git, but come out as they were; DVC then keeps the
measurements that are in Git and runs no stage that could log them.
"""

from pathlib import Path

import click
import pandas as pd

from stages import tracking
from stages.aggregate import gather, mirror
from stages.params import load_params


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


if __name__ == "__main__":
    main()
