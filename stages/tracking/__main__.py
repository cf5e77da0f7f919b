"""`python -m stages.tracking`: create the MLflow database, upload and show runs, register a model.

Without a command it creates the database of runs if there is none.
"""

import contextlib
import os
import sys

import click

from stages.files import workspace
from stages.files.params import load_params
from stages.tracking import address, copies, links, registry, runs, store

SERVER = {  # environment of a single-user server
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for evaluations of language models
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",  # a matter of MLflow's own
}


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Create the database of runs if there is none."""
    if context.invoked_subcommand is None:
        store.connect()


@main.command()
def sync() -> None:
    """Upload the runs, or the parts of runs, that the server of MLFLOW_TRACKING_URI lacks."""
    server = address.server_uri()
    if server is None:
        raise click.UsageError("MLFLOW_TRACKING_URI must be the address of an MLflow server, http://...")
    try:
        done = copies.upload(store.connect())
    except copies.ServerError as error:
        raise click.ClickException(f"{error}; completed uploads are not repeated") from None
    click.echo(
        f"{address.shown(server)}: {done.uploaded} of {done.runs} runs uploaded, the rest already existed"
    )


@main.command()
@click.option("--port", default=links.PORT, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> None:
    """Serve the runs on 127.0.0.1; if MLFLOW_TRACKING_URI names a server, only print its addresses."""
    _show_links(port)
    sys.stdout.flush()
    if address.server_uri():
        return
    artifacts = (workspace.root() / "mlartifacts").as_uri()
    os.execve(
        sys.executable,
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", address.store_uri(), "--host", "127.0.0.1",
         "--port", str(port), "--default-artifact-root", artifacts, "--workers", "1"],
        {**os.environ, **SERVER},
    )  # fmt: skip


@main.command("links")
def show_links() -> None:
    """Print the addresses of the MLflow pages that compare the nets."""
    _show_links(links.PORT)


def _show_links(port: int) -> None:
    data = load_params().data.name
    local = store.connect()
    links.show(local, data, runs.find_parent(local, data), port)


@main.command("mirror")
def mirror_results() -> None:
    """Log the results in metrics/<data.name> to MLflow, unless the run of this state of the workspace has them."""
    from stages.tracking import mirror  # imports pandas, which nothing else here needs

    params = load_params()
    experiment = runs.open_experiment(params)
    if not experiment.client.get_run(experiment.parent).data.metrics:
        mirror.mirror_files(params)


@main.command()
@click.option("--experiment", "name", help="DVC experiment; by default the last one that ended")
def register(name: str | None) -> None:
    """Register the best seed of the push-pull net with the lowest mean mCE (E if there is no AlexNet) over seeds."""
    data = load_params().data.name
    client = store.connect()
    try:
        experiment = runs.find_experiment(client, data)
        if address.server_uri():
            local, client = client, copies.connect()
            copies.upload(local)
            experiment = copies.find_experiment(client, data)
        if experiment is None:
            raise click.ClickException(f"MLflow has no runs on {data}; `dvc repro` makes them")
        best = registry.best_run(client, experiment, name)
        model = registry.model_of(client, best)
    except copies.ServerError as error:
        raise click.ClickException(str(error)) from None
    # With a database, MLflow's registry looks for the model in its global store.
    with contextlib.nullcontext() if address.server_uri() else store.global_store():
        version = registry.register(client, f"pushpull-{data}", best, model)
    click.echo(
        f"{best.info.run_name} of {best.data.tags['dvc.exp']}, seed {best.data.tags['seed']}: "
        f"models:/pushpull-{data}@{registry.ALIAS} is version {version}"
    )


if __name__ == "__main__":
    main(prog_name="python -m stages.tracking")
