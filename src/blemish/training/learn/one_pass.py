"""Several processes for one-pass methods: each collects its share of the images, without back-propagation."""

from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from blemish.errors import OptionError

START_METHODS = {"auto": "popen", "ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}


class CollectingStrategy(DDPStrategy):
    """Processes and their process group as in DDP, but the network is not wrapped: it has no gradients to average."""

    def configure_ddp(self) -> None:
        pass


def with_collecting_strategy(trainer_options: dict[str, Any]) -> dict[str, Any]:
    """Trainer options with a strategy that suits a one-pass method; OptionError where the given one does not."""
    strategy = trainer_options.get("strategy", "auto")
    processes = trainer_options.get("devices", 1) * trainer_options.get("num_nodes", 1)
    if processes == 1:
        return {**trainer_options, "strategy": "auto"}
    if strategy not in START_METHODS:
        raise OptionError(f"strategy '{strategy}' does not suit a one-pass method; choose {', '.join(START_METHODS)}")
    return {**trainer_options, "strategy": CollectingStrategy(start_method=START_METHODS[strategy])}  # type: ignore[arg-type]
