"""The children of a css in the order of their cgroups, for walks that go on from wherever they are.

A walk of all memcgs asks for the one after the present one, again and again (css_next_descendant_pre()). In C that is a
pointer; here it takes a search, which must not begin at the first child every time.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING

from actors.kernel.list_head import ListHead, use

if TYPE_CHECKING:
    from actors.kernel.cgroup import Css
    from actors.kernel.memcontrol import Memcg


class CssChildren(ListHead["Css"]):
    """A list of css, oldest first: they are linked in the order in which their cgroups are made (cgroup_mutex)."""

    _in_order: tuple[Css, ...] | None = None

    def __setitem__(self, css: Css, value: None) -> None:
        super().__setitem__(css, value)
        self._in_order = None

    def __delitem__(self, css: Css) -> None:
        super().__delitem__(css)
        self._in_order = None

    def first_memcg_after(self, serial_nr: int) -> Memcg | None:
        """That of the oldest child whose cgroup is younger than the one of that number."""
        if self._in_order is None:
            self._in_order = tuple(self)
        first = bisect_right(self._in_order, serial_nr, key=lambda css: css.cgroup.serial_nr)
        for css in itertools.islice(self._in_order, first, None):
            if self.freed:
                use(css)
            if css.memcg is not None:
                return css.memcg
        return None
