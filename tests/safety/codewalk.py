"""What code may not do: run what comes from outside. Read from syntax trees, with the names as imported."""

import ast
from collections.abc import Callable, Iterator

BANNED_MODULES = {
    *(
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
        "h5py",
        "tables",
        "code",
        "codeop",
        "runpy",
        "imp",
    ),
    *("xml", "lxml", "ftplib", "telnetlib", "xmlrpc", "pty", "commands"),
}
BANNED_CALLS = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"),
    *("shutil.unpack_archive", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("pandas.read_pickle", "pandas.read_hdf", "pandas.eval", "numpy.fromregex", "jinja2.Template"),
    *("asyncio.create_subprocess_shell", "markupsafe.Markup", "tempfile.mktemp"),
}
BANNED_ATTRIBUTES = {"extractall", "extract_all", "read_pickle", "to_pickle", "unsafe_load", "full_load"}
BANNED_PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn", "pickle.", "_pickle.")
ALLOWED = {"pickle.UnpicklingError", "_pickle.UnpicklingError"}

LITERALS = {
    "torch.load": ("weights_only", True),
    "torch.hub.load_state_dict_from_url": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
    "jinja2.Environment": ("autoescape", True),
}
"""Call -> keyword and value that are written out, also where they are the default."""


def faults(text: str) -> list[str]:
    """What is wrong in a module, each as `line: what`."""
    return faults_of(ast.parse(text))


def faults_of(tree: ast.Module) -> list[str]:
    """What is wrong in a syntax tree."""
    names = _imports(tree)
    safe_loaders = _safe_loaders(tree, names)
    found = []
    for node in ast.walk(tree):
        for look in (_import_faults, _name_faults):
            found += [f"{node.lineno}: {fault}" for fault in look(node, names)]
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {fault}" for fault in _call_faults(node, names, safe_loaders)]
    return found


def _imports(tree: ast.Module) -> dict[str, str]:
    """Name in this module -> what was imported by it, as a dotted name."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                names[one.asname or one.name.split(".")[0]] = (
                    one.name if one.asname else one.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                names[one.asname or one.name] = f"{node.module}.{one.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The dotted name that an expression is; empty for another expression."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _safe_loaders(tree: ast.Module, names: dict[str, str]) -> set[str]:
    """The safe loaders of yaml, and this module's classes that are one."""
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(_dotted(base, names) in safe for base in node.bases):
            safe.add(node.name)
    return safe


def _import_faults(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    modules = []
    if isinstance(node, ast.Import):
        modules = [one.name for one in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        modules = [node.module]
        if any(one.name == "*" for one in node.names):
            yield f"everything is imported from {node.module}"
    for module in modules:
        if module.split(".")[0] in BANNED_MODULES:
            yield f"{module} is imported"


def _name_faults(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """Also where a function is only named: it may be called under another name."""
    if not isinstance(node, ast.Attribute | ast.Name):
        return
    name = _dotted(node, names)
    if name in BANNED_CALLS or (name.startswith(BANNED_PREFIXES) and name not in ALLOWED):
        yield f"{name} is used"
    elif isinstance(node, ast.Attribute) and node.attr in BANNED_ATTRIBUTES:
        yield f".{node.attr} is used"


def _call_faults(call: ast.Call, names: dict[str, str], safe_loaders: set[str]) -> Iterator[str]:
    name = _dotted(call.func, names)
    given = {one.arg: one.value for one in call.keywords}
    if name in LITERALS:
        keyword, value = LITERALS[name]
        if not _is(given.get(keyword), value):
            yield f"{name} without {keyword}={value}"
    for module, look in (("yaml.", _yaml_faults), ("subprocess.", _subprocess_faults)):
        if name.startswith(module):
            yield from look(call, name, lambda node: _dotted(node, names) in safe_loaders)
    if any(keyword == "shell" and not _is(value, False) for keyword, value in given.items()):
        yield f"{name} with a shell"


def _yaml_faults(call: ast.Call, name: str, is_safe: Callable[[ast.expr], bool]) -> Iterator[str]:
    if name in ("yaml.load", "yaml.load_all"):
        loaders = [one.value for one in call.keywords if one.arg == "Loader"] or call.args[1:2]
        if not loaders or not is_safe(loaders[0]):
            yield f"{name} without a safe loader"


def _subprocess_faults(call: ast.Call, name: str, _: Callable[[ast.expr], bool]) -> Iterator[str]:
    command = call.args[0] if call.args else None
    if not isinstance(command, ast.List | ast.Name):
        yield f"{name} without a list of arguments"


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
