"""One part of the measurement in a process of its own, which the parent starts."""

import importlib
import sys
from pathlib import Path

import click

from benchmarks.gpu.setting import Setting


@click.command()
@click.argument("name")
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--seeds", required=True)
@click.option("--nets", required=True)
@click.option("--way")
@click.option("--limit", required=True, type=float)
@click.option("--dry-run", is_flag=True)
def main(
    name: str, data: Path, work: Path, seeds: str, nets: str, way: str | None, limit: float, dry_run: bool
) -> None:
    """Run the part NAME and keep what it finds."""
    numbers = tuple(map(int, seeds.split(",")))
    setting = Setting(data, work, numbers, tuple(nets.split(",")), way, dry_run, limit)
    part = importlib.import_module(f"benchmarks.gpu.{name}")
    for found in part.measure(setting):
        setting.keep(name, found)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
