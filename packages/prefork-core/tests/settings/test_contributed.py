# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from prefork.errors import ConfigError, UsageError
from prefork.settings import Loaded, Settings, load
from prefork.settings.cmdline import help_text
from prefork.settings.contributed import Contribution, clashes, fault, table
from prefork.settings.kinds import Named
from prefork.settings.reference import render
from prefork.settings.show import config_text, described
from prefork.worker import kinds, option


@dataclass(frozen=True, slots=True)
class Patient:
    """The options of a worker class, as its package declares them."""

    patient_loop: str = option(kinds.choice("auto", "own"), "auto", help="Which loop.")
    patient_pause: float = option(kinds.seconds(), 0.5, help="Seconds of patience.")
    patient_quiet: bool = option(kinds.switch(), False, help="Say nothing.")
    patient_names: tuple[str, ...] = option(kinds.listing("NAME", "names"), (), help="Whom to wait for.")
    patient_patch: Callable[..., object] | None = option(kinds.function(), None, help="Called at first.")


@dataclass(frozen=True, slots=True)
class Impatient(Patient):
    impatient_tries: int = option(kinds.whole(at_least=1), 3, help="How often to try.")


BOTH = (
    Contribution("patient", "prefork-patient 1.2", Patient),
    Contribution("impatient", "prefork-patient 1.2", Impatient),
)
BROKEN = Contribution("broken", "prefork-broken 3.0", trouble="worker class 'broken' cannot be loaded: no")


def loaded(cwd: Path, *arguments: str, **environ: str) -> Loaded:
    return load(["app:app", *arguments], environ, str(cwd), lambda: (*BOTH, BROKEN))


def test_a_worker_class_reads_its_options_by_their_type(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "-k", "patient", "--patient-loop", "own", PREFORK_PATIENT_PAUSE="1m").settings
    own: Patient = settings.of(Patient)
    assert own == Patient(patient_loop="own", patient_pause=60.0)


def test_without_values_they_are_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "-k", "patient").settings.of(Patient) == Patient()
    assert Settings().of(Impatient) == Impatient()


def test_every_source_gives_them(tmp_path: Path) -> None:
    text = """
worker_class = "impatient"
patient_loop = "own"
patient_names = ["a"]
patient_patch = "os.path:join"
"""
    (tmp_path / "prefork.toml").write_text(text)
    found = loaded(tmp_path, "--patient-quiet", PREFORK_CMD_ARGS="--impatient-tries 5")
    assert found.settings.of(Impatient) == Impatient(
        patient_loop="own",
        patient_names=("a",),
        patient_quiet=True,
        patient_patch=Named("os.path:join"),
        impatient_tries=5,
    )
    assert str(found.origins["patient_loop"]) == "prefork.toml:3"
    assert str(found.origins["impatient_tries"]) == "PREFORK_CMD_ARGS flag --impatient-tries"
    assert str(found.origins["patient_pause"]) == "default"


@pytest.mark.parametrize("text", ["def patient_patch(): return 5", "from own_helpers import patient_patch"])
def test_a_python_file_gives_a_function(tmp_path: Path, text: str) -> None:
    (tmp_path / "own_helpers.py").write_text("def patient_patch(): return 5")
    (tmp_path / "prefork.conf.py").write_text(f"{text}\nworker_class = 'patient'")
    found = loaded(tmp_path)
    patch = found.settings.of(Patient).patient_patch
    assert patch is not None
    assert patch() == 5
    assert "# patient_patch = " in config_text(found)
    [row] = [row for row in described(found.settings, found.origins) if row["name"] == "patient_patch"]
    assert json.loads(json.dumps(row))["value"] == "patient_patch"


def test_a_function_in_a_python_file_that_nearly_has_its_name_is_a_slip(tmp_path: Path) -> None:
    (tmp_path / "prefork.conf.py").write_text("def patient_path(): pass")
    with pytest.raises(ConfigError, match=r"prefork.conf.py:1: .*\n  hint: did you mean patient_patch\?"):
        loaded(tmp_path)


def test_a_value_of_the_wrong_kind_is_refused_as_the_servers_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^flag --patient-loop: patient_loop is 'x', but must be one of"):
        loaded(tmp_path, "-k", "patient", "--patient-loop", "x")


def test_a_setting_that_the_worker_class_does_not_have_says_which_has_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError) as usage:
        loaded(tmp_path, "--impatient-tries", "4")
    start = "flag --impatient-tries: impatient_tries is a setting of the worker class impatient"
    assert usage.value.message == f"{start}, but worker_class is sync"
    with pytest.raises(ConfigError) as config:
        loaded(tmp_path, PREFORK_PATIENT_LOOP="own")
    assert "is a setting of the worker classes impatient and patient, but" in config.value.message


