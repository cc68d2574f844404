"""The rules of the house: imports point down, files stay short, nothing heavy loads early, nothing unsafe is called."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from places import ROOT

PACKAGE = ROOT / "promptlab"
MAX_LINES = 600

MODELS = ("torch", "diffusers", "transformers", "open_clip", "torchvision", "safetensors", "accelerate", "torchmetrics")
PAGES = ("streamlit", "altair")
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}
PICKLES = {"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
UNSAFE_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load", "eval", "exec", "os.system"}
UNSAFE_ARGUMENTS = {"trust_remote_code", "unsafe_allow_html", "allow_pickle", "shell"}
QUERIES = {"query", "execute", "executemany", "sql"}
UNBOUND = ("ATTACH.format(",)
"""DuckDB binds no value in ATTACH; the path is quoted."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str, *, typing: bool = True, late: bool = True) -> set[str]:
    """What a module imports, modules of ours by full name; without those for types alone, or those inside functions."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not typing:
                continue
            if isinstance(child, ast.FunctionDef) and not late:
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            if isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: imports are absolute"
                full = (f"{child.module}.{alias.name}" for alias in child.names)
                found.update(name if name in TREES else str(child.module) for name in full)
            walk(child)

    walk(TREES[module])
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in TREES} - {module}


def within(module: str, *rooms: str) -> bool:
    return any(module == f"promptlab.{room}" or module.startswith(f"promptlab.{room}.") for room in rooms)


def test_no_module_waits_for_itself() -> None:
    early = {
        module: imports(module, typing=False, late=False) & TREES.keys() - {module, "promptlab"} for module in TREES
    }
    list(TopologicalSorter(early).static_order())


def test_heavy_libraries_load_late() -> None:
    heavy = {*MODELS, *PAGES}
    for module in TREES:
        everywhere = {name.split(".")[0] for name in imports(module)}
        early = heavy & {name.split(".")[0] for name in imports(module, typing=False, late=False)}
        assert not early, f"{module}: import it in the function that needs it"
        if within(module, "study", "records", "errors", "plugins"):
            assert not everywhere & {*heavy, "duckdb", "pandas"}, f"{module} is read before anything heavy loads"
        assert "duckdb" not in everywhere or within(module, "store"), f"{module}: only the store opens databases"


def test_plugins_do_not_know_each_other() -> None:
    plugins = {m for m in TREES if within(m, "generator.backends", "analyzer.probes") and "load" in public(TREES[m])}
    assert len(plugins) >= 5
    assert not {module: known for module in plugins if (known := ours(module) & plugins)}
    for module in sorted(plugins):
        page = ast.get_docstring(TREES[module]) or ""
        said = "References:" in page or "ours" in page.lower() or within(module, "generator.backends")
        assert said, f"{module}: say where the formula is from, or that it is ours"


def public(tree: ast.Module) -> set[str]:
    """Functions and classes of a module, without an underscore."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")}


def test_every_page_has_a_head() -> None:
    for module, tree in TREES.items():
        assert (ast.get_docstring(tree) or "").strip(), f"{module}: what is this page about?"
        tables = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
        listed = {str(ast.literal_eval(item)) for n in tables for item in getattr(n.value, "elts", [])}
        assert tables or not public(tree), f"{module}: __all__ is the table of contents"
        here = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | public(tree)
        top = [n for node in tree.body for n in (node.body if isinstance(node, ast.If) else [node])]
        here |= {alias.name for n in top if isinstance(n, ast.ImportFrom) for alias in n.names}
        assert listed <= here, f"{module}: __all__ names what is not here"
        assert not BANNED_NAMES & set(module.rpartition(".")[2].split("_")), f"{module}: a name that says nothing"
        assert not [name for name in public(tree) if name.startswith("process_")], module


def test_no_file_is_long() -> None:
    files = [file for folder in ("promptlab", "tests", "dashboards") for file in (ROOT / folder).rglob("*.py")]
    long = {str(f.relative_to(ROOT)): n for f in files if (n := len(f.read_text("utf-8").splitlines())) > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: split by what it is about"


def test_pages_hold_no_sql() -> None:
    """A page asks for frames; queries are functions of `promptlab.results.pages`."""
    for path in sorted((ROOT / "dashboards").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            assert "SELECT" not in text, f"{path}:{getattr(node, 'lineno', 0)}"


def test_nothing_unsafe_is_called() -> None:
    for folder in ("promptlab", "dashboards"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                assert not (why := unsafe(node)), f"{path}:{getattr(node, 'lineno', 0)}: {why}"


def unsafe(node: ast.AST) -> str | None:
    """What is wrong with a piece of code, if anything."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
        return "pickle runs code" if PICKLES & {name.split(".")[0] for name in names} else None
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if called in UNSAFE_CALLS:
        return called
    for keyword in node.keywords:
        off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
        if keyword.arg in UNSAFE_ARGUMENTS and not off:
            return f"{keyword.arg} is on"
    if isinstance(node.func, ast.Attribute) and node.func.attr in QUERIES and node.args:
        glued = isinstance(node.args[0], ast.JoinedStr | ast.BinOp) or ".format(" in ast.unparse(node.args[0])
        if glued and not ast.unparse(node.args[0]).startswith(UNBOUND):
            return "values are bound, never written into SQL"
    return None


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "yaml.load(text)",
        "load(x, trust_remote_code=True)",
        "st.markdown(x, unsafe_allow_html=flag)",
        'store.query(f"SELECT {x}")',
        'c.execute("SELECT " + x)',
    ],
)
def test_the_rules_bite(code: str) -> None:
    assert any(unsafe(node) for node in ast.walk(ast.parse(code)))
    assert not any(unsafe(node) for node in ast.walk(ast.parse('store.query("SELECT ?", [x]); yaml.safe_load(text)')))


LIGHT = """
name: light
question: What does planning load?
backend: renderer
prompt: {template: "{thing}", objects: {thing: {noun: cup, colour: red}}}
axes: {guidance_scale: [1, 5]}
probes: [binding, diversity, {name: vqascore, answer: "Yes"}, detector, attention]
contrasts: [{name: more, measure: binding.noun, axis: guidance_scale, levels: [5, 1]}]
"""


@pytest.mark.parametrize(
    ("command", "never"),
    [
        (["--help"], [*MODELS, *PAGES, "duckdb", "pandas", "numpy", "pydantic"]),
        (["validate", "light.yaml"], [*MODELS, *PAGES, "duckdb", "pandas", "scipy"]),
        (["plan", "light.yaml"], [*MODELS, *PAGES, "duckdb", "pandas"]),
        (["status"], [*MODELS, *PAGES]),
    ],
    ids=lambda value: value[0],
)
def test_light_commands_load_nothing_heavy(command: list[str], never: list[str], tmp_path: Path) -> None:
    (tmp_path / "light.yaml").write_text(LIGHT)
    code = f"""
import sys
sys.argv = ["promptlab", *{command!r}]
from promptlab.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {never!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
