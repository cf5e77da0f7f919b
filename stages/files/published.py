"""Which parts of the data set of params.yaml are published, and how tables state their origin."""

import click

from archives.catalogue import Archive, archives_of, read_archives
from archives.formats import ArchiveError
from stages.files.datasets import published_name
from stages.files.schema import Data


def published(data: Data, part: str) -> list[Archive]:
    """The archives of `datasets/<data.name>/<part>`; an empty list if the part is to be generated.

    `data.corrupted: download` requires a published C set. An unpublished P set, as for CIFAR-100, is generated.

    Raises:
        click.ClickException: no C set of that name is published, or data/archives.yaml is wrong.
    """
    if data.corrupted == "generate":
        return []
    try:
        archives = read_archives()
        found = archives_of(archives, published_name(data.name), "c")
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    if part == "c":
        return found
    return [one for one in archives.values() if (one.data, one.part) == (published_name(data.name), part)]


def origin(data: Data) -> str:
    """The origin of the C and P sets of `data`, in the words of tables and reports."""
    if data.corrupted == "generate":
        return "generated from the test images"
    return "published" if published(data, "p") else "C published, P generated from the test images"
