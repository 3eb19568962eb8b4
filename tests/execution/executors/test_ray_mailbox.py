"""Files and news on their way between nodes that share no folder."""

import pytest
from support.toy_suite import contents

from obdbench.errors import InvalidDataError, ObdError
from obdbench.execution.events import Event
from obdbench.execution.executors.ray_driver import Desk
from obdbench.execution.executors.ray_mailbox import Courier, Mailbox, deliver, load_files
from obdbench.execution.job import group
from obdbench.execution.trial import run_trial
from obdbench.results.store import ResultStore, StorageError


class KilledError(BaseException):
    """Stands for a node that is lost."""


class Audience:
    def __init__(self):
        self.events = []

    def handle(self, event):
        self.events.append(event)

    def tick(self):
        pass


def node(root):
    made = ResultStore(root, "toy")
    made.prepare()
    return made


def work_on(store, job, mailbox, stop_after=None):
    """What a worker on a node of its own does."""
    courier = Courier(store, job, lambda events, parcels: mailbox.post(job.name, events, parcels))
    courier.unpack(mailbox.held(job.name))
    count = 0

    def emit(event):
        nonlocal count
        courier.send([event])
        count += 1
        if count == stop_after:
            raise KilledError

    for spec in store.missing(job.specs):
        run_trial(spec, store, progress=emit, snapshot_seconds=0.0)
    courier.send([])


@pytest.mark.reliability(
    "fault",
    "Node lost that shares no folder",
    how="a kill at an event of a trial whose files travel through the mailbox",
    outcome="another node goes on; results equal undisturbed ones, bit for bit",
)
@pytest.mark.parametrize("stop_after", [2, 4, 6, 8])
def test_another_node_goes_on_where_one_was_lost(tmp_path, spec, store, stop_after):
    (job,) = group([spec(), spec().model_copy(update={"protocol_params": {"shift": 1.0}})])
    mailbox = Mailbox()
    with pytest.raises(KilledError):
        work_on(node(tmp_path / "first"), job, mailbox, stop_after)
    work_on(node(tmp_path / "second"), job, mailbox)
    events, parcels = mailbox.take()
    deliver(store, parcels)
    undisturbed = node(tmp_path / "alone")
    for one in job.specs:
        run_trial(one, undisturbed)
    assert contents(store.folder) == contents(undisturbed.folder)
    assert [event.kind for event in events].count("ok") == 2
    assert mailbox.take() == ([], [])
    store.expect(job.specs)
    store.tidy()
    assert not store.work.exists()  # removals travelled as well


def test_a_new_driver_hands_out_what_its_folder_holds(tmp_path, spec, store):
    (job,) = group([spec()])
    mailbox = Mailbox()
    with pytest.raises(KilledError):
        work_on(node(tmp_path / "first"), job, mailbox, 5)
    deliver(store, mailbox.take()[1])
    held = load_files(store, [job])[job.name]
    assert any(name.endswith("snapshot") for name in held)
    again = Mailbox({job.name: held})
    work_on(node(tmp_path / "second"), job, again)
    deliver(store, again.take()[1])
    undisturbed = node(tmp_path / "alone")
    run_trial(spec(), undisturbed)
    assert contents(store.folder) == contents(undisturbed.folder)
    again.close(job.name)
    assert again.held(job.name) == {}


@pytest.mark.reliability(
    "input",
    "Files that a worker sends",
    how="names that lead out of the results folder",
    outcome="one error of ours; nothing is written",
)
@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "."])
def test_nothing_is_written_outside_the_folder(store, name):
    with pytest.raises(InvalidDataError, match="outside"):
        deliver(store, [(name, b"x")])
    assert not (store.root / "x").exists()


def test_a_folder_that_refuses_is_a_storage_error(store):
    (store.folder / "synsets").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write"):
        deliver(store, [("synsets/a/b", b"x")])


def test_desk_passes_news_on_and_settles_lost_trials(store, spec):
    specs = [spec(), spec("random")]
    jobs = {job.name: job for job in group(specs)}
    audience, mailbox = Audience(), Mailbox()
    desk = Desk(mailbox.take, mailbox.stop, store, audience, False, jobs)
    name = specs[0].distill_key
    mailbox.post(name, [Event("start", specs[0].key)], [])
    mailbox.post(name, [Event("restart", f"job:{name}", message="lost")], [])
    mailbox.post(name, [Event("note", f"job:{name}")], [])
    result = run_trial(specs[1], store)  # its "ok" never arrived
    desk.settle(None)
    told = [(event.kind, event.key) for event in audience.events]
    assert told[:2] == [("start", specs[0].key), ("restart", specs[0].key)]
    assert sorted(told[2:]) == [("failed", specs[0].key), ("ok", specs[1].key)]
    assert store.status(specs) == {specs[0].key: "failed", specs[1].key: "ok"}
    assert result.status == "ok"


def test_desk_stops_on_a_full_disk_and_says_so(store, spec):
    (job,) = group([spec()])
    mailbox = Mailbox()
    desk = Desk(mailbox.take, mailbox.stop, store, Audience(), False, {job.name: job})
    mailbox.post(job.name, [Event("fatal", message="Cannot write x: No space left.")], [])
    with desk:
        while desk.stop is None:
            pass
    assert mailbox.stopped()
    with pytest.raises(ObdError, match="No space left"):
        desk.settle(RuntimeError("Tune's loop was ended"))


def test_desk_reports_what_ray_says(store, spec):
    (job,) = group([spec()])
    mailbox = Mailbox()
    desk = Desk(mailbox.take, mailbox.stop, store, Audience(), False, {job.name: job})
    with pytest.raises(ObdError, match="Ray failed: RuntimeError: it is ill"):
        desk.settle(RuntimeError("it is ill\nvery"))
