"""Tests of the kernels after the series: 6.12."""
