"""Odd and broken configs: what they are called, their text, what they get."""

from collections.abc import Callable
from pathlib import Path

from inputs_tables.page import Case

from ctssl import config

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [*{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}]\n"
    for b, c in zip("abcdefgh", "bcdefghi", strict=True)
)
RUN = "runs: [{name: one, method: context-aware, options: {%s}}]"


def read(text: str | bytes) -> Callable[[Path], object]:
    """Writes config.yaml and lays it over the defaults; must leave no file `pwned`."""

    def make(folder: Path) -> object:
        path = folder / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.replace("HERE", str(folder)).encode())
        try:
            return str(config.read(path).results)
        finally:
            assert not (folder / "pwned").exists()

    return make


def bad(name: str, words: str, text: str | bytes) -> Case:
    """A config that is refused."""
    return Case(name, "error", words, read(text))


FORMS = [
    bad("no keys at all", "should hold keys and values", ""),
    bad("a list", "should hold keys and values", "- 1\n- 2\n"),
    bad("a bracket that is not closed", "not a readable YAML file", "mask: {method: threshold\n"),
    bad("tabs as indentation", "not a readable YAML file", "mask:\n\tmethod: threshold\n"),
    bad("Latin-1 as YAML", "it is not UTF-8", "results: J\u00fcrgen\n".encode("latin-1")),
    bad("a key that comes twice", "a key comes twice: results", "results: one\nresults: two\n"),
    bad(
        "a key of a section that comes twice",
        "a key comes twice: model",
        "mask: {model: R231, model: LTRCLobes}",
    ),
    bad(
        "a Python tag that runs a command",
        "could not determine a constructor",
        "results: !!python/object/apply:os.system ['touch HERE/pwned']",
    ),
    bad(
        "a Python tag that names a function",
        "could not determine a constructor",
        "results: !!python/name:os.system",
    ),
    bad(
        "a template that runs code",
        "is a YTE template",
        "__use_yte__: true\nresults: ?open('HERE/pwned', 'w')\n",
    ),
    bad(
        "aliases of aliases (a billion laughs)",
        "Input should be",
        BOMB + "registration: {syn_iterations: *i}\n",
    ),
    bad("an alias to itself", "there is no such key", "mask: &m {mask: *m}\n"),
    bad("1000 brackets", "nested too deeply", "results: " + "[" * 1000),
    bad("a date that is none", "month must be in 1..12", "results: 2026-99-99\n"),
]
VALUES = [
    bad("a misspelt key", "manifst: there is no such key; did you mean 'manifest'?", "manifst: scans.csv\n"),
    bad("a misspelt key of a section", "did you mean 'method'?", "mask: {methd: threshold}\n"),
    bad(
        "a misspelt option of a run",
        "runs.0.options.epoch: there is no such key; did you mean 'epochs'?",
        RUN % "epoch: 3",
    ),
    bad("a key that nobody knows", "colour: there is no such key", "colour: red\n"),
    bad("numbers as keys", "1: ", "1: 2\n"),
    bad("a value in place of a section", "mask: Input should be a valid dictionary", "mask: threshold\n"),
    bad("a list in place of a path", "results: Input is not a valid path", "results: [a, b]\n"),
    bad(
        "yes in place of a number",
        "limits.retries: yes, no, true and false are no values",
        "limits: {retries: yes}\n",
    ),
    bad("a word in place of a number", "unable to parse string", "limits: {retries: many}\n"),
    bad("infinity", "limits.time_s: Input should be a finite number", "limits: {time_s: .inf}\n"),
    bad("not a number", "limits.time_s: Input should be a finite number", "limits: {time_s: .nan}\n"),
    bad("1e400", "limits.memory_gb: Input should be a finite number", "limits: {memory_gb: 1e400}\n"),
    bad(
        "a billion billion voxels",
        "limits.max_voxels: Input should be less than",
        "limits: {max_voxels: 1000000000000000000}\n",
    ),
    bad("a negative number of tries", "limits.retries: Input should be greater", "limits: {retries: -1}\n"),
    bad(
        "a time limit of a millisecond", "limits.time_s: Input should be greater", "limits: {time_s: 0.001}\n"
    ),
    bad(
        "voxels of a nanometre",
        "atlas.spacing_mm: Input should be greater",
        "atlas: {spacing_mm: 0.000001}\n",
    ),
    bad("landmarks on every voxel", "atlas.pitch_mm: Input should be greater", "atlas: {pitch_mm: 0.01}\n"),
    bad(
        "a seed that no library takes",
        "runs.0.seeds.0: Input should be less",
        "runs: [{name: a, method: context-aware, seeds: [99999999999999999999]}]",
    ),
    bad(
        "a run named ../up",
        "runs.0.name: a name has up to 60 small letters",
        "runs: [{name: ../up, method: context-aware}]",
    ),
    bad(
        "a run with a name of 300 letters",
        "runs.0.name: a name has up to 60 small letters",
        f"runs: [{{name: {'x' * 300}, method: context-aware}}]",
    ),
    bad(
        "a target named $(x)",
        "evaluation.targets.0.name: a name has",
        "evaluation: {targets: [{name: $(x), column: a, task: classify}]}",
    ),
    bad("a baseline named ../up", "baselines.0.name: a name has up to 60", "baselines: [../up]\n"),
    bad(
        "a method that nobody knows",
        "runs.0.method: method is one of autoencoder, ",
        "runs: [{name: a, method: os.system}]",
    ),
    bad("braces in the results' name", "may not hold { or }", "results: 'out/{scan}'\n"),
    bad("a line break in the results' name", "no line breaks", 'results: "a\\nb"\n'),
    bad("a NUL in a path", "no control characters", 'manifest: "a\\0b"\n'),
    Case(
        "results with .. in their path",
        "as it is",
        "where results go is the user's choice",
        read("results: ../elsewhere\n"),
        "../elsewhere",
    ),
    Case(
        "results named as a command",
        "as it is",
        "the path is taken letter for letter",
        read("results: $(touch HERE/pwned)\n".replace("HERE/", "")),
        "$(touch pwned)",
    ),
]
