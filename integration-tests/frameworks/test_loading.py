# SPDX-License-Identifier: MIT
"""Applications are found where people keep them, and what is wrong with one is said in a sentence."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Final

import pytest
from support.browser import fetch
from support.server import Server

from prefork.testing.server import clean_environ

SHOP: Final = '''
    """The factory of a package, as Flask's documentation has it."""
    import os

    from flask import Flask, jsonify


    def create_app(name="shop", *, debug=False):
        app = Flask(__name__)

        @app.get("/")
        def home():
            return jsonify(name=name, debug=debug, folder=os.getcwd(), colour=os.environ.get("COLOUR"))

        return app
'''
PLAIN: Final = """
    def {name}(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"{name} of " + __name__.encode()]
"""
LIMIT: Final = 10.0
"""Seconds within which a server that cannot boot must have ended, on a busy machine."""


def write(folder: Path, **files: str) -> Path:
    """Write modules, with double underscores for slashes; return the folder."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def package(folder: Path, name: str = "shop") -> Path:
    """Write a package with a factory; return the folder."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(textwrap.dedent(SHOP))
    return folder


class TestLayouts:
    def test_a_factory_of_a_package_is_called_with_its_arguments(self, tmp_path: Path) -> None:
        with Server(package(tmp_path), "-w 2 \"shop:create_app('corner', debug=True)\"") as server:
            found = fetch(server.address, "/").json
        assert (found["name"], found["debug"]) == ("corner", True)

    @pytest.mark.parametrize("name", ["application", "app"])
    def test_a_module_alone_has_an_application_of_the_usual_name(self, tmp_path: Path, name: str) -> None:
        write(tmp_path, wsgi=PLAIN.format(name=name))
        with Server(tmp_path, "-w 2 wsgi") as server:
            assert fetch(server.address, "/").text == f"{name} of wsgi"

    def test_a_module_of_a_package_and_an_attribute_of_an_attribute(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            shop__web__wsgi="""
                class Site:
                    def serve(self, environ, start_response):
                        start_response("200 OK", [])
                        return [b"deep"]
                site = Site()
            """,
        )
        with Server(tmp_path, "-w 2 shop.web.wsgi:site.serve") as server:
            assert fetch(server.address, "/").text == "deep"

    def test_chdir_is_where_modules_and_files_are(self, tmp_path: Path) -> None:
        package(tmp_path / "src")
        with Server(tmp_path, "-w 2 --chdir src 'shop:create_app()'") as server:
            assert fetch(server.address, "/").json["folder"] == str(tmp_path / "src")

    def test_pythonpath_names_more_folders(self, tmp_path: Path) -> None:
        package(tmp_path / "first" / "here")
        write(tmp_path / "second", wsgi="from shop import create_app\napp = create_app('found')")
        with Server(tmp_path, "-w 2 --pythonpath first/here,second wsgi:app") as server:
            found = fetch(server.address, "/").json
        assert (found["name"], found["folder"]) == ("found", str(tmp_path))

    def test_env_is_set_before_the_application_is_loaded(self, tmp_path: Path) -> None:
        package(tmp_path)
        write(tmp_path, wsgi="import os, shop\napp = shop.create_app(os.environ['COLOUR'])")
        with Server(tmp_path, "-w 2 -e COLOUR=green wsgi:app") as server:
            assert fetch(server.address, "/").json["name"] == "green"

    def test_the_current_folder_comes_before_installed_packages(self, tmp_path: Path) -> None:
        write(tmp_path, bottle=PLAIN.format(name="app"))
        with Server(tmp_path, "-w 2 bottle:app") as server:
            assert fetch(server.address, "/").text == "app of bottle"

    def test_the_installed_command_finds_the_current_folder_too(self, tmp_path: Path) -> None:
        """Python puts the folder of the script before all others, not the current one."""
        write(tmp_path, here=PLAIN.format(name="app"))
        done = command(tmp_path, "--check-config", "here:app")
        assert (done.returncode, done.stdout) == (0, "ok\n")


BROKEN: Final = {
    "no such module": (
        "shopp:create_app()",
        4,
        ("there is no module 'shopp'", "did you mean shop?"),
    ),
    "no such attribute": (
        "shop:create_ap()",
        4,
        ("module 'shop' has no 'create_ap'; it has: create_app", "did you mean shop:create_app()?"),
    ),
    "no usual name": (
        "shop",
        4,
        ("module 'shop' has no 'application' or 'app'", "did you mean shop:create_app()?"),
    ),
    "a factory that is not called": ("shop:create_app", 4, ("did you mean shop:create_app()?",)),
    "a wrong argument": ("shop:create_app(colour='red')", 4, ("unexpected keyword argument 'colour'",)),
    "not a literal": ("shop:create_app(debug=DEBUG)", 4, ("arguments can only be literals",)),
    "a path": ("shop/wsgi.py", 4, ("is a path, not a module", "did you mean shop.wsgi:app?")),
    "not callable": ("broken:number", 4, ("broken:number is an int, not a callable",)),
    "asynchronous": ("broken:asynchronous", 4, ("an asynchronous (ASGI) application",)),
    "raises when imported": (
        "raises:app",
        3,
        ("RuntimeError: no database today", 'raises.py", line 3', "the module raises raised RuntimeError"),
    ),
    "imports what is not there": (
        "needs:app",
        3,
        ("No module named 'redis_of_another_shop'", 'needs.py", line 1'),
    ),
    "cannot be parsed": ("syntax:app", 3, ("SyntaxError", 'syntax.py", line 2')),
    "exits": ("exits:app", 3, ("the module exits raised SystemExit",)),
    "raises when called": (
        "broken:factory()",
        3,
        ("broken:factory() raised ZeroDivisionError", 'broken.py", line 7'),
    ),
}


def broken(folder: Path) -> Path:
    """Write everything that can be wrong; return the folder."""
    package(folder)
    return write(
        folder,
        broken="""
            number = 7

            async def asynchronous(scope, receive, send):
                pass

            def factory():
                return 1 / 0
        """.strip("\n"),
        raises="""\
            def connect():
                # A comment, so that the line is not the first.
                raise RuntimeError("no database today")
            connect()
        """,
        needs="import redis_of_another_shop\n",
        syntax="def app(environ, start_response):\n    return [\n",
        exits="import sys\nsys.exit('not today')\n",
    )


@pytest.mark.parametrize(("spec", "code", "said"), BROKEN.values(), ids=BROKEN)
class TestBrokenApplications:
    def test_a_server_ends_soon_and_says_why(
        self, tmp_path: Path, spec: str, code: int, said: tuple[str, ...]
    ) -> None:
        began = time.monotonic()
        with Server(broken(tmp_path), f'-w 2 "{spec}"', expect=code, ready=False) as server:
            assert server.wait_exit() == code
        assert time.monotonic() - began < LIMIT
        for text in said:
            assert text in server.log()

    def test_check_config_says_the_same(
        self, tmp_path: Path, spec: str, code: int, said: tuple[str, ...]
    ) -> None:
        done = command(broken(tmp_path), "--check-config", spec)
        assert (done.returncode, done.stdout) == (code, "")
        for text in said:
            assert text in done.stderr


def test_no_application_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.returncode == 2
    assert "no application is given" in done.stderr


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder, until it ends by itself."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("prefork")), *arguments],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
