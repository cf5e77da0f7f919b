"""Set parameters as `dvc exp run -S` does, for a subsequent `dvc repro`: `make table4` and others choose a study so.

A DVC experiment would detach Git's HEAD while it runs, for hours, and remove the results of other data sets.
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
    """Write new values into the parameter files; if one is invalid, the files stay unchanged."""
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
        reason = error.__cause__ if isinstance(error, DvcException) else None  # DVC's message omits it
        raise click.ClickException(" ".join(str(reason or error).split())) from None


if __name__ == "__main__":
    main()
