"""The flow on a tiny project: it runs, caches, and fails where and how it should."""

import warnings

import pytest
import yaml
from tiny_project import ran

pytestmark = [
    pytest.mark.pipeline,
    # Prefect's HTTP client leaves sockets to the garbage collector when it is done
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def run(served, project):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties', while they are imported
        from flows.pipeline import pipeline
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: str(served.api.base_url).rstrip("/")}):
        yield lambda **options: pipeline(**options, return_state=True)


def test_what_is_up_to_date_is_not_run_again(run, project):
    assert run(targets=["middle@x"]).message == "2 stages run, 0 up to date"
    assert ran(project) == {"first", "middle@x"}
    assert run(targets=["middle"]).message == "1 stages run, 2 up to date"
    assert (project / "y").read_text() == "works\n"


def test_a_failing_stage_fails_the_run_with_its_last_lines(run, project):
    (project / "switch").write_text("broken\n")
    state = run()
    assert state.is_failed()
    assert state.message.startswith("Stage middle@x failed with exit status")
    assert "\n40\n" in state.message
    assert "\n20\n" not in state.message  # the last 20 lines only
    assert ran(project) == {"first"}  # nothing after it was run


def test_a_stage_that_takes_too_long_is_stopped_and_named(run, project):
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    content["stages"]["first"] |= {"cmd": "sleep 300", "meta": {"prefect": {"timeout": 3}}}
    (project / "dvc.yaml").write_text(yaml.safe_dump(content))
    state = run(targets=["first"])
    assert state.is_failed()
    assert state.message.startswith("Stage first was stopped after its time limit of 3 s")


def test_a_gate_is_not_asked_outside_deployments(run, project):
    from flows.gate import approved
    from flows.graph import Stage

    with approved(Stage("first", gate="operator")):
        pass


def test_the_users_mistakes_give_exit_code_2(project, capsys, monkeypatch):
    from flows.pipeline import main

    assert main(["--target", "nosuch"]) == 2
    assert "no stage 'nosuch'" in capsys.readouterr().err
    monkeypatch.chdir(project.parent)
    assert main([]) == 2
