"""Which run in MLflow gets the results of a net that was trained several times in one state of the workspace."""

from pathlib import Path

import pandas as pd

from stages.files.params import load_params
from stages.tracking import registry, runs
from stages.tracking.mirror import mirror

NET = "resnet20-pp"


def train(weights: str) -> str:
    """Make the run and the file of weights of a training of seed 0; the id of the run."""
    params = load_params()
    experiment = runs.open_experiment(params)
    run = runs.child_run(experiment, params, NET, 0, {"device": "cpu"})
    experiment.client.set_terminated(run)
    Path("models").mkdir(exist_ok=True)
    Path("models", f"{NET}.pt").write_text(weights, encoding="utf-8")
    return run


def aggregate(error: float) -> None:
    """Mirror made-up results of seed 0."""
    folder = Path("metrics/digits")
    folder.mkdir(parents=True, exist_ok=True)
    row = {"net": NET, "seed": 0}
    mirror(
        load_params(),
        folder,
        pd.DataFrame([row | {"corruption": "fog", "severity": 1, "error": error}]),
        pd.DataFrame(
            [
                row
                | {
                    "perturbation": "tilt",
                    "protocol": "hendrycks",
                    "metric": "flip_probability",
                    "value": 0.05,
                }
            ]
        ),
        pd.DataFrame([row | {"epoch": 1, "test_error": error}]),
        pd.DataFrame([row | {"E_corr": error}]),
    )


def shown(client) -> dict[str, float]:
    """The runs of the page of nets, by id: E."""
    experiment = runs.find_experiment(client, "digits")
    found = client.search_runs([experiment], "tags.role = 'net'")
    return {run.info.run_id: run.data.metrics.get("test/E_corr") for run in found}


def test_a_net_that_is_trained_again_is_shown_once(local):
    """After a change of code, and after the change was taken back, for which DVC has the net in its cache."""
    first = train("before the change")
    aggregate(30.0)
    second = train("after the change")
    aggregate(20.0)
    assert shown(local) == {second: 20.0}

    Path("models", f"{NET}.pt").write_text("before the change", encoding="utf-8")
    aggregate(30.0)
    assert shown(local) == {first: 30.0}
    assert local.get_run(second).data.metrics["test/E_corr"] == 20.0, "another training has its results"
    best = registry.best_run(local, runs.find_experiment(local, "digits"), None)
    assert best.info.run_id == first


def test_a_failed_training_gets_no_results(local):
    params = load_params()
    experiment = runs.open_experiment(params)
    failed = runs.child_run(experiment, params, NET, 0, {})
    local.set_terminated(failed, status="FAILED")
    Path("models").mkdir(exist_ok=True)
    Path("models", f"{NET}.pt").write_text("from the cache", encoding="utf-8")
    aggregate(30.0)
    (run,) = shown(local)
    assert run != failed
    assert local.get_run(run).data.tags["dvc.cached"] == "true"


def test_flips_are_in_percent_as_errors_are(local):
    """And as in the runs of a comparison of front ends, which have the same metrics."""
    run = train("whatever")
    aggregate(30.0)
    values = local.get_run(run).data.metrics
    assert values["perturbation/tilt"] == 5.0
    assert values["corruption/fog"] == 30.0
