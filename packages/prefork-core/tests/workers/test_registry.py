# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from distributions import WORKER, installed

from prefork.errors import ConfigError
from prefork.settings import Settings, load
from prefork.workers import registry

if TYPE_CHECKING:
    from pathlib import Path

GOOD = f"""{WORKER}
class Old(Own):
    api = 0
class Silent(Worker):
    def run(self, ctx): ...
class Abstract(Worker):
    api = 1
class Odd(Own):
    interface = "wsgi"
class Stranger: ...
number = 5
"""


def test_a_worker_of_another_distribution_is_found_by_its_name(tmp_path: Path) -> None:
    with installed(tmp_path, "registry_a", GOOD, dist_a={"own-a": "registry_a:Own"}):
        assert registry.find("own-a").__name__ == "Own"
        [own] = [each for each in registry.installed() if each.name == "own-a"]
        assert (own.owner, own.worker, own.error) == ("dist_a 1.0", registry.find("own-a"), None)


def test_a_name_that_nobody_has_installed_lists_those_that_are(tmp_path: Path) -> None:
    entries = {"own-b": "registry_b:Own", "another-b": "registry_b:Own"}
    with (
        installed(tmp_path, "registry_b", GOOD, dist_b=entries),
        pytest.raises(ConfigError, match="no worker class 'nothing'") as caught,
    ):
        registry.find("nothing")
    assert "another-b" in caught.value.hint
    assert caught.value.hint.index("another-b") < caught.value.hint.index("own-b")


def test_a_name_that_two_distributions_claim_is_refused_and_both_are_named(tmp_path: Path) -> None:
    entry = {"own-c": "registry_c:Own"}
    with (
        installed(tmp_path, "registry_c", GOOD, dist_one=entry, dist_two=entry),
        pytest.raises(ConfigError, match="'own-c' is claimed by dist_one and dist_two"),
    ):
        registry.find("own-c")


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        (
            "return None if settings.keepalive else 'a clock (pip install clock)'",
            "a clock (pip install clock)",
        ),
        ("raise OSError('no disk')", "no disk"),
    ],
)
def test_a_class_that_cannot_serve_with_the_settings_says_why(tmp_path: Path, lacks: str, said: str) -> None:
    source = f"{GOOD}\nclass Needy(Own):\n    @classmethod\n    def lacks(cls, settings): {lacks}\n"
    needy = Settings(worker_class="registry_lacks:Needy", keepalive=0.0)
    own = Settings(worker_class="registry_lacks:Own", keepalive=0.0)
    with installed(tmp_path, "registry_lacks", source):
        with pytest.raises(ConfigError, match=re.escape(f"'registry_lacks:Needy' cannot serve: {said}")):
            registry.serving(needy)
        assert registry.serving(own).__name__ == "Own"


def test_a_class_that_can_serve_with_the_settings_does(tmp_path: Path) -> None:
    source = f"{GOOD}\nclass Needy(Own):\n    lacks = classmethod(lambda cls, settings: None)\n"
    with installed(tmp_path, "registry_has", source):
        assert registry.serving(Settings(worker_class="registry_has:Needy")).__name__ == "Needy"


@pytest.mark.parametrize("separator", [":", "."])
def test_a_class_is_found_by_its_place(tmp_path: Path, separator: str) -> None:
    with installed(tmp_path, "registry_d", GOOD):
        assert registry.find(f"registry_d{separator}Own").__name__ == "Own"


@pytest.mark.parametrize(
    "path", ["registry_e:Missing", "registry_e.Missing", "missing_module:Own", "registry_e:", ":Own", "."]
)
def test_a_place_where_nothing_is_is_an_error(tmp_path: Path, path: str) -> None:
    with (
        installed(tmp_path, "registry_e", GOOD),
        pytest.raises(ConfigError, match="cannot be loaded") as caught,
    ):
        registry.find(path)
    assert "package.module:Class" in caught.value.hint


@pytest.mark.parametrize("name", ["Stranger", "number"])
def test_what_is_no_worker_class_is_refused(tmp_path: Path, name: str) -> None:
    with (
        installed(tmp_path, "registry_f", GOOD),
        pytest.raises(ConfigError, match=r"not a subclass of prefork\.worker\.Worker"),
    ):
        registry.find(f"registry_f:{name}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Old", "is written for version 0 of the worker API; this prefork has version 1"),
        ("Silent", "does not say for which version of the worker API; this prefork has version 1"),
        ("Abstract", "cannot serve: run is not defined"),
        ("Odd", "has an interface that prefork does not know: 'wsgi'"),
    ],
)
def test_a_worker_class_that_cannot_serve_is_refused_with_its_distribution(
    tmp_path: Path, name: str, said: str
) -> None:
    with (
        installed(tmp_path, "registry_g", GOOD, dist_g={"own-g": f"registry_g:{name}"}),
        pytest.raises(ConfigError, match=f"^worker class 'own-g' of dist_g 1.0 {said}"),
    ):
        registry.find("own-g")


