"""Stage `fetch`: the clean images and labels of `data.name`, in the one form of stages/datasets.py."""

from pathlib import Path

import click

from stages import sources
from stages.datasets import DATASETS, save_clean
from stages.formats import Splits
from stages.params import Data, load_params


@click.command()
def main() -> None:
    """Write datasets/<data.name>/clean from the source that params.yaml names."""
    data = load_params().data
    splits = read_source(data)
    save_clean(DATASETS / data.name / "clean", splits)
    for split, (images, labels) in splits.items():
        click.echo(
            f"{data.name} {split}: {len(images)} images {images.shape[1:]}, {len(set(labels.tolist()))} classes"
        )


def read_source(data: Data) -> Splits:
    """Images and labels of both splits.

    Raises:
        click.ClickException: an unknown set, or a folder that does not hold what it should.
    """
    if data.path is not None:
        path = Path(data.path).expanduser()
        if not path.is_dir():
            raise click.ClickException(f"data.path: no folder {path}")
        return sources.from_folder(path)
    if data.name == "digits":
        return sources.digits(data.seed)
    raise click.ClickException(
        f"data.name: {data.name!r} is none of digits, cifar10, cifar100, mnist; a set of your own needs data.path"
    )


if __name__ == "__main__":
    main()
