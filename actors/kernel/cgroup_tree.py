"""The tree of cgroups and who is in which: what css_set_lock protects. kernel/cgroup/cgroup.c @5.3.1; KERNEL.md 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.idr import Ida
from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.cgroup import Cgroup
    from actors.kernel.memcontrol import Memcg


@attrs.define(eq=False)
class CgroupTree(Shared):
    """The descendant counts and the children lists.

    Each operation is one css_set_lock section of the kernel, and one access: of those who read outside the lock nobody
    can tell. `nr_cgrps` counts the cgroups that are not freed, the root too. `css_idr` is the memory controller's; its
    lock is taken for nothing else, so neither giving a number out nor taking it back is a step of its own.
    """

    nr_cgrps: int = attrs.field(default=1, init=False)
    css_idr: Ida = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.css_idr = Ida(self.actor, "css_idr", lowest=2)

    @property
    def label(self) -> str:
        return "css_set_lock"

    @operation(READ)
    def is_at_limit(self, parent: Cgroup) -> bool:
        """cgroup_check_hierarchy_limits(): dying descendants do not count."""
        levels = [parent, *parent.ancestors()]
        for level in levels:
            level.touch_part("descendants", READ)
        return any(
            level.max_descendants is not None and level.nr_descendants >= level.max_descendants for level in levels
        )

    @operation(UPDATE)
    def link(self, cgroup: Cgroup) -> None:
        """3.1.2: a new cgroup is counted by every ancestor."""
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_descendants += 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.children.list_add_tail(cgroup)
        self.nr_cgrps += 1

    @operation(READ, part="nr_cgrps")
    def read_nr_cgrps(self) -> int:
        """atomic_read(&root->nr_cgrps)."""
        return self.nr_cgrps

    @operation(READ)
    def read_memcg(self, task: Context) -> Memcg | None:
        """task_css(): the memcg of *task*, None for the root's; may be another one a step later."""
        return task.memcg

    @operation(UPDATE)
    def move_task(self, task: Context, cgroup: Cgroup) -> None:
        """css_set_move_task()."""
        if task.memcg is not None:
            old = task.memcg.css.cgroup
            old.touch_part("population", UPDATE)
            old.tasks -= 1
            old.reconsider()
        task.memcg = None
        if cgroup.parent is not None:
            task.memcg = cgroup.css.memcg
            cgroup.touch_part("population", UPDATE)
            cgroup.tasks += 1

    @operation(UPDATE)
    def mark_dying(self, cgroup: Cgroup) -> None:
        """3.2.3: it is now a dying descendant of every ancestor."""
        cgroup.touch(UPDATE)
        cgroup.is_dead = True
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_descendants -= 1
            ancestor.nr_dying_descendants += 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.reconsider()

    @operation(UPDATE)
    def forget(self, cgroup: Cgroup) -> None:
        """3.4.4: nothing keeps it any more."""
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_dying_descendants -= 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.children.list_del(cgroup)
