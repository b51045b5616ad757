import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from ctssl import config
from ctssl.config.methods import OPTIONS
from ctssl.errors import ConfigError

ROOT = Path(__file__).parents[2]
DEFAULTS = yaml.safe_load((ROOT / "config.yaml").read_text())
RUN = {"name": "one", "method": "context-aware"}
TARGET = {"name": "gold", "column": "gold", "task": "classify"}


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def with_value(path, value):
    values = copy.deepcopy(DEFAULTS)
    section = values
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return values


def faults(values) -> str:
    with pytest.raises(ConfigError) as fault:
        config.check(values)
    assert "config.yaml" in fault.value.advice
    return fault.value.message


def test_the_defaults_are_complete_and_true_to_the_file():
    assert config.read() == config.check(DEFAULTS)
    assert config.read().model_dump(mode="json")["registration"] == DEFAULTS["registration"]


@pytest.mark.parametrize("path", list(leaves(DEFAULTS)), ids=".".join)
def test_no_key_has_a_hidden_default(path):
    values = copy.deepcopy(DEFAULTS)
    section = values
    for key in path[:-1]:
        section = section[key]
    del section[path[-1]]
    assert f"{'.'.join(path)}: this key is missing" in faults(values)


@pytest.mark.parametrize("overlay", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_overlays_that_come_along_are_valid(overlay):
    assert config.read(overlay).manifest is not None


def test_the_full_study_has_every_method_that_is_trained():
    trained = {name for name, options in OPTIONS.items() if not options.frozen}
    assert {run.method for run in config.read(ROOT / "config/full.yaml").runs} == trained


def test_all_faults_are_listed_with_their_paths():
    values = with_value(("atlas", "spacing_mm"), -1)
    values["mask"] |= {"methd": "threshold", "device": "tpu"}
    values["colour"] = "red"
    values["runs"] = [RUN, RUN | {"name": "Two", "options": {"epochs": 0, "epoch": 3}}]
    values["evaluation"]["targets"] = [TARGET | {"task": "guess"}]
    said = faults(values)
    for line in (
        "atlas.spacing_mm: Input should be greater than or equal to 0.2 (got -1)",
        "mask.methd: there is no such key",
        "mask.device: Input should be 'cpu' or 'cuda' (got 'tpu')",
        "colour: there is no such key",
        "runs.1.",
        "evaluation.targets.0.task: ",
    ):
        assert line in said, said


def test_faults_of_options_are_listed():
    said = faults(DEFAULTS | {"runs": [RUN | {"options": {"epochs": 0, "epoch": 3}}]})
    assert "epochs" in said
    assert "epoch" in said.replace("epochs", "")


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("runs",), [RUN | {"method": "magic"}], "method is one of autoencoder, cnn-3d, context-aware"),
        (("runs",), [RUN | {"name": "a/b"}], "small letters, digits"),
        (("runs",), [RUN, RUN], "come twice: one"),
        (("runs",), [RUN | {"name": "laa-950"}], "come twice: laa-950"),
        (("runs",), [RUN | {"label": "X"}, RUN | {"name": "two", "label": "X"}], "row labels"),
        (("runs",), [RUN | {"seeds": []}], "runs.0.seeds"),
        (("runs",), [RUN | {"targets": ["gold"]}], "is probed on all targets"),
        (("runs",), [RUN | {"pretrained_on": "fold"}], "runs.0.pretrained_on"),
        (
            ("runs",),
            [RUN | {"pretrained_on": "folds", "weights": "a.safetensors"}],
            "was trained elsewhere: take the run's `pretrained_on` out",
        ),
        (
            ("runs",),
            [RUN | {"method": "cnn-3d", "pretrained_on": "folds"}],
            "is trained inside each fold anyway",
        ),
        (("evaluation", "repeats"), 0, "evaluation.repeats"),
        (("evaluation", "leave_out"), "a/b", "no slashes"),
        (("evaluation", "rare"), "join", "evaluation.rare"),
        (
            ("runs",),
            [RUN | {"method": "cnn-3d", "targets": ["gold"]}],
            "no evaluation.targets is called gold",
        ),
        (("runs",), [RUN | {"method": "cnn-3d", "targets": []}], "runs.0.targets"),
        (("baselines",), ["laa-950", "laa-950"], "come twice: laa-950"),
        (
            ("baselines",),
            ["divergences"],
            "laa-950, densitometry, texture, bag-of-features, divergence; did you",
        ),
        (("baselines",), [{"name": "bag-of-features", "options": {"word": 9}}], "did you mean 'words'?"),
        (("baselines",), [{"name": "divergence", "options": {"hu_min": 300}}], "hu_min must be below hu_max"),
        (("evaluation", "targets"), [TARGET, TARGET], "come twice: gold"),
        (("evaluation", "targets"), [TARGET | {"log": True}], "log goes with task: regress"),
        (("evaluation", "folds"), 1, "evaluation.folds"),
        (("volume", "hu_max"), 40000, "volume.hu_max"),
        (("registration", "seed"), 0, "registration.seed"),
        (("results",), None, "results"),
        (("limits",), None, "limits"),
    ],
)
def test_a_wrong_value_is_named(path, value, word):
    assert word in faults(with_value(path, value))


