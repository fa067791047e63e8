"""Isolation: what foreign code changes of the process is put back, and what it prints stays out of the results.

Passes and plugins are code of other people. They may print, change folder, seed or numpy's error handling; the next
pass and the caller must not notice.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Restore the working folder, numpy's error handling and warning filters, and the seeds of both generators.

    While it lasts, what is printed goes to stderr: stdout carries results only.
    """
    folder = _working_folder()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with contextlib.redirect_stdout(sys.stderr), np.errstate(), warnings.catch_warnings():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if folder and _working_folder() != folder:
            os.chdir(folder)


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # somebody removed it; there is nothing to go back to
        return ""
