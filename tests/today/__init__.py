"""The kernels after the series: 6.12."""
