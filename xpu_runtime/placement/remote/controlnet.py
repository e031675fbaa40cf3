"""ControlNets whose network a worker runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ... import host
from ...workers import NotOnWorkerError, Resident
from ...workers.wire import SentNetwork
from .. import local
from ..location import There
from .handles import HANDLES

if TYPE_CHECKING:
    import torch

    from ...host.types import ControlBase, ControlNet, ModelPatcher


def original_controlnet(control: "ControlBase") -> "ControlBase":
    """What `control` was before it was placed on a worker, with the hint that it has now."""
    proxy = getattr(control, "control_model", None)
    if not isinstance(proxy, RemoteControlNetwork):
        return control
    plain = proxy.original.copy()
    control.copy_to(plain)
    return plain


def place_controlnet(
    control: "ControlNet", location: There, offload_device: "torch.device | None"
) -> "ControlNet":
    """A copy of `control`, whose network runs in a worker. The network is sent now."""
    network = control.control_model_wrapped.model
    handle = HANDLES.share(
        network,
        (location.worker.plan.name, location.device, offload_device),
        lambda: location.hold(
            serve_controlnet, SentNetwork(network), location.device, offload_device
        ),
    )
    placed = control.copy()
    placed.manual_cast_dtype = location.call(serve_cast_dtype, handle)
    placed.control_model = RemoteControlNetwork(control, location, handle)
    placed.control_model_wrapped = _nothing_to_load()
    return placed


class RemoteControlNetwork:
    """Stands for a network that is called; everything else that can be read is plain values."""

    def __init__(self, original: "ControlNet", location: There, handle: Resident) -> None:
        self.original = original
        self._location = location
        self._handle = handle

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The network's answer, on the device of the first tensor that is passed."""
        home = local.find_device([*arguments, *named.values()])
        answer = self._location.call(serve_control, self._handle, arguments, named)
        return answer if home is None else local.move_tensors(answer, home, {})

    def __getattr__(self, name: str) -> Any:
        """A plain value of the network. Raises `NotOnWorkerError` for anything else."""
        import torch

        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self.original.control_model_wrapped.model, name)
        if isinstance(value, bool | int | float | str | tuple | torch.dtype | None):
            return value
        worker = self._location.worker.plan.name
        raise NotOnWorkerError("The ControlNet", f"control_model.{name}", worker)

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteControlNetwork":
        return RemoteControlNetwork(self.original, self._location, self._handle)


def _nothing_to_load() -> "ModelPatcher":
    """A patcher for the host, which loads a ControlNet's before it is applied."""
    import torch

    device = host.primary_device()
    patcher: ModelPatcher
    patcher = host.model_patcher_class()(torch.nn.Module(), device, host.offload_device())
    return patcher


def serve_controlnet(
    network: Any, device: "torch.device", offload_device: "torch.device | None"
) -> "ModelPatcher":
    """A patcher of a ControlNet's network, for `device`."""
    host.note_dtypes(network)
    patcher: ModelPatcher = host.model_patcher_class()(
        network.eval(), device, offload_device or host.offload_device()
    )
    # As the host does for a ControlNet that computes in another dtype than its weights.
    if host.manual_cast_dtype(network.dtype, device) is not None:
        patcher.force_cast_weights = True
    return patcher


def serve_cast_dtype(patcher: Any) -> "torch.dtype | None":
    """The dtype that a ControlNet of this patcher is to be called in; None: its own."""
    dtype: torch.dtype | None = host.manual_cast_dtype(patcher.model.dtype, patcher.load_device)
    return dtype


def serve_control(
    patcher: "ModelPatcher", arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    """The answer of a ControlNet's network, on the CPU."""
    host.load(patcher)
    return local.CalledFromAnywhere(patcher.model, patcher.load_device)(*arguments, **named)
