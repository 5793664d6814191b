"""Who may import whom (design.md, section 2), read from the source: nothing is imported here."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENV, TRAIN, DOMAINS = ROOT / "sentinel_env", ROOT / "sentinel_train", ROOT / "domains"
HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "peft", "ray", "litellm", "pandas", "plotly", "fastapi", "uvicorn"}

LAYERS = [
    {"errors"},
    {"messages", "records"},
    {"tables"},
    {"database"},
    {"tools", "tasks"},
    {"operations"},
    {"domain"},
    {"episode"},
    {"users", "agents"},
    {"trajectory"},
    {"evaluation"},
    {"metrics", "env", "runner"},
    {"failures"},
    {"generation", "verification"},
    {"checks"},
    {"cli"},
]
"""From the bottom: a module imports from its own layer and those before it. Modules that are not named lie anywhere, but in no circle."""


def sources(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path, folder, package):
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def imports(path, folder, package, *, lazy):
    """(module, names) of every import of a file, relative ones resolved; those inside functions only with `lazy`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = name_of(path, folder, package).split(".")
    base = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(tree) if lazy else at_import(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*prefix, *([node.module] if node.module else [])])
            names = tuple(alias.name for alias in node.names)
            yield module, names
            if node.level and not node.module:
                yield from ((f"{module}.{name}", ()) for name in names)


def at_import(tree):
    """The statements that run when the module is imported: not those of functions, nor those for type checkers only."""
    queue = list(tree.body)
    while queue:
        node = queue.pop()
        yield node
        only_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not only_types:
            queue.extend(ast.iter_child_nodes(node))


def top(module):
    return module.split(".")[0]


@pytest.mark.parametrize("path", sources(ENV), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_imports_neither_domains_nor_training_nor_anything_heavy(path):
    found = {top(module) for module, _ in imports(path, ENV, "sentinel_env", lazy=True)}
    assert not found & {"domains", "sentinel_domains", "sentinel_train"}
    assert not {top(module) for module, _ in imports(path, ENV, "sentinel_env", lazy=False)} & HEAVY
    if path != ENV / "llm.py":
        assert "litellm" not in found, "only llm.py may import litellm"
    if ENV / "adapters" not in path.parents:
        assert not found & {"torch", "trl"}, "the engine runs without the train extra"


@pytest.mark.parametrize("path", sources(DOMAINS), ids=lambda path: str(path.relative_to(ROOT)))
def test_domains_import_public_names_and_themselves_relatively(path):
    for module, names in imports(path, DOMAINS, "sentinel_domains", lazy=True):
        assert top(module) not in ("domains", "sentinel_train", *HEAVY)
        if top(module) == "sentinel_env":
            assert not any(part.startswith("_") for part in [*module.split("."), *names])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            assert top(node.module) != "sentinel_domains", "inside a domain, import relatively"


@pytest.mark.parametrize("path", sources(TRAIN), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_imports_public_names_of_the_environment(path):
    for module, names in imports(path, TRAIN, "sentinel_train", lazy=True):
        if top(module) == "sentinel_env":
            assert not any(part.startswith("_") for part in [*module.split("."), *names])


def graph():
    """Module -> modules that it imports, within the environment."""
    files = {name_of(path, ENV, "sentinel_env"): path for path in sources(ENV)}
    found = {}
    for name, path in files.items():
        targets = set()
        for module, names in imports(path, ENV, "sentinel_env", lazy=True):
            targets |= {each for each in (module, *(f"{module}.{name}" for name in names)) if each in files}
        found[name.removeprefix("sentinel_env.")] = {each.removeprefix("sentinel_env.") for each in targets} - {"sentinel_env"}
    found.pop("sentinel_env")
    return found


def reachable(module, edges):
    seen, queue = set(), [module]
    while queue:
        for each in edges.get(queue.pop(), ()):
            if each not in seen:
                seen.add(each)
                queue.append(each)
    return seen


def test_no_module_imports_itself_through_others():
    edges = graph()
    assert {module for module in edges if module in reachable(module, edges)} == set()


def test_layers_import_downwards_only():
    edges = graph()
    height = {module: at for at, layer in enumerate(LAYERS) for module in layer}
    upwards = {
        (module, other) for module in height for other in reachable(module, edges) if other in height and height[other] > height[module]
    }
    assert upwards == set()
    assert {module for module in height if module not in edges and module != "llm"} == set()


def test_only_the_gymnasium_files_import_gymnasium():
    found = {
        path.name
        for path in sources(ENV)
        if ENV / "adapters" not in path.parents
        and any(top(module) == "gymnasium" for module, _ in imports(path, ENV, "sentinel_env", lazy=True))
    }
    assert found == {"env.py", "spaces.py", "registration.py"}


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    roots = {"sentinel_env": ENV, "sentinel_train": TRAIN, "sentinel_domains": DOMAINS}
    found = {
        ".".join([name, *path.parent.relative_to(folder).parts]) for name, folder in roots.items() for path in folder.rglob("__init__.py")
    }
    assert set(listed) == found
