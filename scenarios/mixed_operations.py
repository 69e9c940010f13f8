"""A generated workload: tasks make and remove cgroups, move, allocate, free, load and unload modules, and read files.

The parameters alone say which operations each task performs, in which order: each operation is drawn from `workload`
and its own number, so that leaving one out changes no other. An operation does what it can, and goes on with the errors
that the kernel returns: mkdir of a name that exists, rmdir of a cgroup that is in use. So every program, and every part
of one, is valid in every interleaving, by these rules for callers:

- A cgroup is used by its name, which is looked up under the lock of the directory, as the VFS does for mkdir and rmdir.
  Only reading a file begins with the lock and goes on without it: an open file keeps its node.
- A task is not moved after its end, nor an object freed twice: each task frees its own objects, on any CPU.
- A module's cache is used by the task that loaded the module; its objects are freed before it is destroyed. With
  `misuse` they are freed later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import attrs

from actors.api import (
    UPDATE,
    Actor,
    Cgroup,
    Context,
    KmemCache,
    Machine,
    Mutex,
    MutexHeld,
    RcuHead,
    Shared,
    SlabFlags,
    SlabObject,
    call_rcu,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
    operation,
)
from actors.files.kernel_files import find_file
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, cgroup_mkdir, cgroup_rmdir, memcg_of
from actors.linux.mm.page_counter import PageCounter
from scenarios.api import (
    MACHINE,
    MEMORY,
    RCU,
    Knob,
    SlabinfoRow,
    Stage,
    charge_elsewhere,
    mkdir,
    scenario,
    small_cache,
    warm_up,
)
from scenarios.services import draws
from scenarios.stage import Operation

LOTS = {
    "alloc": 4,
    "free": 2,
    "free-elsewhere": 2,
    "free-rcu": 1,
    "mkdir": 2,
    "rmdir": 3,
    "move": 3,
    "create": 1,
    "destroy": 1,
    "read": 2,
    "limit": 1,
    "shrink": 1,
}
"""The kinds of operations, each with its weight."""

KINDS = tuple(LOTS)
STRIDE = 100
"""Operation i of task t has the number `STRIDE` * t + i, however many operations and tasks there are."""

MOST_TASKS, MOST_CGROUPS, MOST_AT_ONCE, MOST_PAGES = 8, 8, 4, 6

CACHES = (small_cache("alpha"), SlabinfoRow("beta", 0, 0, 2048, 4, 2), small_cache("typesafe"))
"""The caches that all tasks share; the slabs of the second are compound pages, the third is SLAB_TYPESAFE_BY_RCU."""

MODULES = (4, 8, 16)
"""Objects in a page of a module's cache. The first is merged with alpha, the others only with those of modules."""

FILES = (
    "slabinfo",
    "memcg_slabinfo",
    "memory.stat",
    "cgroup.stat",
    "memory.kmem.slabinfo",
    "memory.kmem.usage_in_bytes",
    "cgroups",
    "slab",
    "kpagecgroup",
)

DONE, NOTHING_TO_DO = "done", "nothing to do"


# -- the program ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Planned:
    """One operation of task number `task`, with all that its kind may need: `path` names a cgroup, `other` a task."""

    number: int
    task: int
    kind: str
    path: str
    other: int
    cache: int
    count: int
    cpu: int
    file: str
    pages: int
    objects: int

    @property
    def words(self) -> str:
        """The operation, for people."""
        cache = CACHES[self.cache].name
        return {
            "alloc": f"alloc {self.count} of {cache}",
            "free": f"free {self.count}",
            "free-elsewhere": f"free {self.count} on CPU {self.cpu}",
            "free-rcu": f"free {self.count} by RCU",
            "mkdir": f"mkdir {self.path}",
            "rmdir": f"rmdir {self.path}",
            "move": f"move {name_of(self.other)} to {self.path}",
            "create": f"create {self.module} of {self.objects} objects a page, alloc {self.count} of it",
            "destroy": "free and destroy a module's cache",
            "read": f"read {f'{self.path}/' * bool(find_file(self.file).css)}{self.file}",
            "limit": f"limit {self.path} to {self.pages} pages",
            "shrink": f"shrink {cache}",
        }[self.kind]

    @property
    def module(self) -> str:
        """The name of the cache of a module; no other module has it."""
        return f"module{self.number}"


def plan(knobs: Mapping[str, Any]) -> list[Planned]:
    """All operations that the parameters stand for, task by task; also those that are left out."""
    return [
        draw(STRIDE * task + place, task, knobs)
        for task in range(knobs["tasks"])
        for place in range(knobs["operations"])
    ]


