# SPDX-License-Identifier: MIT
"""Configuration files of real projects work: a gunicorn.conf.py as it is, and prefork's own."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.browser import fetch
from support.server import Server

from prefork.testing.client import ask
from prefork.testing.processes import title
from prefork.testing.server import clean_environ, free_port
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES: Final = Path(__file__).parents[2] / "docs" / "how-to"
RE_BLOCK: Final = re.MULTILINE | re.DOTALL

APPLICATION: Final = '''
    """Answers with what the server made of the request."""
    import os
    import sys


    def application(environ, start_response):
        if environ["PATH_INFO"] == "/print":
            print("printed by the application", flush=True)
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Served-By", "shop")])
        names = ["wsgi.url_scheme", "REMOTE_ADDR", "SERVER_SOFTWARE"]
        return ["\\n".join([*(environ[name] for name in names), os.environ.get("COLOUR", "")]).encode()]
'''

GUNICORN: Final = '''
    """Gunicorn configuration of the shop."""

    import multiprocessing
    import os

    # --- Server socket
    bind = ["127.0.0.1:{port}", "unix:shop.sock"]
    backlog = 2048

    # --- Workers
    workers = int(os.environ.get("WEB_CONCURRENCY", multiprocessing.cpu_count() * 2 + 1))
    worker_class = "sync"
    worker_connections = 1000
    worker_tmp_dir = "/dev/shm"
    threads = int(os.environ.get("PYTHON_MAX_THREADS", 1))
    timeout = 60
    graceful_timeout = 20
    keepalive = 5
    max_requests = 1000
    max_requests_jitter = 50
    preload_app = True
    reload = os.environ.get("RELOAD", "") == "1"

    # --- Logging
    accesslog = "-"
    errorlog = "-"
    loglevel = os.environ.get("LOG_LEVEL", "debug")
    access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %({{x-request-id}}i)s %({{x-served-by}}o)s %(D)s'
    logconfig_dict = {{
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {{
            "plain": {{"format": "ERRORLOG %(levelname)s %(message)s"}},
            "access": {{"format": "ACCESSLOG %(message)s"}},
        }},
        "handlers": {{
            "error": {{"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
            "access": {{"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"}},
            "file": {{"class": "logging.FileHandler", "formatter": "access", "filename": "access.log"}},
        }},
        "root": {{"level": "INFO", "handlers": ["error"]}},
        "loggers": {{
            "gunicorn.error": {{"level": "DEBUG", "handlers": ["error"], "propagate": False}},
            "gunicorn.access": {{"level": "INFO", "handlers": ["access", "file"], "propagate": False}},
        }},
    }}

    # --- Process
    proc_name = "corner-shop"
    raw_env = ["COLOUR=green"]
    forwarded_allow_ips = "*"
    secure_scheme_headers = {{"X-FORWARDED-PROTO": "https"}}
    wsgi_app = "shop.wsgi"


    # --- Hooks
    def _note(text):
        with open("hooks.log", "a") as file:
            file.write(f"{{os.getpid()}} {{text}}\\n")


    def on_starting(server):
        _note("on_starting")
        server.log.info("Starting the shop")


    def when_ready(server):
        _note("when_ready")
        server.log.info("Server is ready. Spawning workers")


    def pre_fork(server, worker):
        _note("pre_fork")


    def post_fork(server, worker):
        _note(f"post_fork {{worker.pid}}")
        server.log.info("Worker spawned (pid: %s)", worker.pid)


    def post_worker_init(worker):
        _note(f"post_worker_init {{worker.pid}}")


    def worker_int(worker):
        _note("worker_int")
        worker.log.info("worker received INT or QUIT signal")


    def pre_request(worker, req):
        worker.log.debug("%s %s", req.method, req.path)


    def post_request(worker, req, environ, resp):
        _note(f"post_request {{req.method}} {{req.path}} {{environ['REQUEST_METHOD']}} {{resp.status}}")


    def child_exit(server, worker):
        _note(f"child_exit {{worker.pid}}")


    def worker_exit(server, worker):
        _note(f"worker_exit {{worker.pid}}")


    def nworkers_changed(server, new_value, old_value):
        _note(f"nworkers_changed {{new_value}} {{old_value}}")


    def on_exit(server):
        _note("on_exit")
        server.log.info("Shutting down the shop")
'''


def project(folder: Path) -> Path:
    """Write the application; return the folder."""
    (folder / "shop").mkdir(exist_ok=True)
    (folder / "shop" / "wsgi.py").write_text(textwrap.dedent(APPLICATION))
    return folder


def gunicorns(folder: Path, port: int) -> Path:
    """Write a project with gunicorn's file; return the folder."""
    project(folder)
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(GUNICORN).format(port=port))
    return folder


