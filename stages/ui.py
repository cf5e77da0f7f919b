"""`make ui`: MLflow's server on this machine, and the address of a view that shows the metrics."""

import os
import sys
from urllib.parse import quote

import click

from stages import tracking
from stages.params import load_params


def view(host: str, experiment: str, order_by: str = "metrics.`test/mCE`") -> str:
    """Address of the runs of an experiment as a table sorted by a metric, children beside parents.

    MLflow 3 opens on a page without metric columns unless the address asks for the machine-learning view; sorting by a
    metric flattens parents and children into one table.
    """
    return (
        f"{host}/#/experiments/{experiment}/runs?workflowType=machine_learning"
        f"&orderByKey={quote(order_by)}&orderByAsc=true"
    )


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def main(port: int) -> None:
    """Serve the runs on 127.0.0.1."""
    client = tracking.connect()
    experiment = tracking.experiment_id(client, load_params().data.name)
    uri = tracking.tracking_uri()
    if uri.startswith("http"):
        click.echo(f"The runs are on the server of MLFLOW_TRACKING_URI: {view(uri, experiment)}")
        return
    click.echo(f"Open {view(f'http://127.0.0.1:{port}', experiment)}", err=False)
    sys.stdout.flush()
    arguments = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--default-artifact-root", (tracking.root() / "mlartifacts").as_uri()]
    os.execvp(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


if __name__ == "__main__":
    main()
