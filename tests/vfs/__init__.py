"""Tests of the VFS side: dentries, inodes, their LRU lists, shrinkers and reclaim."""
