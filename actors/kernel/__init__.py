"""The simulated kernel: one module per kernel file, C names letter for letter.

docs/kernel-map.md says which C function stands where. Every kernel function takes the flow it runs in (`ctx`)
first; `def` is atomic, `async def` may be preempted at each await.

Whoever imports one of its modules gets them all: the table of kernel functions (`kernel_fn.FUNCTIONS`), and that of the
fixes, are whole before anybody can look into them, so that a name means the same in a command, a library call and a
worker process.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
