"""Tasks that were moved out of a cgroup go on sleeping, and their kernel stacks stay charged (KERNEL-today 9, 24).

Each generation forks a task in a new cgroup, moves it out and removes the cgroup. The stack of the task is charged to
the cgroup where it was forked. Since 5.14 the pages hold an obj_cgroup, which removal gives to the parent, and the
cgroup goes. Before, they held the memcg: `--without kmem-pages-by-css` keeps one dying cgroup for each generation,
until the tasks end.
"""

from __future__ import annotations

from actors.api import GFP_KERNEL_ACCOUNT, Cgroup, Context
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from actors.linux.kernel.locking.locks import Completion
from actors.linux.mm.obj_cgroup import KmemPages, __memcg_kmem_charge_page, __memcg_kmem_uncharge_page
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import MACHINE, Knob, Stage, enter, mkdir, rmdir, scenario

REST_NS = 500_000_000
STACK_PAGES = 4
"""THREAD_SIZE on x86-64: 16 kB."""


@scenario(
    "moved-tasks",
    "generations of a task, each forked in a new cgroup and moved out, go on sleeping",
    Knob("generations", "how many tasks are forked", 20, least=1),
    Knob("every", "generations, and later ends of tasks, between two sampled points", 5, least=1),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def moved_tasks(stage: Stage) -> None:
    machine = stage.boot()
    generations = stage.knobs["generations"]
    sleeping: list[tuple[Completion, Completion]] = []

    async def fork(ctx: Context, number: int, cgroup: Cgroup) -> Context | None:
        """Start a task in the *cgroup* of the running one, which is charged for the stack; None is -ENOMEM."""
        stack = await alloc_stack(ctx, f"stack of sleeper{number}")
        if stack is None:
            return None
        wake, gone = (Completion(machine.cgroup_tree.actor, remaining=1) for _ in range(2))

        async def sleep(ctx: Context) -> None:
            await ctx.ask(wake.wait_for_completion)
            await free_stack(ctx, stack)

        child = machine.new_task(f"sleeper{number}", number % len(machine.cpus))
        await ctx.ask(machine.cgroup_tree.move_task, child, cgroup)
        machine.start(child, sleep, gone)
        sleeping.append((wake, gone))
        return child

    async def generation(ctx: Context, number: int) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, f"job{number}")
        await ctx.migrate(machine.cpus[number % len(machine.cpus)])
        await enter(ctx, cgroup)
        child = await fork(ctx, number, cgroup)
        if child is not None:
            await cgroup_attach_task(ctx, machine.root_cgroup, child)
        await enter(ctx, machine.root_cgroup)
        await rmdir(ctx, cgroup)

    async def sample_every(ctx: Context, point: str, number: int) -> None:
        if number % stage.knobs["every"] == 0 or number == generations:
            await ctx.sleep(REST_NS)
            stage.sample(f"{point}{number}")

    async def story(ctx: Context) -> None:
        stage.sample("base")
        for number in range(1, generations + 1):
            await generation(ctx, number)
            await sample_every(ctx, "g", number)
        for number, (wake, gone) in enumerate(sleeping, start=1):
            await ctx.ask(wake.complete)
            await ctx.ask(gone.wait_for_completion)
            await sample_every(ctx, "exit", number)

    stage.task("fork", story)
    stage.eventually("every cgroup is gone", stage.only_session_left)


async def alloc_stack(ctx: Context, name: str) -> KmemPages | None:
    """alloc_thread_stack_node(): pages of the kernel, charged to the task that forks; None is -ENOMEM."""
    if not await alloc_pages(ctx, GFP_KERNEL_ACCOUNT, STACK_PAGES):
        return None
    stack = KmemPages(ctx.machine.cgroup_tree.actor, name, STACK_PAGES)
    if await __memcg_kmem_charge_page(ctx, stack, GFP_KERNEL_ACCOUNT):
        return stack
    await __free_pages(ctx, STACK_PAGES)
    return None


async def free_stack(ctx: Context, stack: KmemPages) -> None:
    """exit_task_stack_account(), and the free of the pages, which the kernel leaves to a later task."""
    await __memcg_kmem_uncharge_page(ctx, stack)
    await __free_pages(ctx, stack.nr_pages)
