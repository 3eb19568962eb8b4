"""Dataset identifiers and their parts."""

from __future__ import annotations

import pytest

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidSettingError


@pytest.mark.parametrize(
    ("text", "source", "short_name", "task_name", "level"),
    [
        ("embedded/hopper-medium-v1", "embedded", "hopper-medium", "hopper", "medium"),
        (
            "d4rl/walker2d-medium-replay-v2",
            "d4rl",
            "walker2d-medium-replay",
            "walker2d",
            "medium-replay",
        ),
        (
            "minari/mujoco/hopper/medium-v0",
            "minari",
            "mujoco/hopper/medium",
            "hopper",
            "mujoco/hopper/medium",
        ),
        ("file:/a/b/Hopper-x.npz", "file", "Hopper-x", "hopper", "Hopper-x"),
        ("file:mine.npz#halfcheetah", "file", "mine", "halfcheetah", "mine"),
        ("file:hopper.npz#ant", "file", "hopper", "ant", "hopper"),
        ("file:hopper.npz#nowhere", "file", "hopper", None, "hopper"),
        ("file:mine.npz#task=hopper", "file", "mine", "hopper", "mine"),
        ("file:mine.npz", "file", "mine", None, "mine"),
        ("minari/hopper", "minari", "hopper", None, "hopper"),
        ("lab/hopper-slow-v3", "lab", "hopper-slow", "hopper", "slow"),
        ("lab/hopper-v5-mine", "lab", "hopper-v5-mine", "hopper-v5", "mine"),
        ("mine", "mine", "mine", None, "mine"),
        ("", "", "", None, ""),
    ],
)
def test_parts_of_an_identifier(text, source, short_name, task_name, level):
    parsed = DatasetId(text)
    assert str(parsed) == text
    assert (parsed.source, parsed.short_name) == (source, short_name)
    assert (parsed.task_name, parsed.level) == (task_name, level)


def test_spellings_of_a_file_have_one_canonical_text(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    plain = {DatasetId(f"file:{path}x.npz").canonical for path in ("", "./", "~/", f"{tmp_path}/")}
    assert plain == {f"file:{tmp_path.resolve()}/x.npz"}
    named = {DatasetId(f"file:~/x.npz#{task}").canonical for task in ("hopper", "task=hopper")}
    assert named == {f"file:{tmp_path.resolve()}/x.npz#hopper"}
    assert DatasetId("d4rl/hopper-medium-v2").canonical == "d4rl/hopper-medium-v2"


def test_the_home_folder_of_an_unknown_user_is_refused():
    with pytest.raises(InvalidSettingError) as caught:
        DatasetId("file:~no-such-user/x.npz").path  # noqa: B018
    assert ".." not in str(caught.value)


def test_a_null_character_in_a_path_is_refused():
    with pytest.raises(InvalidSettingError, match="null character"):
        DatasetId("file:a\0b.npz").canonical  # noqa: B018


def test_open_sources_resolve_names_that_are_not_registered():
    sources = ("embedded", "d4rl", "minari", "lab")
    ids = [DatasetId(f"{source}/hopper-x") for source in sources] + [DatasetId("file:x")]
    assert [each.is_open for each in ids] == [False, True, True, False, True]
