"""A flow run whose machine died would stay `Running` for ever; an automation of Prefect's server marks it crashed, so it can be retried."""

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.heartbeat import HEARTBEAT

NAME = "fedcore: flow runs that fell silent have crashed"
SILENCE = timedelta(seconds=4 * HEARTBEAT)
HEARD = "prefect.flow-run.heartbeat"
ENDED = tuple(f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed"))


def crash_the_silent() -> None:
    """Have the server watch over flow runs' heartbeats; nothing changes where it does already."""
    wanted = Automation(
        name=NAME,
        description="A flow run that gave signs of life, then none for two minutes, and has not ended, is marked as crashed.",
        trigger=EventTrigger(
            after={HEARD},
            expect={HEARD, *ENDED},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {SILENCE.seconds} s")],
    )
    try:
        Automation.read(name=NAME)
    except ValueError:
        wanted.create()
