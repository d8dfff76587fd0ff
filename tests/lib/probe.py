"""Builds tests/module/probe.c into a shared object, with the sanitizers that the gateway at hand was built with."""
import os
import shutil
import subprocess
import tempfile

from gateway import ROOT



def sanitizers(gateway):
    """-fsanitize flags of an executable: a module without them cannot be loaded into one that has them, or hides from them."""
    names = subprocess.run(["nm", "-D", gateway], capture_output=True, text=True).stdout
    names += subprocess.run(["nm", gateway], capture_output=True, text=True).stdout
    if "__tsan_init" in names:
        return ["-fsanitize=thread"]
    return ["-fsanitize=address,undefined"] if "__asan_init" in names else []


def build(include, gateway, out, source=ROOT + "/tests/module/probe.c", more=()):
    """Compiles against the header in `include`; returns the path of the shared object."""
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
               "-I" + include, *sanitizers(gateway), *more, source, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError("the module does not compile:\n" + done.stderr)
    return out


_built = {}


def built(gateway):
    """The module for dialogs, built once per process against the header of this tree, laid out as if it were installed."""
    if gateway not in _built:
        folder = tempfile.mkdtemp(prefix="sluice-module-")
        os.makedirs(folder + "/include/sluice")
        shutil.copy(ROOT + "/filters/filter.h", folder + "/include/sluice/")
        _built[gateway] = build(folder + "/include", gateway, folder + "/probe.so")
    return _built[gateway]