def test_the_hint_for_another_api_version_names_what_to_install(tmp_path: Path) -> None:
    with (
        installed(tmp_path, "registry_v", GOOD, dist_v={"own-v": "registry_v:Old"}),
        pytest.raises(ConfigError) as caught,
    ):
        registry.find("own-v")
    assert caught.value.hint == "install another release of dist_v, or of prefork-core"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ValueError('own')", "own"),
        ("raise SystemExit", "SystemExit"),
        ("", "module 'registry_h' has no"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_its_error(
    tmp_path: Path, source: str, said: str
) -> None:
    with (
        installed(tmp_path, "registry_h", source, dist_h={"own-h": "registry_h:Own"}),
        pytest.raises(ConfigError, match=f"'own-h' of dist_h 1.0 cannot be loaded: {said}"),
    ):
        registry.find("own-h")


def test_a_broken_plugin_is_in_nobodys_way(tmp_path: Path) -> None:
    with installed(tmp_path, "registry_i", "1 / 0", dist_i={"own-i": "registry_i:Own"}):
        assert registry.find("sync").__name__ == "SyncWorker"
        [broken] = [each for each in registry.installed() if each.error is not None]
        assert (broken.name, broken.worker) == ("own-i", None)


def test_a_name_that_is_nearly_an_installed_one_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="no worker class 'synk'") as caught:
        registry.find("synk")
    assert caught.value.hint.startswith("did you mean sync?; installed: ")


def test_who_asks_for_a_class_of_gunicorns_is_told_ours(tmp_path: Path) -> None:
    with (
        installed(tmp_path, "registry_aio", GOOD, prefork_aio={"aio": "registry_aio:Own"}),
        pytest.raises(ConfigError) as caught,
    ):
        registry.find("uvicorn_worker.UvicornWorker")
    assert caught.value.hint == "use -k aio"


OPTIONS = f"""{WORKER}
@dataclass(frozen=True)
class Shared:
    own_size: int = option(kinds.whole(), 1, help="A size.")
@dataclass(frozen=True)
class More(Shared):
    own_pace: int = option(kinds.whole(), 2, help="A pace.")
@dataclass(frozen=True)
class Another:
    own_size: int = option(kinds.whole(), 1, help="A size.")
class First(Own):
    settings = Shared
class Second(Own):
    settings = More
class Third(Own):
    settings = Another
"""


def test_worker_classes_may_share_options_by_inheritance(tmp_path: Path) -> None:
    workers = {"first": "registry_share:First", "second": "registry_share:Second"}
    with installed(tmp_path, "registry_share", OPTIONS, dist_j=workers):
        assert {registry.find(name).__name__ for name in workers} == {"First", "Second"}


def test_two_worker_classes_with_a_setting_of_one_name_are_refused_and_both_are_named(tmp_path: Path) -> None:
    first, third = {"first": "registry_clash:First"}, {"third": "registry_clash:Third"}
    with installed(tmp_path, "registry_clash", OPTIONS, dist_k=first, dist_l=third):
        for name, owner in (("first", "dist_k"), ("third", "dist_l")):
            with pytest.raises(ConfigError, match=f"'{name}' of {owner} 1.0 cannot be used: ") as caught:
                registry.find(name)
            assert "own_size is declared by the worker classes first (dist_k 1.0) and third" in str(
                caught.value
            )
        assert registry.find("gthread").__name__ == "ThreadWorker"


def test_the_name_of_gunicorns_class_is_no_worker_of_ours() -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded|not a subclass"):
        registry.find("gunicorn.workers.sync.SyncWorker")


def test_sync_with_several_threads_is_gthread_and_other_names_stay() -> None:
    asked = [("sync", 1), ("sync", 4), ("gthread", 1), ("own:Worker", 4)]
    assert [registry.chosen(name, threads) for name, threads in asked] == [
        "sync",
        "gthread",
        "gthread",
        "own:Worker",
    ]


def test_both_own_workers_are_found_by_their_names() -> None:
    assert {"sync", "gthread"} <= {each.name for each in registry.installed()}


def warnings_for(name: str, *arguments: str, folder: Path) -> list[str]:
    """Return what is said about settings that a worker of a name cannot honour."""
    return registry.without_effect(registry.find(name), load(["app:app", *arguments], {}, str(folder)))


def test_who_gives_a_setting_that_the_worker_cannot_honour_is_warned_by_its_name(tmp_path: Path) -> None:
    [warning] = warnings_for("sync", "--keep-alive", "5", folder=tmp_path)
    assert warning.startswith("flag --keep-alive: keepalive has no effect: a sync worker closes")
    assert warnings_for("gthread", "--keep-alive", "5", folder=tmp_path) == []


def test_who_gives_nothing_that_is_missing_is_not_warned(tmp_path: Path) -> None:
    assert warnings_for("sync", folder=tmp_path) == []
    assert warnings_for("sync", "--keep-alive", "0", folder=tmp_path) == []


def test_a_foreign_worker_says_for_itself_what_it_cannot_honour(tmp_path: Path) -> None:
    source = GOOD + "Own.ignored = {'threads': 'it has one', 'no_setting': 'of another version'}\n"
    with installed(tmp_path, "registry_ignores", source):
        name = "registry_ignores:Own"
        assert warnings_for(name, "--threads", "4", folder=tmp_path) == [
            "flag --threads: threads has no effect: it has one"
        ]


def test_a_hook_that_the_worker_does_not_call_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def pre_request(worker, req): pass\n")
    source = GOOD + "Own.ignored = {'pre_request': 'it sees none', 'post_request': 'it sees none'}\n"
    with installed(tmp_path, "registry_hooks", source):
        [warning] = warnings_for("registry_hooks:Own", "-c", "own.py", folder=tmp_path)
        assert warning == "own.py:1: pre_request has no effect: it sees none"


def test_who_asks_for_a_warm_up_of_what_is_none_of_wsgi_is_warned(tmp_path: Path) -> None:
    source = GOOD + "Own.interface = Interface.OTHER\n"
    with installed(tmp_path, "registry_warm", source):
        [warning] = warnings_for("registry_warm:Own", "--preload", "--warmup", "/", folder=tmp_path)
    assert warning.startswith("flag --warmup: warmup has no effect: the application is none of WSGI")
