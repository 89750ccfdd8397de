"""What TensorBoard shows of a run."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gmd.monitor.tensorboard import FOLDER


def shown(run: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, as TensorBoard reads them; a step that stands there twice is an error."""
    events = EventAccumulator(str(run / FOLDER)).Reload()
    tags = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    for tag, values in tags.items():
        assert len({value.step for value in values}) == len(values), f"{tag} has a step twice"
    return {tag: {value.step: value.value for value in values} for tag, values in tags.items()}