def serve(folder: Path, port: int) -> Server:
    """Return a server of the project, with the file and nothing else."""
    address = ("127.0.0.1", port)
    return Server(
        folder, "-c gunicorn.conf.py", address=address, bind=False, environ={"WEB_CONCURRENCY": "2"}
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve with gunicorn's file."""
    port = free_port()
    with serve(gunicorns(tmp_path_factory.mktemp("project"), port), port) as server:
        server.wait_workers(2)
        yield server


class TestGunicornsFile:
    def test_every_address_is_served(self, shop: Server) -> None:
        assert fetch(shop.address, "/").status == 200
        assert ask(str(shop.folder / "shop.sock")).status == 200

    def test_what_does_not_apply_is_said_with_what_to_do(self, shop: Server) -> None:
        shop.wait_log(
            "prefork does not have gunicorn's worker_tmp_dir: workers share memory with the arbiter"
        )
        shop.wait_log(f"{place(shop.folder, 'worker_tmp_dir')}: prefork does not have")
        # They ask for what prefork does anyway.
        assert "gunicorn's threads" not in shop.log()
        assert "gunicorn's reload" not in shop.log()

    def test_the_application_is_preloaded(self, shop: Server) -> None:
        assert len(shop.templates()) == 1

    def test_everyone_is_a_proxy(self, shop: Server) -> None:
        answer = fetch(shop.address, "/", source="127.0.0.2", X_Forwarded_Proto="https").text
        assert answer.startswith("https\n127.0.0.2\nprefork/")

    def test_env_is_set(self, shop: Server) -> None:
        assert fetch(shop.address, "/").text.endswith("\ngreen")

    def test_logs_go_where_the_table_says(self, shop: Server) -> None:
        fetch(shop.address, "/some?query", X_Request_ID="id-7")
        wanted = re.compile(
            r'^ACCESSLOG 127\.0\.0\.1 "GET /some\?query HTTP/1\.1" 200 \d+ id-7 shop \d+$', re.MULTILINE
        )
        until(lambda: wanted.search(shop.log()), "an access line on the standard output")
        until(lambda: wanted.search((shop.folder / "access.log").read_text()), "an access line in the file")
        shop.wait_log("ERRORLOG INFO Worker spawned (pid: ", count=2)
        shop.wait_log("ERRORLOG DEBUG GET /some")

    def test_titles_have_the_name(self, shop: Server) -> None:
        assert all("corner-shop" in title(pid) for pid in [shop.pid, *shop.workers()])

    def test_hooks_run_in_the_right_process_and_order(self, tmp_path: Path) -> None:
        port = free_port()
        with serve(gunicorns(tmp_path, port), port) as server:
            workers = server.wait_workers(2)
            fetch(server.address, "/asked")
            server.stop()
        lines = [line.split(" ", 1) for line in (tmp_path / "hooks.log").read_text().splitlines()]
        of_arbiter = [text for pid, text in lines if int(pid) == server.pid]
        assert of_arbiter[0] == "on_starting"
        assert of_arbiter[-1] == "on_exit"
        assert sorted(of_arbiter[1:-1]) == [
            *sorted(f"child_exit {pid}" for pid in workers),
            "nworkers_changed 2 None",
            *["pre_fork"] * 2,
            "when_ready",
        ]
        for worker in workers:
            of_worker = [text for pid, text in lines if int(pid) == worker]
            requests = of_worker[2:-1]
            assert of_worker == [
                f"post_fork {worker}",
                f"post_worker_init {worker}",
                *requests,
                f"worker_exit {worker}",
            ]
            assert all(text.startswith("post_request GET /") for text in requests)
        assert any(text == "post_request GET /asked GET 200 OK" for _, text in lines)

    def test_check_config_accepts_it(self, tmp_path: Path) -> None:
        done = command(gunicorns(tmp_path, 8000), "--check-config", "-c", "gunicorn.conf.py")
        assert (done.returncode, done.stdout) == (0, "ok\n")
        assert "worker_tmp_dir" in done.stderr

    def test_print_config_says_where_each_value_is_from(self, tmp_path: Path) -> None:
        done = command(gunicorns(tmp_path, 8000), "--print-config", "-c", "gunicorn.conf.py", "-t", "7")
        lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
        assert place(tmp_path, "graceful_timeout") in lines["graceful_timeout"]
        assert "7" in lines["timeout"]
        assert "flag" in lines["timeout"]
        assert "default" in lines["header_timeout"]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("certfile = '/etc/shop.pem'", "end it in a proxy in front"),
            ("worker_class = 'meinheld'", "there is no worker class 'meinheld'"),
            ("worker_class = 'uvicorn.workers.UvicornWorker'", "uvicorn.workers.UvicornWorker"),
            ("logger_class = 'shop.logs.Logger'", "handlers and formatters in logconfig_dict"),
            ("proxy_protocol = True", "let the balancer set X-Forwarded-* fields"),
            ("timeout = 'long'", "gunicorn.conf.py:1"),
            ("worker = 4", "did you mean workers?"),
            ("bind = 'localhost:http'", "localhost:http"),
            ("access_log_format = '%(zz)s'", "zz"),
            ("def pre_fork(server): pass", "pre_fork"),
        ],
    )
    def test_what_would_not_be_the_same_is_refused(self, tmp_path: Path, line: str, said: str) -> None:
        (project(tmp_path) / "gunicorn.conf.py").write_text(f"{line}\n")
        for mode in ([], ["--check-config"]):
            done = command(tmp_path, *mode, "-c", "gunicorn.conf.py", "shop.wsgi")
            assert done.returncode == 1, done.stderr
            assert said in done.stderr

    def test_it_is_not_read_unless_it_is_named(self, tmp_path: Path) -> None:
        (project(tmp_path) / "gunicorn.conf.py").write_text("raise RuntimeError\n")
        with Server(tmp_path, "-w 2 shop.wsgi") as server:
            server.wait_log("gunicorn.conf.py is only read when it is named: -c gunicorn.conf.py")


