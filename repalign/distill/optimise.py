"""The optimiser with its schedule, the scaled loss of half precision, and the bound on the gradient."""

from contextlib import AbstractContextManager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repalign.distill.base import Distiller
from repalign.distill.recipe import LONGEST_WARMUP, Recipe
from repalign.errors import InputError

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 2.0**-10  # of the loss; below it, gradients overflow whatever the scale


@final
class Optimiser:
    """Moves a distiller's trainable parameters, a step at a time, as a recipe says.

    Weights that the student exempts from decay, biases and norms don't decay.

    Raises InputError for a precision that the device doesn't have.
    """

    def __init__(self, distiller: Distiller, recipe: Recipe, steps: int, device: torch.device) -> None:
        if recipe.amp == "fp16" and device.type == "cpu":
            raise InputError("amp fp16 needs a GPU; on a CPU take bf16 or none")
        self.recipe, self.device, self.updates = recipe, device, 0
        self.parameters = list(distiller.trainable_parameters())
        self.optimiser = _build(distiller, recipe)
        self.schedule = _schedule(self.optimiser, recipe, steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")

    @property
    def rate(self) -> float:
        """Give the learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute what is safe in the recipe's precision inside the block."""
        precise = self.recipe.amp == "none"
        return torch.autocast(self.device.type, TYPES.get(self.recipe.amp, torch.bfloat16), enabled=not precise)

    def backward(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Compute gradients, bound their norm, and give the norm that they had."""
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        if self.recipe.clip:
            return nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def skips(self) -> bool:
        """Tell whether gradients that aren't finite are an overflow of half precision, which a smaller scale mends."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= SMALLEST_SCALE

    def step(self) -> None:
        """Move the parameters; with a scaled loss not where gradients overflowed."""
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.get_scale() < scale:  # gradients overflowed, and no parameter was moved
            return
        self.updates += 1
        self.schedule.step_update(self.updates)

    def state(self) -> dict[str, Any]:
        """Give everything that a checkpoint must hold of it."""
        return {
            "optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(), "updates": self.updates,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.updates = int(state["updates"])


def _build(distiller: Distiller, recipe: Recipe) -> torch.optim.Optimizer:
    """Build timm's optimiser, which asks the distiller for the weights that don't decay."""
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]

    try:
        return create_optimizer_v2(
            distiller, opt=recipe.optimiser, lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )  # fmt: skip
    except (ImportError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"timm can't build the optimiser {recipe.optimiser}: {error}; take adamw or sgd") from error


def _schedule(optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int) -> Any:  # noqa: ANN401  one of timm's
    """Build timm's schedule over `steps` an epoch; a constant rate is one that never comes to its first drop."""
    from timm.scheduler import create_scheduler_v2  # pyright: ignore[reportPrivateImportUsage]

    constant = recipe.scheduler == "constant"
    schedule, _ = create_scheduler_v2(
        optimiser,
        sched="step" if constant else recipe.scheduler,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.epochs + 1 if constant else recipe.decay_epochs,  # pyright: ignore[reportArgumentType]
        decay_rate=recipe.decay_rate,
        min_lr=recipe.min_rate,
        warmup_epochs=min(recipe.warmup_epochs, LONGEST_WARMUP * recipe.epochs),  # pyright: ignore[reportArgumentType]
        warmup_lr=recipe.warmup_rate,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    schedule.step_update(0)  # type: ignore[union-attr]
    return schedule
