"""The state folder: whole or not there, replaced at once, swept of what nothing names."""

from dataclasses import replace

import pytest
from attune.trainer.checkpoint import Progress, StateFolder, read_json, write_json


def write(state: StateFolder, name: str, step: int, text: str) -> None:
    with state.write_piece(name, step) as folder:
        (folder / "weights").write_text(text)


def test_a_fresh_folder_is_at_step_zero_and_progress_survives(tmp_path):
    state = StateFolder(tmp_path)
    assert state.progress() == Progress()
    write(state, "policy", 3, "x")
    progress = Progress(3, False, {"policy": "policy-00000003"}, {}, {"policy": 7, "pending": {"kind": "policy"}})
    state.record(progress)
    assert StateFolder(tmp_path).progress() == progress


def test_an_input_counts_only_when_it_is_whole(tmp_path):
    state = StateFolder(tmp_path)

    class Killed(BaseException):
        pass

    def half_write() -> None:
        with state.write_input(1) as folder:
            (folder / "input.json").write_text("{}")
            raise Killed

    with pytest.raises(Killed):
        half_write()
    assert StateFolder(tmp_path).input_of(1) is None
    with state.write_input(1) as folder:
        assert list(folder.iterdir()) == []
        write_json(folder / "input.json", {"kind": "policy"})
    assert read_json(state.input_of(1) / "input.json") == {"kind": "policy"}


def test_pieces_that_nothing_names_are_swept_and_named_ones_stay(tmp_path):
    state = StateFolder(tmp_path)
    for step in (1, 2, 3):
        write(state, "policy", step, str(step))
    progress = Progress(3, True, {"policy": "policy-00000003"}, {"policy": "policy-00000002"})
    state.record(progress)
    assert not state.piece("policy-00000001").exists()
    assert (state.piece("policy-00000002") / "weights").read_text() == "2"
    state.record(replace(progress, fallback=dict(progress.pieces)))
    assert not state.piece("policy-00000002").exists()


def test_only_the_last_inputs_are_kept_and_never_one_of_a_step_to_come(tmp_path):
    state = StateFolder(tmp_path, keep_inputs=2)
    for step in range(1, 7):
        with state.write_input(step):
            pass
    state.record(Progress(step=5))
    assert [state.input_of(s) is not None for s in range(1, 7)] == [False, False, False, True, True, True]


def test_a_piece_written_again_replaces_the_old(tmp_path):
    state = StateFolder(tmp_path)
    write(state, "gate", 1, "old")
    write(state, "gate", 1, "new")
    assert (state.piece("gate-00000001") / "weights").read_text() == "new"


def test_json_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "input.json").write_text("[1]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_json(tmp_path / "input.json")


def test_an_input_is_amended_field_by_field(tmp_path):
    state = StateFolder(tmp_path)
    with state.write_input(1) as folder:
        write_json(folder / "input.json", {"kind": "policy", "number": 2})
    state.amend_input(1, number=3)
    assert read_json(state.input_of(1) / "input.json") == {"kind": "policy", "number": 3}
    assert [path.name for path in state.input_of(1).iterdir()] == ["input.json"]
