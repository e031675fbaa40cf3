"""A ControlNet of the host whose network runs in a worker."""

from typing import TYPE_CHECKING, Any

from .. import host
from ..placement.location import There
from . import Resident, served
from .calls import Residents
from .errors import NotOnWorkerError
from .wire import SentNetwork

if TYPE_CHECKING:
    import torch

# What the host's ControlNets read of their network without running it.
_PLAIN = (bool, int, float, str, tuple, type(None))

_RESIDENTS = Residents()


class WorkerNetwork:
    """Stands for a network that is called; everything else that can be read is plain values."""

    def __init__(self, control: Any, resident: Resident) -> None:
        self.__dict__["_control"] = control
        self.__dict__["_resident"] = resident

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The network's answer, on the device of the first tensor that is passed."""
        from ..placement.controlnet import device_in, moved

        home = device_in([*arguments, *named.values()])
        resident: Resident = self.__dict__["_resident"]
        answer = resident.worker.call(served.apply_controlnet, resident, arguments, named)
        return answer if home is None else moved(answer, home, {})

    def __getattr__(self, name: str) -> Any:
        """A plain value of the network. Raises `NotOnWorkerError` for anything else."""
        import torch

        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.__dict__["_control"].control_model_wrapped.model, name)
        if isinstance(value, (*_PLAIN, torch.dtype)):
            return value
        worker = self.__dict__["_resident"].worker.plan.name
        raise NotOnWorkerError("The ControlNet", f"control_model.{name}", worker)

    def __deepcopy__(self, memo: dict[int, Any]) -> "WorkerNetwork":
        """The same worker's network."""
        return WorkerNetwork(self.__dict__["_control"], self.__dict__["_resident"])


def on_worker(control: Any, place: There, offload: "torch.device | None") -> Any:
    """A copy of `control`, whose network runs in a worker. The network is sent now."""
    placed = control.copy()
    network = control.control_model_wrapped.model
    what = (place.device, offload)
    resident = _RESIDENTS.shared(
        network,
        (place.worker.plan.name, *what),
        lambda: Resident(place.worker, served.controlnet, SentNetwork(network), *what),
    )
    placed.manual_cast_dtype = place.worker.call(served.casts_to, resident)
    placed.control_model = WorkerNetwork(control, resident)
    placed.control_model_wrapped = _nothing_to_load()
    return placed


def original(control: Any) -> Any:
    """What `control` was before it was placed on a worker, with the hint that it has now."""
    proxy = getattr(control, "control_model", None)
    if not isinstance(proxy, WorkerNetwork):
        return control
    before = vars(proxy)["_control"]
    plain = before.copy()
    control.copy_to(plain)
    return plain


def _nothing_to_load() -> Any:
    """A patcher for the host, which loads a ControlNet's before it is applied."""
    import torch

    device = host.primary_device()
    return host.model_patcher_class()(torch.nn.Module(), device, host.offload_device())
