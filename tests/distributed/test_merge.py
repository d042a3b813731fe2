"""Arms that lie in one folder are reported on, also where each machine wrote a folder of its own."""

import shutil

import pytest
from support.command_line import run_cli
from support.tiny_suite import ENVIRONMENT, assert_same_numbers

pytestmark = pytest.mark.slow


def test_folders_of_machines_without_a_shared_disk_are_copied_together_and_reported_on(
    small_suite, small_run, tmp_path
):
    folders = [tmp_path / "one", tmp_path / "two"]
    for i, folder in enumerate(folders, start=1):
        done = run_cli("compare", small_suite, "--out", folder, "--part", f"{i}/2", **ENVIRONMENT)
        assert done.returncode == 0, done.stderr
    shutil.copytree(folders[1], folders[0], dirs_exist_ok=True)
    done = run_cli("report", folders[0])
    assert done.returncode == 0 and "report.html" in done.stdout
    assert_same_numbers(folders[0], small_run)