OURS: Final = {
    "prefork.conf.py": """
        workers = 2
        bind = "{address}"
        wsgi_app = "shop.wsgi"
        graceful_timeout = 7.5
        raw_env = ["COLOUR=blue"]
        accesslog = "access.log"
    """,
    "prefork.toml": """
        # The shop
        workers = 2
        bind = ["{address}"]
        wsgi_app = "shop.wsgi"
        graceful_timeout = "7500ms"
        raw_env = ["COLOUR=blue"]
        accesslog = "access.log"
    """,
    "pyproject.toml": """
        [project]
        name = "shop"
        version = "1"

        [tool.prefork]
        workers = 2
        bind = "{address}"
        wsgi_app = "shop.wsgi"
        graceful_timeout = 7.5
        raw_env = ["COLOUR=blue"]
        accesslog = "access.log"

        [tool.other]
        workers = 9
    """,
}


@pytest.mark.parametrize("name", OURS)
class TestOwnFiles:
    def ours(self, folder: Path, name: str, port: int) -> Path:
        text = textwrap.dedent(OURS[name]).format(address=f"127.0.0.1:{port}")
        (project(folder) / name).write_text(text)
        return folder

    def test_a_server_needs_nothing_else(self, tmp_path: Path, name: str) -> None:
        port = free_port()
        address = ("127.0.0.1", port)
        with Server(self.ours(tmp_path, name, port), "", address=address, bind=False) as server:
            server.wait_workers(2)
            assert fetch(server.address, "/colours").text.endswith("\nblue")
            until(lambda: "GET /colours" in (tmp_path / "access.log").read_text(), "an access line")

    def test_variables_and_flags_come_before_it(self, tmp_path: Path, name: str) -> None:
        port = free_port()
        address = ("127.0.0.1", port)
        environ = {"PREFORK_WORKERS": "3", "PREFORK_CMD_ARGS": "-e COLOUR=red --workers 4"}
        folder = self.ours(tmp_path, name, port)
        with Server(folder, "-w 1", address=address, bind=False, environ=environ) as server:
            server.wait_workers(1)
            assert fetch(server.address, "/").text.endswith("\nred")

    def test_a_slip_is_named_with_its_line(self, tmp_path: Path, name: str) -> None:
        path = self.ours(tmp_path, name, 8000) / name
        text = path.read_text().replace("accesslog", "acceslog")
        path.write_text(text)
        line = text[: text.index("acceslog")].count("\n") + 1
        done = command(tmp_path)
        assert done.returncode == 1
        assert f"{name}:{line}" in done.stderr
        assert "did you mean accesslog?" in done.stderr


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_files_of_how_to_pages_can_be_read(tmp_path: Path, page: Path) -> None:
    blocks = re.findall(
        r"^```\{code-block\} toml\n:caption: prefork.toml\n(.*?)^```$", page.read_text(), RE_BLOCK
    )
    for text in blocks:
        (tmp_path / "prefork.toml").write_text(text)
        done = command(tmp_path, "--print-config")
        assert done.returncode == 0, done.stderr
        given = tomllib.loads(text)
        assert done.stdout.count("prefork.toml:") == len(given) > 0
    assert len(blocks) == page.read_text().count("prefork.toml\n\n")


def place(folder: Path, name: str) -> str:
    """Return where gunicorn's file gives a setting, as file and line."""
    lines = (folder / "gunicorn.conf.py").read_text().splitlines()
    return "gunicorn.conf.py:" + next(
        str(number) for number, line in enumerate(lines, 1) if line.startswith(f"{name} = ")
    )


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "prefork", *arguments],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