def test_an_unknown_name_is_compared_with_theirs_and_a_broken_worker_class_is_named(tmp_path: Path) -> None:
    ending = "worker class 'broken' cannot be loaded: no"
    with pytest.raises(UsageError) as usage:
        loaded(tmp_path, "--patient-lop", "own")
    assert usage.value.hint == f"did you mean --patient-loop?; {ending}"
    with pytest.raises(ConfigError) as config:
        loaded(tmp_path, PREFORK_PATIENT_LOP="own")
    assert config.value.hint == f"did you mean patient_loop?; {ending}"


def test_those_of_the_worker_class_that_serves_are_shown_and_can_be_used_again(tmp_path: Path) -> None:
    first = loaded(tmp_path, "-k", "patient", "--patient-names", "a", "--patient-patch", "os.path:join")
    text = config_text(first)
    assert "# Workers impatient, patient (prefork-patient 1.2)" in text
    assert "impatient_tries" not in text
    assert "impatient_tries" not in first.origins
    (tmp_path / "prefork.toml").write_text(text)
    second = loaded(tmp_path)
    assert second.settings.of(Patient) == first.settings.of(Patient)
    rows = {row["name"]: row for row in described(second.settings, second.origins)}
    assert rows["patient_names"]["value"] == ("a",)
    assert rows["patient_patch"]["text"] == '"os.path:join"'


def test_another_worker_class_shows_none_of_them(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert found.settings == Settings(wsgi_app="app:app")
    assert "patient" not in config_text(found)


def test_a_copy_of_the_settings_keeps_them(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "-k", "patient", "--patient-quiet").settings
    assert replace(settings, timeout=1.0).of(Patient).patient_quiet


def test_the_help_has_a_section_for_each_set_of_worker_classes_and_says_what_is_broken() -> None:
    text = help_text(table([*BOTH, BROKEN]))
    assert "Worker impatient (prefork-patient 1.2):\n  --impatient-tries INT\n" in text
    assert "Workers impatient, patient (prefork-patient 1.2):\n  --patient-loop auto|own\n" in text
    assert "--patient-quiet / --no-patient-quiet" in text
    assert "Worker classes that cannot be used:\n      worker class 'broken' cannot be loaded: no\n" in text


def test_the_reference_page_has_them_when_they_are_installed() -> None:
    assert "patient_loop" not in render()
    page = render(BOTH)
    assert "## Workers impatient, patient (prefork-patient 1.2)" in page
    assert "- Variable: `PREFORK_PATIENT_LOOP`" in page


def declares(name: str) -> type[Patient]:
    """Return a group with one option."""
    return dataclass(frozen=True)(
        type("Own", (), {"__annotations__": {name: str}, name: option(kinds.text("X"), "x", help="X.")})
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timeout", "its setting timeout is one of the server's own"),
        ("post_fork", "its setting post_fork is one of the server's own"),
        ("certfile", "its setting certfile is gunicorn's, and means something else"),
        ("demo", "the flag --demo of its setting demo has another meaning"),
        ("no_sendfile", "the flag --no-sendfile of its setting no_sendfile has another meaning"),
        ("cmd_args", "its setting cannot be called cmd_args"),
        ("Loop", "its setting cannot be called Loop"),
        ("own__loop", "its setting cannot be called own__loop"),
        ("own_loop", ""),
    ],
)
def test_a_name_that_means_something_already_is_a_fault(name: str, said: str) -> None:
    assert fault(declares(name)) == said


@dataclass(frozen=True)
class Plain:
    own_loop: str = "auto"


def test_what_is_no_dataclass_of_options_is_a_fault() -> None:
    assert fault(5) == fault(str) == "its settings are not a dataclass"
    assert fault(Plain) == "its setting own_loop is not made with prefork.worker.option"
    assert fault(None) == fault(Patient) == ""


def test_names_and_flags_that_meet_are_a_clash_for_both() -> None:
    switch: type[Any] = dataclass(frozen=True)(
        type("On", (), {"__annotations__": {"x": bool}, "x": option(kinds.switch(), True, help="X.")})
    )
    one, other = Contribution("one", "a 1", switch), Contribution("other", "b 2", declares("no_x"))
    said = "--no-x is declared by the worker classes one (a 1) and other (b 2)"
    assert clashes([one, other]) == {"one": said, "other": said}
    assert clashes([*BOTH, one, BROKEN]) == {}


def test_the_demo_has_no_worker_class_of_others(tmp_path: Path) -> None:
    assert load(["--help"], {}, str(tmp_path), lambda: BOTH).settings == Settings()
