"""dvc.yaml names the code that decides each output, all of it and nothing else."""

import grimp
import pytest

from nets.families import families
from stages.files.dependencies import code_of, stages_of
from tests.conftest import ROOT

ROOMS = ("archives", "common_corruptions", "nets", "pushpull", "stages", "training")

# Imported, but whatever stands in them decides no output, and neither does what they alone import.
DECIDES_NOTHING = {
    "archives.download": "what it brings has to have a known digest",
    "archives.part_file": "as archives.download",
    "archives.transport": "as archives.download",
    "common_corruptions": "names what the room offers",
    "common_corruptions.checks": "refuses arguments, or lets them pass",
    "common_corruptions.evaluation": "names what the room offers",
    "common_corruptions.generate": "names what the room offers",
    "common_corruptions.generate.partial": "a lock and unfinished files, of which no output tells",
    "common_corruptions.logits": "refuses logits, or lets them pass",
    "common_corruptions.metrics": "names what the room offers",
    "common_corruptions.raising": "says what raises",
    "common_corruptions.sets.same_images": "refuses sets of other images, or lets them pass",
    "common_corruptions.termination": "says what an interruption leaves",
    "nets": "names what the room offers",
    "nets.families": "says which module is the dependency",
    "stages.files.checkpoints": "a training that was interrupted ends with the same bits",
    "stages.files.dependencies": "reads dvc.yaml",
    "stages.files.devices": "says where to compute",
    "stages.files.interruption": "says what an interruption leaves",
    "stages.files.params": "hands on what params.yaml holds, whose values are dependencies, or refuses it",
    "stages.files.unfinished": "a measurement that was stopped ends with the same answers",
    "stages.files.workspace": "places, locks, unfinished work and the commit, of which no output tells",
    "stages.files.yaml_file": "hands on what a library reads",
    "stages.page.provenance": "goes to MLflow beside the page",
    "stages.tracking": "MLflow is a mirror: nothing of it enters an output",
}

# The schema checks the names of corruptions, which stages that make none and measure none have no use for.
NAMES = {"common_corruptions.recipes.names", "common_corruptions.recipes.registry"}
IN_SOME = dict.fromkeys(("fetch", "train"), NAMES)
# An evaluation measures what the parameters name, whose groups it does not ask for; of the record beside its sets it
# asks whether to refuse them, and of the trainer's room for a device alone.
EVALUATION = {
    "common_corruptions.recipes.registry",
    "common_corruptions.record",
    "training.device",
    "training.parallel",
}
IN_SOME |= dict.fromkeys(
    ("evaluate_corruption", "evaluate_perturbation", "evaluate_noise", "official"), EVALUATION
)
# What a net costs is measured on a device that is asked for in the same way, of a net without a set of corruptions.
IN_SOME["cost"] = NAMES | EVALUATION

PIPELINES = ("dvc.yaml", "studies/dvc.yaml")
STAGES = [
    (pipeline, name)
    for pipeline in PIPELINES
    for name, stage in stages_of(ROOT, pipeline).items()
    if stage["cmd"].startswith("python -m ")
]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    graph = grimp.build_graph(*ROOMS, exclude_type_checking_imports=True, cache_dir=None)
    for package in ("stages.tracking", "stages.page.provenance"):
        for module in (package, *graph.find_descendants(package)):
            graph.remove_module(module)
    return graph


def closure(graph: grimp.ImportGraph, pipeline: str, stage: str) -> set[str]:
    """What runs when a stage runs: what it imports, and the net's family, which the registry loads by name."""
    command = stages_of(ROOT, pipeline)[stage]["cmd"].split()[2]
    begun = {command, "stages.files.schema"}
    found = begun.union(*map(graph.find_upstream_modules, begun))
    if "nets.registry" in found and stage != "official":
        found |= {"nets.resnet"} | graph.find_upstream_modules("nets.resnet")
    return found - DECIDES_NOTHING.keys() - IN_SOME.get(stage, set())


def named(pipeline: str, stage: str, family: str = "resnet") -> set[str]:
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in code_of(ROOT, stage, family, pipeline))
    return {".".join(part).removesuffix(".__init__") for part in parts}


@pytest.mark.parametrize(("pipeline", "stage"), STAGES)
def test_what_a_stage_imports_is_its_dependency(graph, pipeline, stage):
    assert closure(graph, pipeline, stage) - named(pipeline, stage) == set()


@pytest.mark.parametrize(("pipeline", "stage"), STAGES)
def test_what_a_stage_names_is_imported(graph, pipeline, stage):
    """Else a change of it would run the stage again for nothing; a folder counts as one."""
    imported = closure(graph, pipeline, stage)
    if "common_corruptions.recipes.registry" in imported:
        imported |= {"common_corruptions.recipes.corruptions"}  # which it reads without an import
    for dependency in stages_of(ROOT, pipeline)[stage]["deps"]:
        module = dependency.replace("${item.family}", "resnet").removesuffix(".py").replace("/", ".")
        if dependency.endswith(".py"):
            assert module in imported, dependency
        elif dependency.split("/")[0] in ROOMS:
            assert any(f"{one}.".startswith(f"{module}.") for one in imported), dependency


@pytest.mark.parametrize(("pipeline", "stage"), STAGES)
def test_folders_of_this_machine_decide_no_result(pipeline, stage):
    """`data.path` is read once, by `fetch`; whoever puts archives elsewhere must not have sets made anew."""
    declared = {one for one in stages_of(ROOT, pipeline)[stage]["params"] if isinstance(one, str)}
    assert not declared & {"data", "data.archives"}
    assert ("data.path" in declared) == (stage == "fetch")


def test_every_family_is_built_from_what_the_training_names(graph):
    for family in dict.fromkeys(families().values()):
        needed = {f"nets.{family}"} | graph.find_upstream_modules(f"nets.{family}")
        needed -= {
            f"nets.{other}" for other in families().values() if other != family
        }  # docs/pipeline.md: with -f
        assert needed - named("dvc.yaml", "train", family) - DECIDES_NOTHING.keys() == set(), family


def test_every_exception_is_a_module():
    for module in DECIDES_NOTHING:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module
