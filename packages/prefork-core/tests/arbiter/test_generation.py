# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from prefork.arbiter import generation as generations
from prefork.errors import ConfigError
from prefork.hooks import Hooks
from prefork.net.listener import adopt
from prefork.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.net.listener import Listener


def opened(*binds: str, there: tuple[Listener, ...] = ()) -> list[Listener]:
    return generations.open_listeners(binds, Settings(), None, there)


def test_the_first_number_of_workers_is_within_the_bounds_of_the_load() -> None:
    given: dict[str, Any] = {"min_workers": 2, "max_workers": 4}
    for workers, expected in [(1, 2), (3, 3), (9, 4)]:
        count = generations.check(Settings(workers=workers, **given)).workers
        assert count == (expected, "2 to 4 as the load asks for")
    assert generations.check(Settings(workers=9, min_workers=2)).workers.workers == 9


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_workers is 5, but max_workers only 4"):
        generations.check(Settings(min_workers=5, max_workers=4))


def test_the_policy_has_what_the_settings_say_about_load_age_and_memory() -> None:
    settings = Settings(
        workers=3,
        min_workers=2,
        max_workers=4,
        max_worker_lifetime=60.0,
        max_worker_lifetime_jitter=5.0,
        max_worker_memory=100,
        max_worker_memory_hard=200,
        max_memory=300,
    )
    checked = generations.check(settings)
    made: Any = generations.Generation(
        1,
        settings,
        Hooks(),
        "/",
        checked.worker_type,
        checked.workers,
        (),
        None,  # type: ignore[arg-type]
    )
    policy = made.policy
    assert (policy.workers, policy.min_workers, policy.max_workers) == (3, 2, 4)
    assert (policy.lifetime, policy.lifetime_jitter) == (60.0, 5.0)
    assert (policy.memory, policy.memory_hard, policy.memory_total) == (100, 200, 300)


def test_a_listener_is_opened_for_each_bind_in_order(tmp_path: Path) -> None:
    listeners = opened("127.0.0.1:0", f"unix:{tmp_path}/web.sock")
    assert [listener.sock.family for listener in listeners] == [socket.AF_INET, socket.AF_UNIX]
    generations.close_listeners(listeners)
    assert not (tmp_path / "web.sock").exists()


def test_no_more_connections_wait_than_backlog_says(tmp_path: Path) -> None:
    path = f"{tmp_path}/web.sock"
    listeners = generations.open_listeners([f"unix:{path}"], Settings(backlog=2), None, ())
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        for client in clients:
            client.setblocking(False)
        assert 0 < [client.connect_ex(path) for client in clients].count(0) < 10
    generations.close_listeners(listeners)


def test_a_listener_that_is_there_is_used_again_once(tmp_path: Path) -> None:
    (first,) = opened("127.0.0.1:0")
    again = opened("127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/web.sock", there=(first,))
    assert again[0] is first
    assert again[1] is not first
    generations.close_listeners(again)


def test_when_one_cannot_be_opened_the_new_ones_are_closed_and_the_old_ones_stay(tmp_path: Path) -> None:
    (old,) = opened(f"unix:{tmp_path}/old.sock")
    with pytest.raises(ConfigError):
        opened(f"unix:{tmp_path}/old.sock", f"unix:{tmp_path}/new.sock", "unix:/no/such/folder", there=(old,))
    assert not (tmp_path / "new.sock").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/old.sock")
    generations.close_listeners([old])


def test_an_inherited_listener_is_never_quieted() -> None:
    """The filter stays on the socket, which systemd keeps: the next start would hear nobody."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        generations.quiet([adopt(os.dup(given.fileno()), 5)])
        with socket.create_connection(given.getsockname(), timeout=5.0):
            pass


def test_a_quieted_unix_listener_has_no_path_any_more(tmp_path: Path) -> None:
    listeners = opened(f"unix:{tmp_path}/web.sock")
    generations.quiet(listeners)
    assert not (tmp_path / "web.sock").exists()
    generations.close_listeners(listeners)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(bind=("unix:",)), "has no path"),
        (Settings(worker_class="no-such-worker"), "no-such-worker"),
        (Settings(user="no-such-user"), "there is no user"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_opened(settings: Settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generations.check(settings)


def test_the_folder_is_entered_without_symbolic_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    folder = generations.enter_folder(Settings(chdir="current"), str(tmp_path))
    assert folder == os.getcwd() == str((tmp_path / "release").resolve())


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot change to .*/none: No such file or directory"):
        generations.enter_folder(Settings(chdir="none"), str(tmp_path))


def test_reload_without_what_it_needs_is_found_out_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generations.check(Settings(reload=True))
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    generations.check(Settings())
    with pytest.raises(ConfigError, match="watchfiles"):
        generations.check(Settings(reload=True))


def test_what_workers_import_is_only_noted_where_files_are_watched() -> None:
    assert generations.imported(Settings()) is None
    assert generations.imported(Settings(reload=True)) is not None
