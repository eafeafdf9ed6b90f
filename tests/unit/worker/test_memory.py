"""A worker's memory is bounded by the kernel; limits are set in processes of their own."""

import errno
import subprocess
import sys

import pytest

from neurofed.errors import ConfigError, UnfitError
from worker import memory


def test_a_limit_that_no_task_fits_into_is_refused_and_not_set(tmp_path):
    (tmp_path / "status").write_text("VmPeak:\t  900000 kB\nVmData:\t  204800 kB\nVmStk:\t 136 kB\n")
    with pytest.raises(ConfigError, match="expected at least 328, got 327: an idle worker holds 200 MiB"):
        memory.bound(327, tmp_path / "status")


@pytest.mark.parametrize(
    "program",
    [
        "import torch; hold = torch.zeros(400 << 18)",
        "hold = bytes(400 << 20)",
        "import mmap; hold = mmap.mmap(-1, 400 << 20, flags=mmap.MAP_PRIVATE)",
    ],
)
def test_what_would_go_beyond_is_refused_in_our_words_and_the_process_lives(program):
    text = f"""
import torch
from pathlib import Path
from neurofed.errors import UnfitError
from worker import memory
used_mib = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) // 1024
limit = used_mib + 300
memory.bound(limit)
try:
    memory.told(lambda _: exec({program!r}), limit)(None)
except UnfitError as error:
    print(error)
print(len(bytes(100 << 20)))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    refusal, small = done.stdout.splitlines()
    assert refusal.startswith("expected the task to fit into ")
    assert small == str(100 << 20), "what fits is given"


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "no"), RuntimeError("can't allocate memory")])
def test_shortages_are_told_apart(error):
    def fail(_):
        raise error

    with pytest.raises(UnfitError, match="512 MiB"):
        memory.told(fail, 512)(None)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), RuntimeError("shapes differ"), ValueError("x")])
def test_other_errors_stay_what_they_are(error):
    def fail(_):
        raise error

    with pytest.raises(type(error)) as caught:
        memory.told(fail, 512)(None)
    assert caught.value is error
