"""The studies: their nets are the paper's grids, and what was measured of them becomes tables, figures and runs."""

import re
import shutil
from pathlib import Path

import click
import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner

from common_corruptions.sweeps import SWEEPS
from nets.registry import create_net
from pushpull import PushPull2d
from stages import train
from stages.evaluate_noise import means
from stages.experiments import study
from stages.experiments.choose import main as choose_parameters
from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from stages.tables.studies import CONFIGURATIONS, LENETS
from stages.tracking import logged_model, runs
from tests.conftest import ROOT
from tests.stages.yaml_files import write_yaml

PUBLISHED = ROOT / "data" / "published"
SEEDS = [0, 1]


def choose(folder: Path, name: str, full: bool = False, change=lambda study: None):
    """The parameters of a study, written to `folder` as the Makefile has them written."""
    raw, own = read_yaml(ROOT / "params.yaml"), read_yaml(ROOT / "studies" / "params.yaml")
    paper = raw["paper"]
    if full:
        raw |= {"train": paper["train"], "evaluate": paper["evaluate"]}
        raw["data"] = raw["data"] | {"name": "mnist"} if name == "mnist" else paper["data"]
    raw["nets"] = {"other": {"block": "conv", "arch": "resnet20"}}
    chosen = own["paper"][name] if full else own[name]
    change(chosen)
    (folder / "studies").mkdir(exist_ok=True)
    write_yaml(folder / "params.yaml", raw)
    write_yaml(folder / "studies" / "params.yaml", {"study": chosen})
    return load_params(folder / "params.yaml", folder / "studies")


def layers(params) -> list[tuple]:
    """Architecture, and scale, alpha, train_alpha of the layer if there is one, in the order of the table."""
    found = []
    for name, net in params.nets.items():
        options = params.options(name)
        assert options["pushpull"] in (None, "first")
        own = (
            [options[key] for key in ("scale", "alpha", "train_alpha")] if options["pushpull"] else [None] * 3
        )
        found.append((net.arch, *own))
    return found


def test_table4_is_the_published_grid(tmp_path):
    printed = pd.read_csv(PUBLISHED / "table4.csv")[["net", "scale", "alpha"]].drop_duplicates()
    expected = [
        (net.removesuffix("-pp"), *((scale, alpha, False) if net.endswith("-pp") else [None] * 3))
        for net, scale, alpha in printed.itertuples(index=False)
    ]
    assert layers(choose(tmp_path, "table4")) == layers(choose(tmp_path, "table4", full=True)) == expected


def test_table5_learns_alpha_or_not(tmp_path):
    printed = pd.read_csv(PUBLISHED / "table5.csv")
    expected = [
        (net.removesuffix("-pp"), *((2.0, 1.0, learned) if net.endswith("-pp") else [None] * 3))
        for net, learned in printed[["net", "train_alpha"]].itertuples(index=False)
    ]
    assert layers(choose(tmp_path, "table5")) == expected


def test_the_lenets_are_those_of_table_1(tmp_path):
    params = choose(tmp_path, "mnist")
    assert set(params.nets) == set(LENETS) == set(pd.read_csv(PUBLISHED / "lenet.csv").net)
    for name, model in LENETS.items():
        options = params.options(name)
        net = create_net(params.nets[name].arch, pushpull=options["pushpull"], in_channels=1)
        assert model.startswith("P") == isinstance(net.conv1, PushPull2d)
        linear = ", ".join(str(layer.out_features) for layer in (net.fc1, net.fc2, net.fc3))
        assert (net.conv1.out_channels, net.conv2.out_channels, linear) == CONFIGURATIONS[model[-1]]


@pytest.mark.parametrize("name", ["table4", "table5", "mnist"])
def test_every_net_is_measured(tmp_path, name):
    params = choose(tmp_path, name)
    (kind,) = params.study.tables.values()
    other = {"noise": "corruption", "corruption": "noise"}[kind]
    assert list(getattr(params.study, kind)) == list(params.nets) and not getattr(params.study, other)
    assert all(net.family for net in params.nets.values())  # which the dependencies in dvc.yaml are named by


def test_full_size_is_the_papers(tmp_path):
    for name in ("table4", "table5"):
        params = choose(tmp_path, name, full=True)
        assert params.data.name == "cifar10" and params.data.corruptions == "all"
        for net in params.nets:
            recipe = params.training(net)
            assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (200, 128, 0.1, 1e-4)
            assert (recipe.milestones, recipe.seeds) == ([80, 120, 160], [0, 1, 2])
    recipe = choose(tmp_path, "mnist", full=True).training("lenet_a-pp")
    assert (recipe.epochs, recipe.lr, recipe.momentum, recipe.weight_decay) == (90, 0.1, 0.9, 5e-4)
    assert (recipe.milestones, recipe.seeds) == ([30, 60], [0, 1, 2])


