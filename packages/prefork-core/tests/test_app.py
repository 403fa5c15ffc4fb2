# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools
import os
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from prefork.app import load
from prefork.errors import AppError, BootError

if TYPE_CHECKING:
    from pathlib import Path

_numbers = itertools.count()

WSGI = "def application(environ, start_response): return [b'application']\n"


class Folder:
    """The current folder of a test, with modules of names that no other test has imported."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def module(self, text: str, *, within: str = "") -> str:
        name = f"application_{next(_numbers)}"
        folder = self.path / within
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        return name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return Folder(tmp_path)


def called(text: str) -> object:
    return load(text)({}, None)


def test_a_module_alone_means_application_then_app(folder: Folder) -> None:
    app = "app = lambda environ, start_response: [b'app']\n"
    assert called(folder.module(app)) == [b"app"]
    assert called(folder.module(WSGI + app)) == [b"application"]


@pytest.mark.parametrize(
    "attribute",
    [
        "other",
        "holder.inner",
        "create_app()",
        "create_app('x', debug=True)",
        "create_app(name=('x', 1), debug=None)",
        "holder.make()",
        "Class",
    ],
)
def test_an_attribute_or_a_call_with_literals_names_an_application(folder: Folder, attribute: str) -> None:
    name = folder.module("""
def other(environ, start_response): return "other"
def create_app(name="", debug=False): return lambda environ, start_response: (name, debug)
class Class:
    def __init__(self, environ, start_response): pass
class holder:
    inner = other
    make = create_app
