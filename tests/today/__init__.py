"""The kernels with obj_cgroups: 6.12."""
