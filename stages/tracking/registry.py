"""`make register`: register the best push-pull net of an experiment in MLflow's model registry as `champion`."""

import click

from stages.tracking import runs

ALIAS = "champion"


def best_run(client, experiment: str, name: str | None):
    """The run of the best seed of the push-pull net with the lowest mean mCE (E if there is no mCE).

    Raises:
        click.ClickException: there is no such experiment, or it measured no push-pull net.
    """
    query = "tags.role = 'experiment' and attributes.status = 'FINISHED'"
    if name:
        query += f" and tags.`dvc.exp` = {runs.quoted(name)}"
    parents = client.search_runs([experiment], query, order_by=["attributes.end_time DESC"])
    if not parents:
        raise click.ClickException(
            f"no finished experiment{f' {name!r}' if name else ''} in MLflow; `dvc exp show` lists them"
        )
    for parent in parents:
        children = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and tags.role = '{runs.NET}'"
        )
        measured = [run for run in children if "test/E_corr" in run.data.metrics]
        if measured:  # studies are experiments too, but have no such metric
            break
    nets: dict[str, list] = {}
    for run in measured:
        if run.data.params.get("layers"):
            nets.setdefault(run.data.tags["net"], []).append(run)
    if not nets:
        raise click.ClickException(f"{parent.info.run_name} measured no push-pull net")
    return min(min(nets.values(), key=lambda runs: sum(map(_error, runs)) / len(runs)), key=_error)


def _error(run) -> float:
    return run.data.metrics.get("test/mCE", run.data.metrics["test/E_corr"])


def model_of(client, run) -> str:
    """Id of the model of a run, or of the training that produced the same weights.

    Raises:
        click.ClickException: MLflow has no training that produced these weights.
    """
    from mlflow.entities import LoggedModelStatus

    tags = run.data.tags
    query = f"tags.net = '{tags['net']}' and tags.seed = '{tags['seed']}'"
    if weights := tags.get("weights"):
        query += f" and tags.weights = '{weights}'"
    else:
        query += f" and attributes.run_id = '{run.info.run_id}'"
    experiment = [run.info.experiment_id]
    for trained in client.search_runs(experiment, query):
        models = client.search_logged_models(experiment, f"source_run_id = '{trained.info.run_id}'")
        whole = [model.model_id for model in models if model.status == LoggedModelStatus.READY]
        if whole:
            return whole[0]
    raise click.ClickException(
        f"{run.info.run_name} was not trained here, so MLflow has no model of it; "
        f"`dvc repro -sf train@{tags['net']}`, then `dvc repro`, trains it"
    )


def register(client, name: str, run, model: str) -> str:
    """Register a logged model, unless it already is, and set the alias; return its version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model}"
    versions = [one for one in client.search_model_versions(f"name = '{name}'") if one.source == source]
    version = versions[0] if versions else client.create_model_version(
        name, source, run.info.run_id, model_id=model, tags={"dvc.exp": run.data.tags["dvc.exp"]}
    )  # fmt: skip
    client.set_registered_model_alias(name, ALIAS, version.version)
    return version.version