def draw(number: int, task: int, knobs: Mapping[str, Any]) -> Planned:
    """Operation *number*. Each part of it has a draw of its own, so the kinds that may occur change no target."""
    shares = draws(f"{knobs['workload']}/{number}")
    best = {kind: max(next(shares) for _ in range(lots)) for kind, lots in LOTS.items()}
    allowed = knobs["kinds"].split(",") if knobs["kinds"] else KINDS
    paths = paths_of(knobs["cgroups"])

    def below(count: int) -> int:
        return int(next(shares) * count)

    return Planned(
        number,
        task,
        kind=max(allowed, key=best.__getitem__),
        path=paths[below(len(paths))],
        other=below(knobs["tasks"]),
        cache=below(knobs["caches"]),
        count=1 + below(MOST_AT_ONCE),
        cpu=below(knobs["cpus"]),
        file=FILES[below(len(FILES))],
        pages=1 + below(MOST_PAGES),
        objects=MODULES[below(len(MODULES))],
    )


def paths_of(cgroups: int) -> list[str]:
    """The paths of cgroups, parents first: every second one is the child of the one before."""
    letters = "abcdefgh"[:cgroups]
    return [f"{letters[at - 1]}/{letter}" if at % 2 else letter for at, letter in enumerate(letters)]


def name_of(task: int) -> str:
    """The name of a task by its number."""
    return f"task{task}"


# -- the machine that it runs on --------------------------------------------------------------------------------------


@attrs.define(eq=False)
class LimitFiles(Shared):
    """The files that set limits: memory.max; memory.kmem.limit_in_bytes on cgroup v1."""

    @property
    def label(self) -> str:
        return "the files of limits"

    @operation(UPDATE)
    def page_counter_set_max(self, counter: PageCounter, pages: int) -> bool:
        """Set a limit; False (-EBUSY) if more is in use, as on v1. On v2 the model does not reclaim for it, either."""
        counter.touch(UPDATE)
        if counter.usage <= pages:
            counter.max = pages
        return counter.max == pages


@attrs.define(eq=False)
class Directory:
    """The cgroups by path. `lock` (the VFS's i_rwsem) protects them, and `ended`, the tasks that cannot be moved."""

    machine: Machine
    lock: Mutex
    limits: LimitFiles
    cgroups: dict[str, Cgroup] = attrs.field(factory=dict)
    ended: set[int] = attrs.field(factory=set)

    async def mkdir(self, ctx: Context, path: str) -> str:
        async with MutexHeld(ctx, self.lock):
            parent = self.parent_of(path)
            if parent is None:
                return "ENOENT"
            if path in self.cgroups:
                return "EEXIST"
            cgroup = await cgroup_mkdir(ctx, parent, path.rpartition("/")[2])
            if cgroup is None:
                return "ENOMEM"
            self.cgroups[path] = cgroup
            return DONE

    def parent_of(self, path: str) -> Cgroup | None:
        """The parent of a cgroup, if that exists."""
        above = path.rpartition("/")[0]
        return self.cgroups.get(above) if above else self.machine.root_cgroup

    async def rmdir(self, ctx: Context, path: str) -> str:
        async with MutexHeld(ctx, self.lock):
            if path not in self.cgroups:
                return "ENOENT"
            if not await cgroup_rmdir(ctx, self.cgroups[path]):
                return "EBUSY"
            del self.cgroups[path]
            return DONE

    async def move(self, ctx: Context, worker: Worker, path: str) -> str:
        async with MutexHeld(ctx, self.lock):
            if path not in self.cgroups:
                return "ENOENT"
            if worker.number in self.ended:
                return "ESRCH"
            await cgroup_attach_task(ctx, self.cgroups[path], worker.context)
            return DONE

    async def limit(self, ctx: Context, path: str, pages: int) -> str:
        async with MutexHeld(ctx, self.lock):
            if path not in self.cgroups:
                return "ENOENT"
            memcg = memcg_of(self.cgroups[path].css)
            is_set = await ctx.ask(self.limits.page_counter_set_max, memcg.kmem or memcg.memory, pages)
            return DONE if is_set else "EBUSY"

    async def open(self, ctx: Context, path: str) -> Cgroup | None:
        """Look a cgroup up."""
        async with MutexHeld(ctx, self.lock):
            return self.cgroups.get(path)

    async def end(self, ctx: Context, worker: Worker) -> None:
        """Let nobody move a task any more."""
        async with MutexHeld(ctx, self.lock):
            self.ended.add(worker.number)


