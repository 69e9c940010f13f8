"""The tools that kernel code is written with: the execution context, flags, lists, lockless fields."""
