"""The rules of a Snakefile, as Snakemake's own parser reads them, and what is wrong with them."""

import ast
import io
import string
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

from snakemake import parser

KEYWORDS = {
    *("rule", "input", "output", "log", "conda", "threads", "resources", "params", "retries"),
    *("shellcmd", "run"),  # run: the function that Snakemake makes for every rule
}
A_GOAL = {"rule", "norun", "default_target_rule", "input", "run"}
"""Of a rule that runs nothing, which only names files that are wanted."""

NEEDED = ("output", "log", "conda", "threads", "params", "shellcmd")


@dataclass(frozen=True)
class Rule:
    """A rule: its name, and the call that each of its keywords became."""

    name: str
    parts: dict[str, ast.Call | None]


def compiled(text: str) -> tuple[ast.Module, int]:
    """The Python that Snakemake makes of a Snakefile, and how many rules it found there."""
    path = SimpleNamespace(get_path_or_uri=lambda secret_free: "Snakefile")
    modifier = SimpleNamespace(skip_rule=lambda *_: False)
    cache = SimpleNamespace(open=lambda _: io.StringIO(text))
    code, count = parser.parse(path, SimpleNamespace(sourcecache=cache, modifier=modifier), {})
    return ast.parse(code), count


def rules_of(tree: ast.Module) -> Iterator[Rule]:
    """All rules, also those in a branch that is not taken."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            parts = {}
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else None
                named = call.func if call else decorator
                if isinstance(named, ast.Attribute) and ast.unparse(named.value) == "workflow":
                    parts[named.attr] = call
            if parts.get("rule"):
                yield Rule(ast.literal_eval(keywords(parts["rule"])["name"]), parts)


def faults(text: str) -> list[str]:
    """What no rule of ours may have, each as `rule: what`."""
    tree, count = compiled(text)
    rules = list(rules_of(tree))
    found = [f"{rule.name}: {fault}" for rule in rules for fault in _faults_of(rule)]
    if len(rules) != count:
        found.append(f"{count} rules are there, {len(rules)} were read")
    made = {f"__rule_{rule.name}" for rule in rules}
    for node in tree.body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef) and inner.name in made:
                inner.body = []  # Snakemake's own call of shell
        found += [
            "a shell is called outside of a rule"
            for inner in ast.walk(node)
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) in ("shell", "snakemake.shell.shell")
        ]
    return found


def _faults_of(rule: Rule) -> Iterator[str]:
    if "norun" in rule.parts and rule.parts.keys() <= A_GOAL:
        return
    strange = rule.parts.keys() - KEYWORDS
    if strange:
        yield f"has {', '.join(sorted(strange))}"
    for need in NEEDED:
        if not rule.parts.get(need):
            yield f"has no {need}"
    output, params = rule.parts.get("output"), rule.parts.get("params")
    if output is not None and (output.args or not output.keywords):
        yield "has an output without a name"
    if params is not None and (params.args or keywords(params).keys() != {"settings"}):
        yield "has params other than settings"
    if rule.parts.get("shellcmd"):
        yield from _faults_of_shell(rule.parts["shellcmd"])


def _faults_of_shell(call: ast.Call) -> Iterator[str]:
    if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant):
        yield "has a shell string that is computed"
        return
    text = call.args[0].value
    if not text.startswith("exec ctssl stage "):
        yield "does not begin with exec ctssl stage"
    for _, name, spec, conversion in string.Formatter().parse(text):
        if name is not None and (spec != "q" or conversion):
            yield f"has {{{name}}} without :q"


def keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    """Keyword -> value of a call."""
    return {one.arg: one.value for one in call.keywords}
