"""Which code decides the outputs of a stage: what dvc.yaml lists among its dependencies, and no other account."""

from pathlib import Path

from stages.files.yaml_file import read_yaml

PIPELINES = ("dvc.yaml", "studies/dvc.yaml")


def code_of(root: Path, stage: str, family: str) -> list[Path]:
    """The modules that a stage depends on, in the order of dvc.yaml, those of a folder by name.

    Args:
        root: folder of the repository.
        stage: a name in one of the pipelines, without `@<net>`.
        family: of the net, which `${item.family}` stands for.

    Raises:
        KeyError: no such stage.
        OSError: a module is listed that is not there.
    """
    stages = {}
    for name in PIPELINES:
        stages |= read_yaml(root / name)["stages"]
    body = stages[stage].get("do", stages[stage])
    modules = []
    for dependency in body["deps"]:
        path = root / dependency.replace("${item.family}", family)
        if path.suffix == ".py":
            modules.append(path.resolve(strict=True))
        elif not dependency.startswith(("datasets/", "metrics/", "models/", "predictions/", "data/")):
            modules += [file.resolve() for file in sorted(path.rglob("*.py"))]
    return modules