@attrs.define(eq=False)
class Worker:
    """One task: the objects that it holds, oldest first, and the caches that it loaded, each with its objects."""

    number: int
    stage: Stage
    directory: Directory
    workers: list[Worker]
    roots: list[KmemCache]
    context: Context = attrs.field(init=False)
    held: list[tuple[KmemCache, SlabObject]] = attrs.field(factory=list, init=False)
    modules: list[tuple[KmemCache, list[SlabObject]]] = attrs.field(factory=list, init=False)

    async def work(self, ctx: Context, planned: list[tuple[Planned, Operation]]) -> None:
        """Perform all operations of this task, and note the outcomes."""
        for todo, told in planned:
            told.outcome = await PERFORM[todo.kind](self, ctx, todo)
        await self.directory.end(ctx, self)

    async def alloc(self, ctx: Context, todo: Planned) -> str:
        objects = await allocate(ctx, self.roots[todo.cache], todo.count)
        self.held += [(self.roots[todo.cache], obj) for obj in objects]
        return DONE if len(objects) == todo.count else "ENOMEM"

    async def free(self, ctx: Context, todo: Planned) -> str:
        for cache, obj in (given := self.take(todo.count)):
            await kmem_cache_free(ctx, cache, obj)
        return DONE if given else NOTHING_TO_DO

    async def free_elsewhere(self, ctx: Context, todo: Planned) -> str:
        home = ctx.machine.cpus[ctx.smp_processor_id]
        await ctx.migrate(ctx.machine.cpus[todo.cpu])
        outcome = await self.free(ctx, todo)
        await ctx.migrate(home)
        return outcome

    async def free_by_rcu(self, ctx: Context, todo: Planned) -> str:
        for cache, obj in (given := self.take(todo.count)):
            await call_rcu(ctx, RcuHead(obj.slab), freeing(cache, obj))
        return DONE if given else NOTHING_TO_DO

    def take(self, count: int) -> list[tuple[KmemCache, SlabObject]]:
        """The oldest *count* objects, which this task does not hold any more."""
        given = self.held[:count]
        del self.held[:count]
        return given

    async def mkdir(self, ctx: Context, todo: Planned) -> str:
        return await self.directory.mkdir(ctx, todo.path)

    async def rmdir(self, ctx: Context, todo: Planned) -> str:
        return await self.directory.rmdir(ctx, todo.path)

    async def move(self, ctx: Context, todo: Planned) -> str:
        return await self.directory.move(ctx, self.workers[todo.other], todo.path)

    async def create(self, ctx: Context, todo: Planned) -> str:
        """Load a module. Its cache may be merged with a shared one, or with another module's."""
        cache = await kmem_cache_create(ctx, small_cache(todo.module, objects=todo.objects), SlabFlags.ACCOUNT)
        if cache is None:
            return "ENOMEM"
        self.modules.append((cache, await allocate(ctx, cache, todo.count)))
        return DONE

    async def destroy(self, ctx: Context, _todo: Planned) -> str:
        """Unload the oldest module of this task."""
        if not self.modules:
            return NOTHING_TO_DO
        cache, objects = self.modules.pop(0)
        if self.stage.knobs["misuse"] == "yes":
            self.held += [(cache, obj) for obj in objects]
        else:
            for obj in objects:
                await kmem_cache_free(ctx, cache, obj)
        await kmem_cache_destroy(ctx, cache)
        return DONE

    async def read(self, ctx: Context, todo: Planned) -> str:
        file = find_file(todo.file)
        if file.lacks(ctx.machine.config):
            return "ENOENT"
        cgroup = await self.directory.open(ctx, todo.path) if file.css else ctx.machine.root_cgroup
        if cgroup is None:
            return "ENOENT"
        return "ENODEV" if await file.read(ctx, cgroup) is None else DONE

    async def limit(self, ctx: Context, todo: Planned) -> str:
        return await self.directory.limit(ctx, todo.path, todo.pages)

    async def shrink(self, ctx: Context, todo: Planned) -> str:
        await kmem_cache_shrink(ctx, self.roots[todo.cache])
        return DONE

    async def free_all(self, ctx: Context) -> None:
        """Free what the program has left over."""
        for cache, obj in self.take(len(self.held)):
            await kmem_cache_free(ctx, cache, obj)
        for cache, objects in self.modules:
            for obj in objects:
                await kmem_cache_free(ctx, cache, obj)
            await kmem_cache_destroy(ctx, cache)


