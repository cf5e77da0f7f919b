"""The published archives described in data/archives.yaml, and functions that all steps with them share.

`download` fetches an archive and `unpack` turns it into arrays; both take an `Archive` from this module.
"""

import hashlib
import math
import shutil
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from archives.formats import ArchiveError

ARCHIVES = Path("data/archives.yaml")

_BLOCK = 128 << 10

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Entry(BaseModel):
    """A mapping in archives.yaml; unknown keys and values of other types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Member(Entry):
    """One array inside an archive; `md5` is that of the member file, if published."""

    name: str
    shape: Annotated[tuple[Annotated[int, Field(gt=0, strict=True)], ...], Field(strict=False)]
    dtype: Literal["uint8"] = "uint8"
    md5: Md5 | None = None

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes, without any header."""
        return math.prod(self.shape)

    @property
    def stem(self) -> str:
        """The name without suffix: `fog` for `fog.npy`."""
        return self.name.removesuffix(".npy")


class Archive(Entry):
    """One archive file in archives.yaml; the comments at the top of archives.yaml explain the fields."""

    name: str
    data: str
    part: Literal["clean", "c", "p"]
    layout: Literal["npy", "cifar-batches", "idx"]
    urls: Annotated[list[Annotated[str, Field(pattern=r"^(https?|file):")]], Field(min_length=1)]
    bytes: Annotated[int, Field(gt=0)] | None = None
    md5: Md5
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    folder: str | None = None
    members: Annotated[dict[str, Member], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def named_members(cls, entry: Any) -> Any:
        """Set the name of each member to its key."""
        if isinstance(entry, dict) and isinstance(entry.get("members"), dict):
            members = {n: m | {"name": n} if isinstance(m, dict) else m for n, m in entry["members"].items()}
            entry = entry | {"members": members}
        return entry

    @property
    def digests(self) -> dict[str, str]:
        """Every published digest of the whole file, by its `hashlib` name."""
        return {"md5": self.md5} | ({"sha256": self.sha256} if self.sha256 else {})

    def choose(self, names: Collection[str] | None) -> list[Member]:
        """The members called `names` (`fog`, not `fog.npy`) and the labels; all members if None.

        Raises ArchiveError for a name that the archive does not contain.
        """
        if names is None:
            return list(self.members.values())
        known = {member.stem for member in self.members.values()}
        if unknown := sorted(set(names) - known):
            raise ArchiveError(
                f"{self.name} holds no {', '.join(unknown)}. Choose from: {', '.join(sorted(known - {'labels'}))}."
            )
        return [m for m in self.members.values() if m.stem in names or m.stem == "labels"]


def read_archives(path: Path = ARCHIVES) -> dict[str, Archive]:
    """Every archive that `path` describes, by file name. Raises ArchiveError if the file or an entry is invalid."""
    try:
        entries = YAML(typ="safe").load(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    except YAMLError as error:
        raise ArchiveError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict):
        raise ArchiveError(f"{path} must map the file name of each archive to its description.")
    try:
        return {name: Archive.model_validate(entry | {"name": name}) for name, entry in entries.items()}
    except (ValidationError, TypeError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else []
        lines = [f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems] or [f"  {error}"]
        raise ArchiveError(f"{path} has an invalid entry:\n" + "\n".join(lines)) from error


def archives_of(archives: Mapping[str, Archive], data: str, part: str) -> list[Archive]:
    """The archives of `datasets/<data>/<part>`. Raises ArchiveError if none is published."""
    found = [archive for archive in archives.values() if (archive.data, archive.part) == (data, part)]
    if not found:
        remedy = (
            "" if part == "clean" else " Set data.corrupted: generate to make it from the clean test set."
        )
        raise ArchiveError(f"{ARCHIVES} lists no archive for {data}/{part}.{remedy}")
    return found


def require_space(needs: Collection[tuple[Path, int]], purpose: str) -> None:
    """Check that the disks have enough space; `needs` lists folders (they may not exist yet) and bytes to be written.

    Folders on the same file system are added up. Raises ArchiveError with the needed and free space in GB.
    """
    totals: dict[int, tuple[Path, int]] = {}
    for folder, need in needs:
        home = folder.absolute()
        while not home.exists():
            home = home.parent
        device = home.stat().st_dev
        totals[device] = (home, totals.get(device, (home, 0))[1] + need)
    for home, need in totals.values():
        free = shutil.disk_usage(home).free
        if need > free:
            raise ArchiveError(
                f"{purpose} needs {gigabytes(need)} on the disk of {home}, which has {gigabytes(free)} free. "
                f"Make room there, or choose fewer data.corruptions / data.perturbations."
            )


def verify_size(archive: Archive, path: Path) -> None:
    """Raise ArchiveError if `path` does not have the size of `archive`."""
    size = path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        raise ArchiveError(
            f"{path} has {size:,} bytes, but {archive.name} has {archive.bytes:,}: it is "
            f"{'truncated' if size < archive.bytes else 'another file'}. Delete it and fetch it again"
            f" from {archive.urls[0]}."
        )


def verify_file(archive: Archive, path: Path, halt: threading.Event | None = None) -> None:
    """Check the size and every published digest of `path` in one pass. Raises ArchiveError on a difference.

    If another thread sets `halt`, reading stops early and nothing is raised.
    """
    verify_size(archive, path)
    digests = {name: hashlib.new(name) for name in archive.digests}
    buffer = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if halt is not None and halt.is_set():
                return
            for digest in digests.values():
                digest.update(buffer[:count])
    for name, expected in archive.digests.items():
        if digests[name].hexdigest() != expected:
            raise ArchiveError(
                f"{path} is not the published {archive.name}: its {name} is {digests[name].hexdigest()}, not "
                f"{expected}. Delete it and fetch it again from {archive.urls[0]}."
            )


def file_digest(path: Path, name: str) -> str:
    """The digest called `name` (md5, sha256) of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def gigabytes(size: int) -> str:
    """Format `size` in decimal GB; small sizes get more digits, so that they can be told apart."""
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e9:.6f} GB"
