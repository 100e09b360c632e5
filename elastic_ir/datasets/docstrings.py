"""Docstrings of public objects, read from source with ``ast``: nothing that is read is imported.

Only names compiled into Python itself (``str.split``, ``math.gcd``) have no source; for those the short
list ``COMPILED`` of standard modules is imported.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import os.path
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, TypeAlias

_Node: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

SKIPPED_FOLDERS = {"test", "tests", "__pycache__", "site-packages", "dist-packages"}
"""Folders never entered when the modules of a package are listed."""

NOT_PUBLIC = {
    *("antigravity", "this", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "ensurepip", "distutils", "msilib"),
    *("posixpath", "ntpath", "genericpath", "nturl2path", "sre_compile", "sre_constants", "sre_parse"),
    *("numpy.core", "numpy.f2py", "numpy.distutils", "numpy.conftest", "numpy.matlib", "numpy.testing"),
    *("pandas.core", "pandas.compat", "pandas.util", "pandas.io", "pandas.conftest", "scipy.conftest"),
}
"""Modules without an underscore that are private, deprecated or jokes, their submodules included."""

RENAMED = {os.path.__name__: "os.path"}
"""Source module -> the public name that it is known by."""
if sys.version_info >= (3, 13):  # which left out the file collections/abc.py
    RENAMED["_collections_abc"] = "collections.abc"

SHOWN_AS = {
    "concurrent.futures.ThreadPoolExecutor": ("concurrent.futures.thread", "ThreadPoolExecutor"),
    "concurrent.futures.ProcessPoolExecutor": ("concurrent.futures.process", "ProcessPoolExecutor"),
    "pandas.Series.str": ("pandas.core.strings.accessor", "StringMethods"),
}
"""Public name of a class that no import statement shows -> its module and name."""

ADDED_LATER = {"numpy": "numpy._core._add_newdocs", "scipy.special": "scipy.special._add_newdocs"}
"""Public module -> the source module whose ``DOCUMENTING`` calls document its compiled names."""

DOCUMENTING = {"add_newdoc": "", "_array_method_doc": "ndarray."}
"""Function of these source modules that is called with a name and a docstring -> what stands before the name."""

COMPILED = (
    *("builtins", "math", "cmath", "itertools", "time", "operator", "functools", "collections", "array", "bisect"),
    *("random", "re", "os", "os.path", "sys", "io", "struct", "zlib", "binascii", "hashlib", "csv", "json", "pickle"),
    *("unicodedata", "threading", "weakref", "contextvars", "types", "gc", "select", "signal", "decimal", "heapq"),
    *("secrets", "socket", "codecs", "locale", "datetime", "mmap", "lzma", "statistics", "marshal", "queue", "sqlite3"),
)
"""Modules of the standard library that are compiled or show compiled names."""


class _Definition:
    """A class or function of a file: its docstring, and for a class its bases and public members.

    A class without a docstring (``csv.DictReader`` has none) is told by its constructor.
    """

    def __init__(self, module: str, node: _Node) -> None:
        self.module, self.name = module, node.name
        self.text = _docstring(node)
        self.is_class = isinstance(node, ast.ClassDef)
        self.bases = [base.id for base in getattr(node, "bases", ()) if isinstance(base, ast.Name)]
        inside = [part for part in _statements(node.body) if isinstance(part, _Node)] if self.is_class else []
        self.members = [_Definition(module, part) for part in inside if not part.name.startswith("_")]
        if not self.text:
            self.text = next((_constructor(node.name, part) for part in inside if part.name == "__init__"), "")


class _Reference(NamedTuple):
    module: str
    name: str


class _Module:
    """One parsed file: what it defines and imports, and what it declares public (None: it does not say)."""

    def __init__(self, name: str, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a stranger's source, e.g. invalid escape sequences
            tree = ast.parse(path.read_bytes())
        self.name = name
        self.text = _docstring(tree)
        self.package = name if path.stem == "__init__" else name.rpartition(".")[0]
        self.names: dict[str, list[_Definition | _Reference]] = {}
        self.stars: list[str] = []
        self.declared: list[str] | None = None
        self.added: dict[str, str] = {}
        for node in _statements(tree.body):
            self._note(node)

    def _note(self, node: ast.stmt) -> None:
        if isinstance(node, _Node):
            self.names.setdefault(node.name, []).append(_Definition(self.name, node))
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), self.package or None)
            for alias in node.names:
                if alias.name == "*":
                    self.stars.append(source)
                else:
                    self.names.setdefault(alias.asname or alias.name, []).append(_Reference(source, alias.name))
        elif isinstance(node, ast.AugAssign) and getattr(node.target, "id", "") == "__all__":
            self.declared = _joined(self.declared, node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            target = node.targets[0].id
            if target == "__all__":
                self.declared = _joined([], node.value)
            elif isinstance(node.value, ast.Name):
                self.names.setdefault(target, []).append(_Reference(self.name, node.value.id))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if call.args and isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "__all__":
                self.declared = _joined(self.declared, call.args[0])
            self.added |= _added(call)


class Sources:
    """Source files by module name, private modules included, and the public names of what they define."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._parsed: dict[str, _Module | None] = {}
        self._public: dict[_Definition, str] = {}

    def docstrings(self) -> dict[str, str]:
        """Public dotted name -> cleaned docstring; each object once, under its shortest public name."""
        modules = [name for name in self._files if _is_public(RENAMED.get(name, name))]
        shown: dict[str, _Definition | None] = {}
        for module in modules:
            prefix = RENAMED.get(module, module)
            shown |= {f"{prefix}.{name}": self._resolve(module, name) for name in self._exports(module)}
        shown |= {public: self._resolve(*source) for public, source in SHOWN_AS.items()}

        def rank(public: str) -> tuple[int, bool, int, str]:
            found = shown[public]
            is_alias = found is not None and not public.endswith(f".{found.name}")
            return public.count("."), is_alias, len(public), public

        for public in sorted(shown, key=rank, reverse=True):
            if found := shown[public]:
                self._public[found] = public  # the shortest comes last and stays
        result: dict[str, str] = {}
        for found, public in sorted(self._public.items(), key=lambda item: item[1]):
            self._describe(public, found, result)
        for module in modules:
            if parsed := self._module(module):
                result.setdefault(RENAMED.get(module, module), parsed.text)
        for public, source in ADDED_LATER.items():
            added, shows = self._module(source), self._module(public)
            if added and shows:
                kept = (name for name in added.added if shows.stars or name.partition(".")[0] in shows.names)
                result = {f"{public}.{name}": added.added[name] for name in kept} | result
        return {name: inspect.cleandoc(text) for name, text in result.items() if text and _is_public(name)}

    def _module(self, name: str) -> _Module | None:
        """The parsed module; None when it is compiled, of another package, or not for this Python."""
        if name not in self._parsed:
            self._parsed[name] = None
            with suppress(KeyError, ImportError, OSError, SyntaxError, ValueError, RecursionError):
                self._parsed[name] = _Module(name, self._files[name])
        return self._parsed[name]

    def _exports(self, module: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """Names that a module shows: those it declares, or what it defines and imports from its own package."""
        parsed = self._module(module)
        if parsed is None or module in seen:
            return set()
        if parsed.declared is not None:
            return {name for name in parsed.declared if not name.startswith("_")}
        names = {name for name, sources in parsed.names.items() if any(_is_own(module, source) for source in sources)}
        for star in parsed.stars:
            names |= self._exports(star, seen | {module})
        return {name for name in names if not name.startswith("_")}

    def _resolve(self, module: str, name: str, seen: frozenset[_Reference] = frozenset()) -> _Definition | None:
        """Follow imports and aliases to the definition; None when it has no source here."""
        parsed, here = self._module(module), _Reference(module, name)
        if parsed is None or here in seen:
            return None
        sources = sorted(parsed.names.get(name, ()), key=lambda source: isinstance(source, _Reference))
        for source in [*sources, *(_Reference(star, name) for star in parsed.stars)]:
            if isinstance(source, _Reference):
                found = self._resolve(source.module, source.name, seen | {here})
            else:
                found = source if source.is_class or source.text else None
            if found:
                return found
        return None

    def _describe(self, public: str, found: _Definition, result: dict[str, str]) -> None:
        """Add an object, its public members, and the members of bases that have no public name of their own."""
        result.setdefault(public, found.text)
        for member in found.members:
            self._describe(f"{public}.{member.name}", member, result)
        for base in found.bases:
            parent = self._resolve(found.module, base)
            if parent and parent not in self._public:
                self._public[parent] = public  # told once, under the first class that shows it
                self._describe(public, parent, result)


def standard_library() -> dict[str, str]:
    """Docstrings of this Python's standard library: from source first, then what is compiled."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = {name: path for name, path in _modules(folder, "") if name.partition(".")[0] in sys.stdlib_module_names}
    with _no_collector():
        return _compiled() | Sources(files).docstrings()


def package(name: str) -> dict[str, str]:
    """Docstrings of an installed top-level package, from its source; empty when it is not installed."""
    spec = importlib.util.find_spec(name)
    folders = spec.submodule_search_locations if spec else None
    files = {module: path for folder in folders or () for module, path in _modules(Path(folder), name)}
    with _no_collector():
        return Sources(files).docstrings()


def _modules(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = f"{prefix}.{path.stem}".lstrip(".")
        if path.name == "__init__.py":
            yield prefix, path
        elif path.suffix == ".py":
            yield name, path
        elif path.name not in SKIPPED_FOLDERS and (path / "__init__.py").is_file():
            yield from _modules(path, name)


def _compiled() -> dict[str, str]:
    """Docstrings of what the modules of ``COMPILED`` show, as Python holds them."""
    result: dict[str, str] = {}
    for module in COMPILED:
        try:
            shown = vars(import_module(module))
        except ImportError:  # not part of every build, e.g. sqlite3
            continue
        for name in shown.get("__all__", shown):
            value = shown.get(name)
            if module != "builtins" and _is_elsewhere(value, name, module):
                continue
            public = name if module == "builtins" else f"{module}.{name}"
            if inspect.isroutine(value) or isinstance(value, type):
                result[public] = _doc(value)
            for member, held in vars(value).items() if isinstance(value, type) else ():
                if inspect.isroutine(held) or inspect.isdatadescriptor(held):
                    result[f"{public}.{member}"] = _doc(getattr(value, member, None))
    return {name: text for name, text in result.items() if text and _is_public(name)}


def _is_elsewhere(value: object, name: str, module: str) -> bool:
    """Whether a name in a module is a second name: of something public in another module, or beside its own name."""
    owner, own_name = getattr(value, "__module__", None), getattr(value, "__name__", name)
    homes = [(owner, own_name)] if owner != module and owner in COMPILED else []
    homes += [(module, own_name)] if own_name != name else []
    return any(hasattr(sys.modules.get(home), home_name) for home, home_name in homes)


def _doc(value: object) -> str:
    text = getattr(value, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _is_public(name: str) -> bool:
    parts = name.split(".")
    heads = {".".join(parts[: count + 1]) for count in range(len(parts))}
    return not any(part.startswith("_") for part in parts) and NOT_PUBLIC.isdisjoint(heads)


def _joined(declared: list[str] | None, more: ast.expr) -> list[str] | None:
    """``__all__`` with more names; None when some of them are computed."""
    names = _literal(more)
    names = [names] if isinstance(names, str) else names
    return [*declared, *map(str, names)] if declared is not None and isinstance(names, list | tuple) else None


def _is_own(module: str, source: _Definition | _Reference) -> bool:
    """Whether a name in a module is its own: defined there, or taken from its own package."""
    return isinstance(source, _Definition) or source.module.partition(".")[0] == module.partition(".")[0]


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, and of the if, try and with blocks in it."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handlers = [handler.body for handler in getattr(node, "handlers", [])]
            for block in [node.body, *handlers, getattr(node, "orelse", []), getattr(node, "finalbody", [])]:
                yield from _statements(block)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Hold the garbage collector: it takes a third of the time of parsing, and trees have no cycles to find."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _docstring(node: ast.Module | _Node) -> str:
    return ast.get_docstring(node, clean=False) or ""


def _constructor(name: str, node: _Node) -> str:
    """The docstring of ``__init__``, or else its signature under the name of the class."""
    signature = "" if isinstance(node, ast.ClassDef) else ast.unparse(node.args).removeprefix("self").lstrip(" /,")
    return _docstring(node) or f"{name}({signature})"


def _added(call: ast.Call) -> dict[str, str]:
    """What a call of ``DOCUMENTING`` tells: of one name a docstring, or one or more (member, docstring) pairs."""
    function = call.func.id if isinstance(call.func, ast.Name) else ""
    if function not in DOCUMENTING or len(call.args) < 2:
        return {}
    name, told = _literal(call.args[-2 - (function == "_array_method_doc")]), _literal(call.args[-1])
    pairs = told if isinstance(told, list) else [told if isinstance(told, tuple) else ("", told)]
    return {
        f"{DOCUMENTING[function]}{name}.{pair[0]}".rstrip("."): pair[1] for pair in pairs if isinstance(pair[-1], str)
    }


def _literal(node: ast.expr) -> object:
    """The value of a literal; None for any other expression."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
