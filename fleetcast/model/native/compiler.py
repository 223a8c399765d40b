"""Compiling the kernels for a network's sizes and this processor, once, into a folder that only its owner writes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import uuid
from functools import cache
from importlib.resources import files
from pathlib import Path

from fleetcast.errors import BundleError

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC")
COMPILERS = ("g++", "clang++", "c++")
HEADER = "vectors.h"
SECONDS = 300  # longest compilation


class CompileError(BundleError):
    """There is no compiler, it fails, or its folder is not safe: the network runs without the kernel."""


def compiled_kernel(sizes: dict[str, int], folder: Path | None = None, source: str = "kernel.cpp") -> Path:
    """The shared library of a source file for these sizes; made when it is not there yet.

    Its name holds the digest of the source, the flags, the sizes and the processor's features, so that another one is
    made when any of them changes. `folder` is by default `$XDG_CACHE_HOME/fleetcast/kernels`.

    Raises `CompileError`.
    """
    folder = folder or _default_folder()
    contents = {name: files("fleetcast.model.native").joinpath(name).read_bytes() for name in (source, HEADER)}
    macros = [f"-D{name}={value}" for name, value in sorted(sizes.items())]
    digest = hashlib.sha256(
        "\n".join([*FLAGS, *macros, _processor()]).encode() + b"".join(contents.values())
    ).hexdigest()
    target = folder / f"{Path(source).stem}-{digest[:32]}.so"
    _make_private(folder)
    if target.exists():
        _require_private(target)
        return target
    compiler = find_compiler()
    if compiler is None:
        raise CompileError("no C++ compiler (apt-get install g++)")
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            command = [compiler, *FLAGS, *macros, "-o", str(partial), str(Path(scratch) / source)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
        partial.chmod(0o700)
        partial.replace(target)
    except subprocess.CalledProcessError as error:
        raise CompileError(f"{compiler} failed: {error.stderr.strip().splitlines()[-1:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"cannot compile the kernel: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def load_kernel(sizes: dict[str, int], folder: Path | None = None, source: str = "kernel.cpp") -> ctypes.CDLL:
    """`compiled_kernel`, loaded into this process. Raises `CompileError`."""
    path = compiled_kernel(sizes, folder, source)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # a file system without programs, a damaged file
        raise CompileError(f"{path} cannot be loaded, delete it or set XDG_CACHE_HOME: {error}") from error


def find_compiler() -> str | None:
    """Path of the C++ compiler that would be used; None where there is none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def _default_folder() -> Path:
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # a user without a home
        raise CompileError(f"set XDG_CACHE_HOME: {error}") from error
    return base / "fleetcast" / "kernels"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CompileError(f"cannot make {folder}: {error}") from error
    _require_private(folder)


def _require_private(path: Path) -> None:
    """What is loaded into the process must be this user's, and nobody else may write it."""
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CompileError(f"{path} belongs to or can be written by somebody else: chmod go-w, or set XDG_CACHE_HOME")


@cache
def _processor() -> str:
    """What the compiler's `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return os.uname().machine
    wanted = ("model name", "flags", "Features", "cpu family", "model\t")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
