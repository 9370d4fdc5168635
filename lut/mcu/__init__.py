"""Microcontrollers: C kernels, the firmware around them, the compiler and simulator they run with, and their cycles.

`emit.kernel` makes one C function of an OpSpec; `image` compiles and links; `qemu` runs and counts; `cycles` makes
cycles of the counts. lut/profilers/mcu.py measures rows with them, deploy/c_project.py builds networks of the same
kernels.
"""
