"""Identifiers that nothing else has, also where a process is the copy of another."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os
from evflex.server.unique import new_uuid
new_uuid()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(new_uuid(), flush=True)
"""


def test_a_process_and_its_copy_draw_different_identifiers() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, check=True)
    drawn = run.stdout.split()
    assert len(set(drawn)) == len(drawn) == 2