PERFORM: dict[str, Callable[[Worker, Context, Planned], Awaitable[str]]] = {
    "alloc": Worker.alloc,
    "free": Worker.free,
    "free-elsewhere": Worker.free_elsewhere,
    "free-rcu": Worker.free_by_rcu,
    "mkdir": Worker.mkdir,
    "rmdir": Worker.rmdir,
    "move": Worker.move,
    "create": Worker.create,
    "destroy": Worker.destroy,
    "read": Worker.read,
    "limit": Worker.limit,
    "shrink": Worker.shrink,
}


async def allocate(ctx: Context, cache: KmemCache, count: int) -> list[SlabObject]:
    """Allocate *count* objects, or as many as there is memory for."""
    objects = [await kmem_cache_alloc(ctx, cache) for _ in range(count)]
    return [obj for obj in objects if obj is not None]


def freeing(cache: KmemCache, obj: SlabObject) -> Callable[[Context, RcuHead], Awaitable[None]]:
    """The RCU callback that frees *obj*."""

    async def free_object(ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, cache, obj)

    return free_object


# -- the stage --------------------------------------------------------------------------------------------------------


@scenario(
    "mixed-operations",
    "a generated workload: tasks make, remove and use cgroups, objects and caches, as the parameters say",
    Knob("workload", "number of the workload, the seed of all its operations", 0, most=(1 << 64) - 1, is_seed=True),
    Knob("tasks", "tasks, spread over the CPUs", 3, least=1, most=MOST_TASKS),
    Knob("operations", "operations of each task", 6, least=1, most=STRIDE - 1),
    Knob("cgroups", "cgroups; every second one is the child of the one before", 3, least=1, most=MOST_CGROUPS),
    Knob("caches", "caches that all tasks share", 2, least=1, most=len(CACHES)),
    Knob("kinds", "the kinds of operations that may occur; none given: all", "", choices=KINDS, is_list=True),
    Knob(
        "left_out",
        "numbers of operations that are left out; the others stay as they are",
        "",
        most=STRIDE * MOST_TASKS - 1,
        is_list=True,
    ),
    Knob("misuse", "yes: modules destroy their caches before they free the objects", "no", choices=("no", "yes")),
    attrs.evolve(MEMORY, default="short"),
    RCU,
    *MACHINE,
)
def mixed_operations(stage: Stage) -> None:
    knobs = stage.knobs
    rows = CACHES[: knobs["caches"]]
    machine = stage.boot(caches=rows)
    roots = [machine.root_cache(row.name) for row in rows]
    limits = LimitFiles(Actor(machine.world, "limits"))
    directory = Directory(machine, Mutex.boot(machine.world, "cgroup directory"), limits)
    workers: list[Worker] = []
    left_out = knobs["left_out"].split(",")
    planned = plan(knobs)
    stage.operations.extend(tell(planned, len(machine.cpus), left_out))

    def add_worker(number: int) -> None:
        own = [
            (todo, told)
            for todo, told in zip(planned, stage.operations, strict=True)
            if todo.task == number and not told.is_left_out
        ]
        worker = Worker(number, stage, directory, workers, roots)
        worker.context = stage.task(name_of(number), lambda ctx: worker.work(ctx, own), cpu=number)
        workers.append(worker)

    async def make_cgroups(ctx: Context) -> None:
        for path in paths_of(knobs["cgroups"]):
            parent = directory.parent_of(path)
            assert parent is not None, "parents come first"
            directory.cgroups[path] = await mkdir(ctx, parent, path.rpartition("/")[2])
            await warm_up(ctx, directory.cgroups[path], *roots)
        for worker in workers:
            home = list(directory.cgroups.values())[worker.number % len(directory.cgroups)]
            await cgroup_attach_task(ctx, home, worker.context)

    async def clean_up(ctx: Context) -> None:
        for worker in workers:
            await worker.free_all(ctx)
        for path in sorted(directory.cgroups, reverse=True):
            await directory.rmdir(ctx, path)
        await charge_elsewhere(ctx, stage.session)

    for number in range(knobs["tasks"]):
        add_worker(number)
    stage.set_up(make_cgroups)
    stage.wind_up(clean_up)


def tell(planned: list[Planned], cpus: int, left_out: list[str]) -> Iterator[Operation]:
    """The program in words, for reports."""
    for todo in planned:
        task = f"{name_of(todo.task)} on CPU {todo.task % cpus}"
        yield Operation(todo.number, task, todo.words, is_left_out=str(todo.number) in left_out)