""")
    assert callable(load(f"{name}:{attribute}"))


def test_a_factory_is_given_its_arguments(folder: Folder) -> None:
    name = folder.module("def create_app(*a, **k): return lambda environ, start_response: (a, k)")
    assert called(f"{name}:create_app('x', [1], debug=True)") == (("x", [1]), {"debug": True})


def test_the_current_folder_comes_before_the_python_path_and_both_before_all_else(folder: Folder) -> None:
    name = folder.module(WSGI, within="lib")
    load(name, ["lib"])
    assert sys.path[:2] == [str(folder.path), str(folder.path / "lib")]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("foo.py", "did you mean foo:app?"),
        ("./foo/bar.py:main", "did you mean foo.bar:main?"),
        ("foo/bar", "did you mean foo.bar:app?"),
    ],
)
def test_a_path_is_answered_with_the_module(text: str, hint: str) -> None:
    with pytest.raises(AppError, match="is a path, not a module") as caught:
        load(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":app",
        "a b:app",
        "os:",
        "os:a b",
        "os:a[0]",
        "os:a().b",
        "os:f(g())",
        "os:f(*[1])",
        "os:f(**{'a': 1})",
    ],
)
def test_what_names_nothing_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(AppError) as caught:
        load(text)
    assert caught.value.hint.startswith("write module:app")


def test_a_missing_module_is_answered_with_where_it_was_looked_for(folder: Folder) -> None:
    name = folder.module(WSGI)
    with pytest.raises(AppError) as caught:
        load(f"{name}x:app")
    assert f"there is no module '{name}x'" in caught.value.message
    assert str(folder.path) in caught.value.message
    assert caught.value.hint == f"did you mean {name}?"


@pytest.mark.parametrize("inner", ["nowhere", "nowhere.deeper"])
def test_a_missing_part_of_a_package_is_a_missing_module(folder: Folder, inner: str) -> None:
    package = folder.path / f"package_{next(_numbers)}"
    package.mkdir()
    (package / "__init__.py").touch()
    with pytest.raises(AppError, match=f"there is no module '{package.name}.nowhere'"):
        load(f"{package.name}.{inner}:app")


def test_a_folder_that_is_closed_to_the_worker_does_not_hide_what_is_missing(folder: Folder) -> None:
    """The user of the workers may not look everywhere that root has named."""
    closed = folder.path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            sys.path.append(str(closed / "inner"))
            try:
                load("nowhere_at_all:app", [])
            except AppError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    closed.chmod(0o700)


def test_a_missing_attribute_is_answered_with_what_there_is(folder: Folder) -> None:
    name = folder.module(f"from json import loads\ndef create_app(): pass\n_x = 1\nnumber = 2\n{WSGI}")
    with pytest.raises(AppError) as caught:
        load(f"{name}:app")
    assert caught.value.message.startswith(
        f"module '{name}' has no 'app'; it has: application, create_app, loads (/"
    )
    assert caught.value.hint == f"did you mean {name}:create_app()?"


def test_a_missing_attribute_of_an_attribute_names_its_owner(folder: Folder) -> None:
    name = folder.module("class holder:\n    def inner(environ, start_response): pass")
    with pytest.raises(AppError, match=f"{name}:holder has no 'iner'; it has: inner") as caught:
        load(f"{name}:holder.iner")
    assert caught.value.hint == f"did you mean {name}:holder.inner?"


def test_an_attribute_of_something_without_attributes_is_missing(folder: Folder) -> None:
    name = folder.module("number = 3")
    with pytest.raises(AppError, match=f"{name}:number has no 'app'"):
        load(f"{name}:number.app")


def test_a_module_without_any_of_the_default_names_says_so(folder: Folder) -> None:
    name = folder.module("number = 3")
    with pytest.raises(AppError, match="has no 'application' or 'app'; it has: nothing that can be called"):
        load(name)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("app = {}", "is a dict, not a callable", ""),
        ("app = None", "is None, not a callable", ""),
        (
            "class app:\n def wsgi_app(e, s): pass\napp = type('Sio', (), {'wsgi_app': app.wsgi_app})()",
            "is a Sio",
            "app.wsgi_app?",
        ),
        ("def app(): return 1", "does not take the two arguments of a WSGI application", ":app()?"),
        (
            "def app(config=None): return 1",
            "does not take the two arguments of a WSGI application",
            ":app()?",
        ),
        (
            "async def app(scope, receive, send): pass",
            "is an asynchronous (ASGI) application",
            "(pip install prefork-aio)",
        ),
        ("class A:\n async def __call__(s, scope, receive, send): pass\napp = A()", "is an asynchronous", ""),
    ],
)
def test_what_is_no_wsgi_application_is_refused_as_what_it_is(
    folder: Folder, text: str, message: str, hint: str
) -> None:
    name = folder.module(text)
    with pytest.raises(AppError) as caught:
        load(f"{name}:app")
    assert caught.value.message.startswith(f"{name}:app {message}")
    assert caught.value.hint.endswith(hint)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import nowhere_at_all", ModuleNotFoundError),
        ("from json import nothing", ImportError),
        ("import sys\nsys.exit(0)", SystemExit),
        ("1 / 0", ZeroDivisionError),
    ],
)
def test_a_module_that_raises_is_there_and_fails(
    folder: Folder, text: str, error: type[BaseException]
) -> None:
    """Its traceback starts in the application: prefork's and the import system's frames are cut off."""
    name = folder.module(text)
    with pytest.raises(BootError, match=f"the module {name} raised {error.__name__}") as caught:
        load(f"{name}:app")
    cause = caught.value.__cause__
    assert isinstance(cause, error)
    assert traceback.extract_tb(cause.__traceback__)[0].filename.endswith(f"{name}.py")


def test_a_module_that_cannot_be_compiled_is_there_and_fails(folder: Folder) -> None:
    name = folder.module("def f(:")
    with pytest.raises(BootError, match="SyntaxError") as caught:
        load(name)
    assert isinstance(caught.value.__cause__, SyntaxError)


def test_a_factory_that_raises_is_a_boot_error_with_its_traceback(folder: Folder) -> None:
    name = folder.module("def create_app():\n    raise TypeError('inside')")
    with pytest.raises(BootError, match="TypeError: inside") as caught:
        load(f"{name}:create_app()")
    assert caught.value.__cause__ is not None
    assert [frame.lineno for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)] == [2]


def test_arguments_that_a_factory_does_not_take_are_a_slip_of_the_name(folder: Folder) -> None:
    name = folder.module("def create_app(): pass")
    with pytest.raises(AppError, match="takes 0 positional arguments but 1 was given"):
        load(f"{name}:create_app(1)")


def test_what_a_factory_returned_must_be_an_application(folder: Folder) -> None:
    name = folder.module("def create_app(): pass\ndef wrapped(): return create_app\nnumber = 1")
    with pytest.raises(AppError, match=r"what .*create_app\(\) returned is None, not a callable"):
        load(f"{name}:create_app()")
    with pytest.raises(AppError, match="returned does not take the two arguments") as caught:
        load(f"{name}:wrapped()")
    assert caught.value.hint == ""
    with pytest.raises(AppError, match="cannot be called, it is an int"):
        load(f"{name}:number()")


def test_a_worker_class_of_another_kind_says_itself_what_is_no_application(folder: Folder) -> None:
    name = folder.module("number = 1\ntext = 'x'")

    def refuses(found: object) -> str | None:
        return None if isinstance(found, int) else "it is no number"

    assert load(f"{name}:number", (), refuses) == 1
    with pytest.raises(AppError, match=f"^{name}:text cannot be served: it is no number$"):
        load(f"{name}:text", (), refuses)