def test_overlays_merge_dicts_and_replace_lists(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("mask: {method: threshold}\nregistration: {syn_iterations: [9]}\nresults: there\n")
    second.write_text("mask: {min_lung_l: 1}\nresults: elsewhere\n")
    read = config.read(first, second)
    assert (read.mask.method, read.mask.min_lung_l, read.mask.model) == ("threshold", 1, "R231")
    assert read.registration.syn_iterations == (9,)
    assert read.registration.flow_sigma == DEFAULTS["registration"]["flow_sigma"]
    assert read.results == Path("elsewhere")


KEYS = st.sampled_from("abc")
VALUES = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=3)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(MAPS, MAPS)
def test_overlays_do_what_snakemake_does(base, overlay):
    ours, theirs = copy.deepcopy(base), copy.deepcopy(base)
    config._merge(ours, copy.deepcopy(overlay))
    update_config(theirs, copy.deepcopy(overlay))
    assert ours == theirs


@pytest.mark.parametrize("text", [None, "a: [", "- 1\n- 2\n", "\x00", ""])
def test_a_file_that_holds_no_keys_is_named(tmp_path, text):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        config.read(path)


def test_a_name_may_have_blanks_of_any_script():
    for name in ("研究　結果", "a\u00a0b", "e\u0301", "\U0001f468\u200d\u2695"):
        assert config.check(with_value(("results",), name)).results == Path(name)
    for name in ("a\nb", "a\x7fb", "a\x85b", "a\u2028b", "a\udce4b", "a\x1b[2J"):
        assert "no line breaks" in faults(with_value(("results",), name))


def test_the_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        config.read().results = Path("elsewhere")


def test_a_graph_that_would_have_no_edges_is_refused_unless_stores_are_prepared():
    wide = with_value(("atlas", "pitch_mm"), 40.0)
    said = faults(wide)
    assert "rho_mm (31.2) joins nothing" in said
    assert "(40) apart" in said
    assert "got" not in said  # of a whole section, whose values would fill the screen
    wide["graph"]["edges"] = "topology"
    assert config.check(wide).atlas.pitch_mm == 40
    wide["graph"]["edges"], wide["prepared"] = "distance", "elsewhere"
    assert config.check(wide).prepared == Path("elsewhere")


def test_snakemake_loads_a_config_without_running_what_is_in_it(tmp_path):
    """What Snakemake reads before the Snakefile has a word: tags of Python are refused by its loader."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"results: !!python/object/apply:os.system ['touch {tmp_path}/pwned']\n")
    with pytest.raises(WorkflowError, match="not valid JSON or YAML"):
        load_configfile(str(path))
    assert not (tmp_path / "pwned").exists()


def test_files_that_snakemake_has_read_are_looked_at_again(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("results: there\nresults: here\n")
    with pytest.raises(ConfigError, match="comes twice: results"):
        config.check_file(path)
    path = tmp_path / "mine.json"
    path.write_text('{"results": "there",\n\t"mask": {}}')
    config.check_file(path)  # JSON may have tabs, which YAML refuses


def test_merged_anchors_are_no_double_keys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mask: &m {method: threshold, min_lung_l: 1}\nvolume: {<<: *m, min_lung_l: 2}\n")
    config.check_file(path)


def test_a_run_with_an_unknown_method_has_one_fault():
    said = faults(DEFAULTS | {"runs": [{"name": "one", "method": "magic", "options": {"epoch": 3}}]})
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("path", list(leaves(DEFAULTS)), ids=".".join)
def test_no_number_is_without_end(path):
    """Infinity and NaN are refused wherever a number stands."""
    if isinstance(_value(path), int | float) and not isinstance(_value(path), bool):
        for value in (float("inf"), float("nan"), "1e400"):
            assert ".".join(path) in faults(with_value(path, value))


def _value(path):
    value = DEFAULTS
    for key in path:
        value = value[key]
    return value


def test_a_key_of_another_method_is_not_suggested_for_itself():
    run = {**RUN, "method": "untrained", "options": {"queue_size": 3}}
    with pytest.raises(ConfigError, match="queue_size: there is no such key") as fault:
        config.check({**DEFAULTS, "runs": [run]})
    assert "did you mean 'queue_size'" not in str(fault.value)


def test_a_baseline_is_a_name_or_a_section_with_options():
    few = {"name": "few-words", "method": "bag-of-features", "options": {"words": 8}}
    named = {"name": "divergence", "label": "Far"}
    chosen = config.check(DEFAULTS | {"baselines": ["laa-950", few, named]})
    assert [one.name for one in chosen.baselines] == ["laa-950", "few-words", "divergence"]
    assert [one.title for one in chosen.baselines] == ["LAA-950", "few-words", "Far"]
    assert [one.method for one in chosen.baselines] == ["laa-950", "bag-of-features", "divergence"]
    assert chosen.baseline("few-words").options.words == 8
    assert chosen.baseline("few-words").options.bins == 32


def test_a_supervised_run_has_the_targets_that_it_names_in_the_order_of_the_study():
    targets = [TARGET, TARGET | {"name": "age"}, TARGET | {"name": "sex"}]
    runs = [RUN, RUN | {"name": "two", "method": "cnn-3d", "targets": ["sex", "gold"]}]
    chosen = config.check(with_value(("evaluation", "targets"), targets) | {"runs": runs})
    assert chosen.targets_of("one") == chosen.targets_of("laa-950") == ["gold", "age", "sex"]
    assert chosen.targets_of("two") == ["gold", "sex"]
