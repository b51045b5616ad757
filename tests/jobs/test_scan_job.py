import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = Path(__file__).with_name("scans.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("jobs"))]
    done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_stage_that_works_leaves_data_and_status(found):
    assert found["good"]["error"] is None
    assert found["good"]["files"] == {"data": "data"}  # what lay there before is gone
    status = found["good"]["status"]
    assert (status["ok"], status["stage"], status["numbers"]) == (True, "register", {"size": 7})


def test_an_unfit_scan_is_excluded_and_leaves_no_data(found):
    assert found["unfit"]["error"] is None
    assert found["unfit"]["files"] == {}
    status = found["unfit"]["status"]
    assert (status["ok"], status["stage"]) == (False, "register")
    assert (status["reason"], status["advice"]) == ("no lungs", "look at it")


def test_a_crash_fails_the_job_until_the_last_attempt(found):
    assert found["crash"]["error"] == "Crash"
    assert found["crash"]["status"] is None


def test_a_crash_in_the_last_attempt_excludes_the_scan(found):
    assert found["last-crash"]["error"] is None
    assert found["last-crash"]["files"] == {}
    assert found["last-crash"]["status"]["ok"] is False
    assert "SIGKILL" in found["last-crash"]["status"]["reason"]
    assert found["last-crash"]["status"]["advice"]


@pytest.mark.parametrize("case", ["full", "last-full"])
def test_a_fault_of_the_machine_never_excludes_a_scan(found, case):
    assert found[case]["error"] == "MachineFault"
    assert found[case]["status"] is None


def test_a_scan_that_was_lost_before_is_passed_on_as_it_was(found):
    assert found["lost-before"]["error"] is None
    assert found["lost-before"]["files"] == {}
    status = found["lost-before"]["status"]
    assert (status["ok"], status["stage"], status["reason"]) == (False, "volume", "no lungs")


def test_settings_of_another_recipe_leave_everything_as_it_was(found):
    assert found["other-recipe"]["error"] == "ConfigError"
    assert found["other-recipe"]["files"] == {"old": "of an earlier try"}
