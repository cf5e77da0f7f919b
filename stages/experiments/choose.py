"""Set parameters as `dvc exp run -S` does, for a `dvc repro` that follows: so `make table4` and others choose a study.

An experiment of DVC detaches Git's HEAD while it runs, for hours, and puts away the results of other data sets.
"""

from pathlib import Path

import click
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from stages.files.params import in_pipeline, load_params


@click.command()
@click.option("--set", "-S", "overrides", multiple=True, help="[FILE:]KEY=VALUE, of params.yaml by default.")
@in_pipeline
def main(overrides: tuple[str, ...], pipeline: Path) -> None:
    """Write new values into the files of parameters; one that does not fit leaves them as they were."""
    changes = {Path(file): values for file, values in to_path_overrides(overrides).items()}
    before: dict[Path, bytes] = {}
    try:
        for file, values in changes.items():
            before[file] = file.read_bytes()
            apply_overrides(file, values)
        load_params(pipeline=pipeline)
    except (DvcException, OSError, click.ClickException) as error:
        for file, content in before.items():
            file.write_bytes(content)
        reason = error.__cause__ if isinstance(error, DvcException) else None  # which DVC leaves unsaid
        raise click.ClickException(" ".join(str(reason or error).split())) from None


if __name__ == "__main__":
    main()
