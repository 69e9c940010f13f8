"""The files in which a kernel reports slabs and cgroups. The module `crash_reader` reads them from outside.

    file, cgroup = locate(machine, "job1/memory.stat")
    data = await file.read(ctx, cgroup)

A read takes the kernel's locks step by step, like any task, so it may take part in a race.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import attrs

from actors.files.cgroup_files import (
    cgroup_stat_show,
    mem_cgroup_read_u64,
    memory_current_read,
    memory_stat_format,
    memory_stat_show,
    proc_cgroupstats_show,
)
from actors.files.proc_page import kpagecgroup_read
from actors.files.seq_file import SeqFile, Show, read_whole, single_open
from actors.files.slabinfo import kmem_slabinfo_open, memcg_slabinfo_show, slabinfo_open
from actors.files.slabinfo_full import all_rows, slabinfo_full_show
from actors.linux.fs.kernfs import kernfs_fop_read
from actors.linux.kernel.cgroup.cgroup import Cgroup, Css
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.slub_sysfs import read_slab_directory
from actors.machine.context import Context, deref
from actors.versions.profiles import WITHOUT_CHILD_CACHES, profile_range
from protocol.errors import UsageError
from protocol.names import do_you_mean, no_such

if TYPE_CHECKING:
    from actors.linux.init.machine import Config, Machine

T = TypeVar("T")

Read = Callable[[Context, Cgroup], Awaitable[bytes | None]]


@attrs.frozen
class KernelFile:
    """One file. `read` returns its bytes, or None (-ENODEV) if it was removed before.

    `path` is its path in a kernel. A file in the directory of each cgroup belongs to a css: `css` returns that css,
    whose life the file shares. `lacks` returns the reason why a machine does not have the file, or an empty text. With
    `not_on_root` the root cgroup has the file on the kernels `on_root_of` only. `look` reads it for the crash reader,
    if that needs another function.
    """

    name: str
    path: str
    summary: str
    read: Read
    lacks: Callable[[Config], str] = lambda _config: ""
    css: Callable[[Cgroup], Css] | None = None
    not_on_root: bool = False
    on_root_of: tuple[str, ...] = ()
    is_binary: bool = False
    look: Read | None = None


# -- readers ----------------------------------------------------------------------------------------------------------


async def _slabinfo(ctx: Context, _cgroup: Cgroup) -> bytes:
    return await read_whole(ctx, slabinfo_open())


async def _slabinfo_full(ctx: Context, _cgroup: Cgroup) -> bytes:
    return (await slabinfo_full_show(ctx)).encode()


async def _all_rows(ctx: Context, _cgroup: Cgroup) -> bytes:
    return (await all_rows(ctx)).encode()


async def _memcg_slabinfo(ctx: Context, _cgroup: Cgroup) -> bytes:
    return await read_whole(ctx, single_open(memcg_slabinfo_show))


async def _kmem_slabinfo(ctx: Context, cgroup: Cgroup) -> bytes | None:
    return await _read_of_css(ctx, cgroup.css, kmem_slabinfo_open(_memcg(cgroup)))


async def _kmem_usage(ctx: Context, cgroup: Cgroup) -> bytes | None:
    return await _show_of_css(ctx, cgroup.css, lambda ctx, m: mem_cgroup_read_u64(ctx, m, _memcg(cgroup)))


async def _memory_stat(ctx: Context, cgroup: Cgroup) -> bytes | None:
    return await _show_of_css(ctx, cgroup.css, lambda ctx, m: memory_stat_show(ctx, m, _memcg(cgroup)))


async def _look_at_memory_stat(ctx: Context, cgroup: Cgroup) -> bytes | None:
    """As `_memory_stat`, but without a flush, which would change the machine."""
    if not ctx.machine.is_without_child_caches:
        return await _memory_stat(ctx, cgroup)
    return await _show_of_css(ctx, cgroup.css, lambda ctx, m: memory_stat_format(ctx, m, _memcg(cgroup)))


async def _memory_current(ctx: Context, cgroup: Cgroup) -> bytes | None:
    return await _show_of_css(ctx, cgroup.css, lambda ctx, m: memory_current_read(ctx, m, _memcg(cgroup)))


async def _cgroup_stat(ctx: Context, cgroup: Cgroup) -> bytes | None:
    return await _show_of_css(ctx, cgroup.self_css, lambda ctx, m: cgroup_stat_show(ctx, m, cgroup))


async def _cgroups(ctx: Context, _cgroup: Cgroup) -> bytes:
    return await read_whole(ctx, single_open(proc_cgroupstats_show))


async def _kpagecgroup(ctx: Context, _cgroup: Cgroup) -> bytes:
    return await kpagecgroup_read(ctx)


async def _slab_directory(ctx: Context, _cgroup: Cgroup) -> bytes:
    return (await read_slab_directory(ctx)).encode()


def _memcg(cgroup: Cgroup) -> Memcg:
    """mem_cgroup_from_seq(); an active reference keeps the memcg alive."""
    return deref(cgroup.css.memcg, "mem_cgroup_from_css(css)")


async def _show_of_css(ctx: Context, css: Css, show: Show) -> bytes | None:
    return await _read_of_css(ctx, css, single_open(show))


async def _read_of_css(ctx: Context, css: Css, m: SeqFile[T]) -> bytes | None:
    """Read a file of a cgroup; the removal of the cgroup waits for the read."""
    return await kernfs_fop_read(ctx, css.files, lambda: read_whole(ctx, m))


def _memory_css(cgroup: Cgroup) -> Css:
    return cgroup.css


def _self_css(cgroup: Cgroup) -> Css:
    return cgroup.self_css


def _unless_cgroup(version: int) -> Callable[[Config], str]:
    return lambda config: "" if config.cgroup == version else f"that is a file of cgroup v{version}"


def _unless_since(profile: str) -> Callable[[Config], str]:
    return lambda config: "" if config.kernel in profile_range(f"{profile}..") else f"that came with {profile}"


def _unless_child_caches(then: Callable[[Config], str]) -> Callable[[Config], str]:
    """A file about the caches of cgroups, which ended with them; before, it has the condition *then*."""
    return lambda config: "there is one set of caches" if config.kernel in WITHOUT_CHILD_CACHES else then(config)


def _unless_slub(config: Config) -> str:
    return "" if config.allocator == "slub" else "SLAB has no such directory"


FILES = (
    KernelFile("slabinfo", "/proc/slabinfo", "root caches, each with the sums over its children", _slabinfo),
    KernelFile(
        "slabinfo_full",
        "slabinfo_full",
        "every cache, zombies too: owner, memcg, state, age (slabrace's own)",
        _slabinfo_full,
        look=_all_rows,
    ),
    KernelFile(
        "memcg_slabinfo",
        "/sys/kernel/debug/memcg_slabinfo",
        "child caches with the css ids of their memcgs",
        _memcg_slabinfo,
        _unless_child_caches(_unless_since("5.3")),
    ),
    KernelFile(
        "memory.kmem.slabinfo",
        "/sys/fs/cgroup/memory/*/memory.kmem.slabinfo",
        "the caches of one memcg",
        _kmem_slabinfo,
        _unless_child_caches(_unless_cgroup(1)),
        css=_memory_css,
    ),
    KernelFile(
        "memory.kmem.usage_in_bytes",
        "/sys/fs/cgroup/memory/*/memory.kmem.usage_in_bytes",
        "kernel memory charged to one memcg",
        _kmem_usage,
        _unless_cgroup(1),
        css=_memory_css,
    ),
    KernelFile(
        "memory.stat",
        "/sys/fs/cgroup/*/memory.stat",
        "the lines about slabs, of one memcg",
        _memory_stat,
        _unless_cgroup(2),
        css=_memory_css,
        not_on_root=True,
        on_root_of=WITHOUT_CHILD_CACHES,
        look=_look_at_memory_stat,
    ),
    KernelFile(
        "memory.current",
        "/sys/fs/cgroup/*/memory.current",
        "memory charged to one memcg",
        _memory_current,
        _unless_cgroup(2),
        css=_memory_css,
        not_on_root=True,
    ),
    KernelFile(
        "cgroup.stat",
        "/sys/fs/cgroup/*/cgroup.stat",
        "live and dying descendants of one cgroup",
        _cgroup_stat,
        _unless_cgroup(2),
        css=_self_css,
    ),
    KernelFile("cgroups", "/proc/cgroups", "how many cgroups there are, dying ones too", _cgroups),
    KernelFile(
        "kpagecgroup", "/proc/kpagecgroup", "the cgroup's inode for each page frame", _kpagecgroup, is_binary=True
    ),
    KernelFile(
        "slab", "/sys/kernel/slab", "the names of all caches' directories, and links", _slab_directory, _unless_slub
    ),
)
"""All files, each under its name in commands."""


# -- which file of which cgroup ---------------------------------------------------------------------------------------


def find_file(name: str) -> KernelFile:
    """The file of that name or path; UsageError lists the existing ones."""
    for file in FILES:
        if name in (file.name, file.path):
            return file
    msg = f"{name}: {no_such('file', name.rpartition('/')[2], [file.name for file in FILES])}"
    raise UsageError(msg)


def locate(machine: Machine, name: str) -> tuple[KernelFile, Cgroup]:
    """The file that `NAME` means on *machine*, or `CGROUP/NAME` for a file of one cgroup (default: the root cgroup).

    Kernel paths are accepted, too. UsageError if this machine has no such file at this moment.
    """
    path, _, base = name.rpartition("/")
    file = next((file for file in FILES if file.css and base == file.name), None) or find_file(name)
    lacks = file.lacks(machine.config)
    if lacks:
        msg = f"{file.name}: {machine.config.kernel} with {machine.config.allocator} does not have it here: {lacks}"
        raise UsageError(msg)
    if file.css is None:
        return file, machine.root_cgroup
    return file, find_directory(machine, file, path)


def find_directory(machine: Machine, file: KernelFile, path: str) -> Cgroup:
    """The cgroup at *path* that has the cgroup file *file* now; a removed cgroup has no files."""
    mount = file.path.partition("/*/")[0]
    cgroup = machine.root_cgroup
    for name in filter(None, path.removeprefix(mount).split("/")):
        found = next((child for child in cgroup.children if child.name == name and has_file(child, file)), None)
        if found is None:
            hint = do_you_mean(path, _paths(machine, file))
            msg = f"{path}/{file.name}: there is no such cgroup now{hint or ';'} {_existing(machine, file)}"
            raise UsageError(msg)
        cgroup = found
    if file.not_on_root and cgroup.parent is None and machine.config.kernel not in file.on_root_of:
        msg = f"{file.name}: the root cgroup has none; give CGROUP/{file.name}; {_existing(machine, file)}"
        raise UsageError(msg)
    return cgroup


def has_file(cgroup: Cgroup, file: KernelFile) -> bool:
    """Whether *cgroup* has the cgroup file *file* now: between its coming online and its removal."""
    return file.css is not None and cgroup.has_css and not file.css(cgroup).files.is_removed


def _paths(machine: Machine, file: KernelFile) -> list[str]:
    return [cgroup_path(cgroup) for cgroup in machine.root_cgroup.descendants() if has_file(cgroup, file)]


def _existing(machine: Machine, file: KernelFile) -> str:
    return f"cgroups that have it: {', '.join(_paths(machine, file)) or 'none'}"


def cgroup_path(cgroup: Cgroup) -> str:
    """The path of *cgroup* in the file system, relative to the root cgroup's directory."""
    return "/".join(level.name for level in (*reversed(cgroup.ancestors()), cgroup) if level.parent is not None)


async def read_file(ctx: Context, name: str) -> bytes | None:
    """Read the file that *name* means (see `locate`) in this flow; None if it was removed before."""
    file, cgroup = locate(ctx.machine, name)
    return await file.read(ctx, cgroup)
