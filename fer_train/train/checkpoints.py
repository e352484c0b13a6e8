"""The state of a training that a checkpoint holds."""

from typing import Any

from numpy.typing import NDArray

from fer_train.network._keras import keras

CHECKPOINTS_KEPT = 2


def random_states(net: keras.Model) -> list[Any]:
    """Return the random states of a model, of its dropout for example."""
    weights = {id(variable) for variable in net.weights}
    return [variable for variable in net.variables if id(variable) not in weights]


def stage_variables(net: keras.Model, trained: keras.Model) -> list[Any]:
    """Return what belongs to a stage of training: augmentation's random states, the optimizer."""
    known = {id(variable) for variable in net.variables}
    for layer in trained.layers:
        if layer.name in ("image_table", "taught"):
            known |= {id(variable) for variable in layer.variables}
    return [
        variable
        for variable in [*trained.variables, *trained.optimizer.variables]
        if id(variable) not in known
    ]


def restore(net: keras.Model, trained: keras.Model | None, state: dict[str, NDArray[Any]]) -> None:
    """Put a checkpoint back; without ``trained`` the model alone, for a new stage."""
    parts = [("net", net.weights), ("random", random_states(net))]
    if trained is not None:
        parts.append(("rest", stage_variables(net, trained)))
    for prefix, variables in parts:
        values = [state[key] for key in sorted(state) if key.startswith(f"{prefix}_")]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
