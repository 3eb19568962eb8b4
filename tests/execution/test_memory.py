"""Freed memory leaves the process."""

import subprocess
import sys

SCRIPT = """
import platform
from obdbench.execution.memory import release_free_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

blocks = [bytearray(60_000) for _ in range(3_000)]  # below malloc's threshold for own mappings
kept = bytearray(60_000)  # on top of the heap, which free() alone would shrink
full = resident()
blocks.clear()
release_free_memory()
print(platform.libc_ver()[0], full - resident())
"""


def test_freed_memory_goes_back_to_the_system():
    command = [sys.executable, "-c", SCRIPT]
    library, freed = subprocess.check_output(command, text=True).split()
    if library == "glibc":
        assert int(freed) > 100_000_000
