"""Unpack archives into the arrays of one folder of a data set: all of them, verified, or none.

The members of a tar are copied directly into their final `.npy`, block by block, so 18 GB need no second copy on the
disk and little memory. Every byte of an array is covered by a published digest: that of its member if there is one,
otherwise that of the whole archive. Hashing runs in a separate thread, parallel to reading and writing.
"""

import io
import logging
import shutil
import tarfile
import threading
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from hashlib import md5
from itertools import cycle
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from archives.catalogue import Archive, ArchiveError, Member, require_space, verify_file, verify_size
from archives.form import put_in_place, save_array, save_clean
from archives.formats import idx_array_name, load_batches, read_idx

log = logging.getLogger(__name__)

_BLOCK = 128 << 10  # stays in the cache of a core while it is read, written and hashed
_DEPTH = 8  # blocks that may wait to be hashed
_LONGEST_HEADER = 4096
# A pickled batch has labels and file names besides its pixels: far fewer bytes per row than this.
_BATCH_ROW_EXTRA = 1024


def unpack(
    sources: Collection[tuple[Archive, Path]], out: Path, names: Collection[str] | None = None
) -> None:
    """Write the arrays of `sources`, pairs of an archive and its file, into the new folder `out`.

    A set of corruptions or perturbations gives `<name>.npy`, of which `names` (`fog`, `frost`, ...) selects some, and
    `labels.npy`; a clean set gives `{train,test}_{images,labels}.npy`. A file called `<name>.part`, which `download`
    creates for selected members, has no digest of the whole: members without their own md5 are then checked for shape
    and dtype only, which is logged.

    The folder gets its name once every file in it is complete and verified; previous content is replaced. Raises
    ArchiveError, and leaves `out` unchanged, if an archive is damaged, is not the published one, lacks a member,
    contains anything unsafe, or does not fit on the disk.
    """
    fresh = out.with_name(f"{out.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    need = sum(member.nbytes for archive, _ in sources for member in archive.choose(names))
    require_space([(out, need)], f"Unpacking {', '.join(archive.name for archive, _ in sources)}")
    try:
        for archive, path in sources:
            if path.suffix != ".part":
                verify_size(archive, path)
        fresh.mkdir(parents=True)
        for archive, path in sources:
            log.info("unpacking %s", path)
            if archive.layout == "npy":
                _unpack_npy(archive, path, fresh, names)
            elif archive.layout == "cifar-batches":
                _unpack_batches(archive, path, fresh)
            else:
                _unpack_idx(archive, path, fresh)
        put_in_place(fresh, out)
    except OSError as error:
        raise ArchiveError(
            f"{' and '.join(str(path) for _, path in sources)} cannot be unpacked into {out}: "
            f"{error.strerror or error}. Nothing was left there; make room or choose another disk and run it again."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def published_members(tar: tarfile.TarFile, archive: Archive) -> Iterator[tuple[tarfile.TarInfo, Member]]:
    """Yield the members of `tar` that archives.yaml lists, in the order of the tar; other plain files are skipped.

    Raises ArchiveError for anything that a data set does not need but an attack may use: links, devices, absolute
    paths, `..`, duplicate members, members of the wrong size, headers that lead backwards.
    """
    seen: set[str] = set()
    last = -1
    for info in tar:
        path = PurePosixPath(info.name)
        if path.is_absolute() or ".." in path.parts or "\\" in info.name:
            raise ArchiveError(_unsafe(archive, info, "is outside its folder"))
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise ArchiveError(_unsafe(archive, info, "is a link or a device, not a plain file"))
        if info.offset <= last or info.size < 0:
            raise ArchiveError(_unsafe(archive, info, "has a header that points backwards"))
        last = info.offset
        member = archive.members.get(path.name)
        if info.isdir() or member is None or str(path.parent) != archive.folder:
            continue
        if member.name in seen:
            raise ArchiveError(_unsafe(archive, info, "occurs twice"))
        seen.add(member.name)
        if not member.nbytes <= info.size <= member.nbytes + _largest_extra(archive, member):
            raise ArchiveError(
                _unsafe(
                    archive,
                    info,
                    f"has {info.size:,} bytes, too {'many' if info.size > member.nbytes else 'few'}",
                )
            )
        yield info, member


def _unpack_npy(archive: Archive, path: Path, folder: Path, names: Collection[str] | None) -> None:
    """Copy the chosen members of a plain tar; if one has no md5, hash the whole file in parallel."""
    chosen = archive.choose(names)
    unlisted = [member.stem for member in chosen if member.md5 is None]
    halt = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        whole = None
        if unlisted and path.suffix == ".part":
            log.warning(
                "%s: no md5 is published for single members, so %s can be checked for shape and dtype only; "
                "choose all data.corruptions / data.perturbations to verify the whole archive",
                archive.name,
                ", ".join(unlisted),
            )
        elif unlisted:
            whole = pool.submit(verify_file, archive, path, halt)
        try:
            _copy_members(archive, path, chosen, folder, "r:")
            if whole is not None:
                whole.result()
        finally:
            halt.set()


def _unpack_batches(archive: Archive, path: Path, folder: Path) -> None:
    """Extract the pickled batches, verify their md5, and save their arrays."""
    verify_file(archive, path)  # before anything in it is interpreted
    batches = folder / "batches"
    batches.mkdir()
    _copy_members(archive, path, list(archive.members.values()), batches, "r:gz")
    try:
        splits = load_batches(batches, {m.name: m.shape[0] for m in archive.members.values()})
    except ArchiveError as error:
        raise ArchiveError(
            f"{path}: {error} That is not the published {archive.name}: delete it and fetch "
            f"{archive.urls[0]} again."
        ) from error
    shutil.rmtree(batches)
    save_clean(folder, splits)


def _unpack_idx(archive: Archive, path: Path, folder: Path) -> None:
    """Decompress the single array of an IDX file and save it."""
    verify_file(archive, path)
    array = read_idx(path)
    (member,) = archive.members.values()
    if array.size != member.nbytes or array.shape[: len(member.shape)] != member.shape:
        raise ArchiveError(
            f"{path} holds an array of shape {array.shape}, but {archive.name} has {member.shape}."
        )
    save_array(folder / f"{idx_array_name(archive.name)}.npy", array)


def _copy_members(archive: Archive, path: Path, chosen: list[Member], folder: Path, mode: str) -> None:
    """Copy the `chosen` members to files of the same names in `folder`, checking and hashing each."""
    wanted = {member.name for member in chosen}
    try:
        size = sum(member.nbytes for member in chosen)
        bar = tqdm(desc=f"unpacking {path.name}", total=size, unit="B", unit_scale=True)
        with tarfile.open(path, mode) as tar, ThreadPoolExecutor(1) as hasher, bar:
            for info, member in published_members(tar, archive):
                if member.name in wanted:
                    _copy_member(tar, info, member, archive, path, folder / member.name, hasher)
                    wanted.remove(member.name)
                    bar.update(member.nbytes)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ArchiveError(
            f"{path} is truncated or damaged: {error}. Delete it and fetch {archive.urls[0]} again."
        ) from error
    if wanted:
        raise ArchiveError(
            f"{path} does not hold {', '.join(sorted(wanted))}, so it is not the published {archive.name}. "
            f"Delete it and fetch {archive.urls[0]} again."
        )


def _copy_member(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    member: Member,
    archive: Archive,
    path: Path,
    target: Path,
    hasher: ThreadPoolExecutor,
) -> None:
    """Copy one member; its header is checked before the first byte is written, its md5 after the last one."""
    digest, position = md5(), 0
    buffers = cycle([memoryview(bytearray(_BLOCK)) for _ in range(_DEPTH)])
    hashing: deque[Future[None]] = deque()  # of the last buffers; each is reused once hashed
    tar.fileobj.seek(info.offset_data)
    with target.open("xb", buffering=0) as file:
        while position < info.size:
            if len(hashing) == _DEPTH:
                hashing.popleft().result()
            buffer = next(buffers)[: info.size - position]
            block = buffer[: tar.fileobj.readinto(buffer)]
            if not block:
                raise EOFError(f"{info.name} ends {info.size - position:,} bytes early")
            if position == 0 and archive.layout == "npy":
                _check_npy_header(bytes(block[:_LONGEST_HEADER]), info.size, member, archive, path)
            if member.md5 is not None:
                hashing.append(hasher.submit(digest.update, block))
            file.write(block)
            position += len(block)
    if member.md5 is not None:
        wait(hashing)
        if digest.hexdigest() != member.md5:
            raise ArchiveError(
                f"{path}: {info.name} has md5 {digest.hexdigest()}, not the published {member.md5}, so the archive "
                f"is damaged. Delete it and fetch {archive.urls[0]} again."
            )


def _check_npy_header(start: bytes, size: int, member: Member, archive: Archive, path: Path) -> None:
    """Raise ArchiveError unless an .npy file of `size` bytes that begins with `start` holds the array of `member`."""
    stream = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = readers[version](stream)
    except Exception as error:  # numpy lets errors of the tokenizer through
        raise ArchiveError(
            f"{path}: {member.name} is not an .npy file: {error}. Delete it and fetch {archive.urls[0]} again."
        ) from error
    if shape != member.shape or dtype != np.uint8 or fortran or size != stream.tell() + member.nbytes:
        raise ArchiveError(
            f"{path}: {member.name} holds {dtype} {shape} in {size:,} bytes, but uint8 {member.shape} is expected. "
            f"Delete it and fetch {archive.urls[0]} again, or correct data/archives.yaml."
        )


def _largest_extra(archive: Archive, member: Member) -> int:
    """Most bytes that a member file may have beyond its array: an .npy header, or what a pickle adds."""
    return _LONGEST_HEADER + (0 if archive.layout == "npy" else _BATCH_ROW_EXTRA * member.shape[0])


def _unsafe(archive: Archive, info: tarfile.TarInfo, reason: str) -> str:
    return (
        f"{archive.name}: the member {info.name!r} {reason}. This is not the published archive, and none of it was "
        f"kept. Delete the file and fetch {archive.urls[0]} again."
    )
