"""`make ui`: MLflow's server on this machine, and the addresses of the views that answer which net is better."""

import os
import sys

import click

from stages import repository, store, tracking, views
from stages.params import load_params


@click.command()
@click.option("--port", default=views.PORT, show_default=True, type=click.IntRange(1, 65535))
def main(port: int) -> None:
    """Serve the runs on 127.0.0.1; where MLFLOW_TRACKING_URI names a server, print its addresses alone."""
    params = load_params()
    local = tracking.connect()
    experiment = tracking.experiment_id(local, params.data.name)
    views.show(local, experiment, tracking.parent_run(local, experiment, params), port)
    sys.stdout.flush()
    if store.server_uri():
        return
    arguments = ["server", "--backend-store-uri", store.store_uri(), "--host", "127.0.0.1"]
    arguments += [
        "--port",
        str(port),
        "--default-artifact-root",
        (repository.root() / "mlartifacts").as_uri(),
    ]
    os.execvp(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


if __name__ == "__main__":
    main()