def test_none_runs_before_one_is_chosen(tmp_path):
    write_yaml(
        tmp_path / "params.yaml",
        {"study": {"tables": {}, "nets": {}, "noise": {}, "corruption": {}, "train": {}}},
    )
    with pytest.raises(
        click.ClickException, match=r"no study is chosen in .*params\.yaml; run `make table4`"
    ):
        load_params(ROOT / "params.yaml", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["nets"]["resnet14-s1-a1"]["options"].update(alhpa=2),
         "studies/params.yaml: unknown key `study.nets.resnet14-s1-a1.options.alhpa`; did you mean 'alpha'"),
        (lambda s: s["nets"]["resnet14"].update(block="pushpul"), "`study.nets.resnet14.block` names a section"),
        (lambda s: s.update(train={"epoch": 2}), "unknown key `study.train.epoch`; did you mean 'epochs'"),
        (lambda s: s.update(tables={"table9": "noise"}), "`study.tables.*table1"),
        (lambda s: s.update(tables={"table4": "corruption"}),
         "`study.tables`: table4 shows the measurement `noise`, not `corruption`"),
        (lambda s: s.update(tables={"table5": "noise"}),
         "`study.tables`: table5 shows the measurement `corruption`, not `noise`"),
        (lambda s: s.update(tables={}), "`study` names neither `tables` nor `comparisons`"),
        (lambda s: s.update(comparisons={"frontends": "resnet"}), "`study.comparisons.frontends`: no net 'resnet'"),
        (lambda s: s.update(nosie={}), "unknown key `study.nosie`; did you mean 'noise'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_study_is_one_line(tmp_path, change, message):
    with pytest.raises(click.ClickException, match=message) as caught:
        choose(tmp_path, "table4", change=change)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("file", ["params.yaml", "studies/params.yaml"])
def test_no_two_sections_are_one_for_dvc(file):
    """What `-S` sets in one that an anchor stands for is set in all of its aliases, for good."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not re.search(r": [&*]\w", text)


def test_a_choice_that_does_not_fit_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    for name in ("params.yaml", "studies/params.yaml"):
        shutil.copy(ROOT / name, name)

    def chosen(*overrides: str):
        options = [part for one in overrides for part in ("-S", one)]
        return CliRunner().invoke(choose_parameters, ["--pipeline", "studies", *options])

    table5 = "studies/params.yaml:study=${paper.table5}"
    done = chosen(table5, "data=${paper.data}", "train.epochs=7")
    assert done.exit_code == 0, done.output
    params = load_params(Path("params.yaml"), Path("studies"))
    assert params.data.name == "cifar10" and params.training("resnet56").epochs == 7
    assert list(params.study.tables) == ["table5"]
    before = [Path(name).read_bytes() for name in ("params.yaml", "studies/params.yaml")]
    for wrong, message in {
        "train.epoch=8": "epoch",
        "train.lr=-1.0": "`train.lr`: Input should be greater than 0, got -1.0",
        "elsewhere.yaml:a=1": "elsewhere.yaml",
    }.items():
        refused = chosen("studies/params.yaml:study=${mnist}", wrong)
        assert refused.exit_code == 1 and message in refused.output
        assert isinstance(refused.exception, SystemExit)
        assert [Path(name).read_bytes() for name in ("params.yaml", "studies/params.yaml")] == before


def measurements(kind: str, net: str, clean: float, seeds=SEEDS) -> pd.DataFrame:
    if kind == "noise":
        levels = [("clean", 0.0), *((sweep, level) for sweep in SWEEPS for level in SWEEPS[sweep])]
        rows = [(net, seed, *level, clean + seed + 10 * level[1]) for seed in seeds for level in levels]
        return pd.DataFrame(rows, columns=["net", "seed", "sweep", "level", "error"])
    levels = [("clean", 0), *(("fog", severity) for severity in range(1, 6))]
    rows = [(net, seed, *level, clean + seed + level[1]) for seed in seeds for level in levels]
    return pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])


def run_study(table: str):
    done = CliRunner().invoke(study.main, [table, "--pipeline", "studies"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.parametrize("name", ["table4", "table5", "mnist"])
def test_measurements_become_tables_and_runs(local, tmp_path, name, undeclared):
    """Of table 4, whose nets are as many as its cells and each logs the most, the first five."""

    def first_five(chosen):
        for part in ("nets", "noise"):
            chosen[part] = dict(list(chosen[part].items())[:5])

    (tmp_path / "data").symlink_to(ROOT / "data")
    choose(tmp_path, name, change=first_five if name == "table4" else lambda chosen: None)
    raw = read_yaml(tmp_path / "params.yaml")
    raw["train"]["augment"] = "trivial" if name == "mnist" else "none"
    raw["data"] |= {"corruptions": ["fog"], "corrupted_images": 4}
    write_yaml(tmp_path / "params.yaml", raw)
    params = load_params(tmp_path / "params.yaml", tmp_path / "studies")
    ((table, kind),) = params.study.tables.items()
    folder = tmp_path / "studies" / "metrics" / "digits"
    for part in (kind, "history"):
        (folder / part).mkdir(parents=True)
    for i, net in enumerate(params.nets):
        measurements(kind, net, clean=5.0 + i).to_csv(folder / kind / f"{net}.csv", index=False)
        curve = [(net, seed, 1, 0.1, 2.0, 50.0, 40.0) for seed in SEEDS]
        columns = ["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"]
        pd.DataFrame(curve, columns=columns).to_csv(folder / "history" / f"{net}.csv", index=False)

    missing = undeclared(study, "studies/dvc.yaml")
    done = run_study(table)
    assert missing == set()
    assert done.exit_code == 0, done.output
    written = tmp_path / "metrics" / "digits" / "studies"
    text = (written / f"{table}.md").read_text(encoding="utf-8")
    assert text in done.output
    assert ("On digits, the first 4 test images, errors" in text) == (name == "table5")
    assert ("Trained here on images augmented by TrivialAugment." in text) == (name == "mnist")
    result = pd.read_csv(written / f"{table}.csv")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    (parent,) = [one for one in found if one.data.tags["role"] == "experiment"]
    children = {(one.data.tags["net"], one.data.tags["seed"]): one for one in found if one is not parent}
    assert parent.data.tags["dvc.exp"] == runs.study_name(params)
    assert parent.data.tags["dvc.exp"].startswith(f"{table}-digits-")
    assert {one.info.status for one in found} == {"FINISHED"}
    assert set(children) == {(net, str(seed)) for net in params.nets for seed in SEEDS}

    if name == "table4":
        alone = result[(result.scale == 1.5) & (result.alpha == 0.5) & (result.variance == 0.01)]
        assert alone.error.item() == pytest.approx(9.5 + 0.1)  # of the fifth net
        child = children["resnet14-s1_5-a0_5", "1"]
        assert child.data.metrics["noise/gaussian_noise_0.01"] == pytest.approx(9 + 1 + 0.1)
        assert (child.data.params["alpha"], child.data.params["scale"]) == ("0.5", "1.5")
        assert child.data.tags["mlflow.runName"] == "resnet14-s1_5-a0_5 (alpha=0.5, scale=1.5)"
    elif name == "table5":
        errors = result.set_index(["net", "train_alpha", "quantity"]).error
        assert errors["resnet20-pp", True, "e_clean"] == pytest.approx(7.5)
        assert errors["resnet20-pp", True, "e_corr"] == pytest.approx(7.5 + 3.0)
        assert errors["resnet56", False, "e_corr"] == pytest.approx(8.5 + 3.0)
        assert parent.data.metrics["corruption/fog/resnet20-pp"] == pytest.approx(6.5 + 3.0)
    else:
        shown = result[
            (result.net == "lenet_a-pp") & (result.sweep == "gaussian_noise") & (result.level == 0.5)
        ]
        assert shown.accuracy.item() == pytest.approx(100 - (6.0 + 0.5 + 5.0))
        for figure in ("figure4", "figure5"):
            assert (written / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert parent.data.metrics["noise/poisson_noise_0.3/lenet_a-pp"] == pytest.approx(6.5 + 3.0)

        first = next(iter(params.nets))
        measurements(kind, first, clean=5.0, seeds=[0]).to_csv(folder / kind / f"{first}.csv", index=False)
        refused = run_study(table)
        assert refused.exit_code == 1
        assert f"{first}.csv must hold every measurement of the seeds [0, 1] once" in refused.output


def test_nets_that_the_table_cannot_tell_apart_are_named(tmp_path):
    def twice(chosen):
        chosen["nets"]["lenet_a-pp2"] = chosen["nets"]["lenet_a-pp"] | {"options": {"alpha": 2.0}}

    params = choose(tmp_path, "mnist", change=twice)
    write_measurements(tmp_path, params, "noise")
    with pytest.raises(click.ClickException, match="lenet_a-pp and lenet_a-pp2 look the same in the table"):
        study.gather(params, tmp_path, "noise", study.KEYS["table1"])
    told = study.gather(params, tmp_path, "noise", study.KEYS["table4"])
    assert told.as_published.all()  # alpha is a column of that table
    assert study.deviations(params, study.KEYS["table4"]) == []
    assert study.deviations(params, study.KEYS["table1"]) == [
        "Not the paper's, so that no published figure is theirs: lenet_a-pp2 (alpha=2.0)."
    ]


def write_measurements(folder: Path, params, kind: str) -> None:
    for net in params.nets:
        measurements(kind, net, clean=5.0).to_csv(folder / f"{net}.csv", index=False)


def test_nets_that_are_not_the_papers_are_named(tmp_path):
    """In what a table has no column of: where the layer stands, filters, a training of its own."""

    def change(chosen):
        nets = chosen["nets"]
        nets["resnet20-pp"]["options"] = {"layers": "all"}
        nets["resnet20"]["options"] = {"lpf_size": 3}
        nets["resnet56-learned"]["train"] = {"epochs": 1, "milestones": [1]}

    params = choose(tmp_path, "table5", change=change)
    params = params.model_copy(update={"data": params.data.model_copy(update={"corruptions": ["fog"]})})
    write_measurements(tmp_path, params, "corruption")
    told = study.gather(params, tmp_path, "corruption", study.KEYS["table5"])
    others = {"resnet20-pp", "resnet20", "resnet56-learned"}
    assert set(told[~told.as_published].name) == others
    assert set(told[told.as_published].name) == {*params.nets} - others
    assert study.deviations(params, study.KEYS["table5"]) == [
        "Not the paper's, so that no published figure is theirs: resnet20 (lpf_size=3), resnet20-pp (layers=all), "
        "resnet56-learned (epochs=1, milestones=[1])."
    ]


def test_augmented_nets_are_not_the_papers(tmp_path):
    params = choose(tmp_path, "mnist", change=lambda chosen: chosen["train"].update(augment="augmix"))
    write_measurements(tmp_path, params, "noise")
    assert not study.gather(params, tmp_path, "noise", study.KEYS["table1"]).as_published.any()


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        (
            "table5",
            "severity == 3",
            "resnet20.csv: resnet20: seed 0, missing: corruption fog 3; remove the file",
        ),
        ("table5", "seed == 1", "resnet20.csv: resnet20: seed 1 is missing; remove the file"),
        ("mnist", "level == 0.2 and seed == 1", "lenet_a.csv must hold every measurement of the seeds"),
        ("mnist", "sweep == 'clean'", "lenet_a.csv must hold every measurement of the seeds"),
    ],
)
def test_a_file_that_lacks_a_measurement_is_refused(tmp_path, name, lost, message):
    params = choose(tmp_path, name)
    params = params.model_copy(update={"data": params.data.model_copy(update={"corruptions": ["fog"]})})
    ((table, kind),) = params.study.tables.items()
    write_measurements(tmp_path, params, kind)
    study.gather(params, tmp_path, kind, study.KEYS[table])
    first = tmp_path / f"{next(iter(params.nets))}.csv"
    whole = pd.read_csv(first)
    whole.drop(whole.query(lost).index).to_csv(first, index=False)
    with pytest.raises(click.ClickException, match=message):
        study.gather(params, tmp_path, kind, study.KEYS[table])
    first.unlink()
    with pytest.raises(click.ClickException, match=rf"{first.name}.*makes it"):
        study.gather(params, tmp_path, kind, study.KEYS[table])


def test_a_net_of_a_study_is_trained_below_its_folder(workspace, monkeypatch, one_thread):
    """Without a study the same command trains the nets of params.yaml, and refuses those of the study."""
    monkeypatch.setattr(logged_model, "log_model", lambda *_: None)
    Path("studies").mkdir()
    own = {"small-pp2": {"block": "pushpull", "arch": "resnet14", "options": {"alpha": 2.0}}}
    section = {
        "tables": {"table4": "noise"},
        "nets": own,
        "noise": own,
        "corruption": {},
        "train": {"epochs": 1},
    }
    write_yaml(Path("studies/params.yaml"), {"study": section})
    done = CliRunner().invoke(train.main, ["small-pp2", "--pipeline", "studies"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not Path("models").exists() and Path("studies/models/small-pp2.pt").exists()
    assert pd.read_csv("studies/metrics/tiny/history/small-pp2.csv").epoch.tolist() == [1]
    refused = CliRunner().invoke(train.main, ["small-pp2"])
    assert "no net 'small-pp2' under `nets` in params.yaml; there are small, small-pp" in refused.output


def test_dvc_lists_the_mean_over_seeds():
    listed = means(measurements("noise", "lenet_a", clean=5.0))
    assert listed["gaussian_noise"]["0.5"] == pytest.approx(5.5 + 5.0)
    assert listed["clean"] == {"0": 5.5}
