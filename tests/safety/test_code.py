"""Nothing in the package runs what comes from outside: no pickle, no shell, no eval, no archive unpacked."""

import re
from pathlib import Path

import pytest
from safety import codewalk, rulebook

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ctssl").rglob("*.py"))
SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
PAGES = [path for path in (ROOT / "ctssl").rglob("*") if path.suffix in (".html", ".j2", ".jinja")]


def test_no_module_runs_what_comes_from_outside():
    found = {str(path.relative_to(ROOT)): codewalk.faults(path.read_text()) for path in MODULES}
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert len(MODULES) > 100


def test_no_snakefile_does():
    trees = {path.name: rulebook.compiled(path.read_text())[0] for path in SNAKEFILES}
    assert {name: found for name, tree in trees.items() if (found := codewalk.faults_of(tree))} == {}


def test_no_page_turns_escaping_off():
    assert PAGES
    for path in PAGES:
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", path.read_text()), path


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import pickle\npickle.loads(x)", "2: pickle.loads is used"),
        ("from pickle import load\nload(x)", "2: pickle.load is used"),
        ("import pickle as p\nread = p.load", "2: pickle.load is used"),
        ("import dill", "1: dill is imported"),
        ("from joblib import load", "1: joblib is imported"),
        ("import torch\ntorch.load(x)", "2: torch.load without weights_only=True"),
        ("import torch\ntorch.load(x, weights_only=False)", "2: torch.load without weights_only=True"),
        ("import torch\ntorch.load(x, weights_only=y)", "2: torch.load without weights_only=True"),
        ("from torch import load\nload(x)", "2: torch.load without weights_only=True"),
        ("import torch\ntorch.hub.load(x)", "2: torch.hub.load is used"),
        ("import numpy as np\nnp.load(x)", "2: numpy.load without allow_pickle=False"),
        ("import numpy as np\nnp.load(x, allow_pickle=True)", "2: numpy.load without allow_pickle=False"),
        ("import pandas as pd\npd.read_pickle(x)", "2: pandas.read_pickle is used"),
        ("table.to_pickle(x)", "1: .to_pickle is used"),
        ("import yaml\nyaml.load(x)", "2: yaml.load without a safe loader"),
        ("import yaml\nyaml.load(x, yaml.Loader)", "2: yaml.load without a safe loader"),
        ("import yaml\nyaml.load(x, Loader=yaml.FullLoader)", "2: yaml.load without a safe loader"),
        ("import yaml\nyaml.unsafe_load(x)", "2: .unsafe_load is used"),
        ("import os\nos.system('ls')", "2: os.system is used"),
        ("import os\nos.execvp('ls', x)", "2: os.execvp is used"),
        ("eval('1')", "1: eval is used"),
        ("run = exec", "1: exec is used"),
        ("import subprocess\nsubprocess.run(x, shell=True)", "2: subprocess.run with a shell"),
        ("import subprocess\nsubprocess.run(x, shell=y)", "2: subprocess.run with a shell"),
        ("import subprocess\nsubprocess.run(f'ls {x}')", "2: subprocess.run without a list of arguments"),
        ("import subprocess\nsubprocess.run('ls ' + x)", "2: subprocess.run without a list of arguments"),
        ("import tarfile\ntarfile.open(x).extractall()", "2: .extractall is used"),
        ("import shutil\nshutil.unpack_archive(x)", "2: shutil.unpack_archive is used"),
        ("from jinja2 import Environment\nEnvironment()", "2: jinja2.Environment without autoescape=True"),
        ("import jinja2\njinja2.Template(x)", "2: jinja2.Template is used"),
        ("from os import *", "1: everything is imported from os"),
        ("def late():\n    import pickle\n    return pickle.Unpickler", "3: pickle.Unpickler is used"),
    ],
)
def test_a_planted_fault_is_found(code, fault):
    assert fault in codewalk.faults(code)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(x, weights_only=True)",
        "import numpy as np\nnp.load(x, allow_pickle=False)",
        "import yaml\nyaml.safe_load(x)",
        "import yaml\nclass Strict(yaml.SafeLoader): pass\nyaml.load(x, Loader=Strict)",
        "import subprocess\nsubprocess.run(['ls', x], shell=False)",
        "import pickle\ntry: f()\nexcept pickle.UnpicklingError: pass",
        "model.eval()\nre.compile(x)",
        "import tarfile\ntarfile.open(x).extractfile('y')",
    ],
)
def test_sound_code_passes(code):
    assert codewalk.faults(code) == []
