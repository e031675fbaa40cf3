"""What the user asked the host for, on its command line."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostArguments:
    """Those of the host's own command-line arguments that choose a device."""

    cpu: bool = False
    directml: bool = False
    force_intel_xpu: bool = False
    """--force-intel-xpu, which only a patched host knows."""
    default_device: int | None = None


def arguments() -> HostArguments:
    """What the command line says about devices."""
    from comfy.cli_args import args

    return HostArguments(
        cpu=bool(args.cpu),
        directml=getattr(args, "directml", None) is not None,
        force_intel_xpu=bool(getattr(args, "force_intel_xpu", False)),
        default_device=getattr(args, "default_device", None),
    )


def run_on_cpu() -> None:
    """As if --cpu had been given. Has no effect once the model management is imported."""
    from comfy.cli_args import args

    args.cpu = True


def imports_ipex() -> bool:
    """Whether this host imports IPEX where it is installed: those up to 0.3.75 do."""
    from comfy.cli_args import args

    return hasattr(args, "disable_ipex_optimize")


def switch_off_ipex_optimize() -> bool:
    """As if --disable-ipex-optimize had been given. Returns False if the host has no such thing."""
    from comfy.cli_args import args

    if not imports_ipex():
        return False
    args.disable_ipex_optimize = True
    return True


def forces_fp32() -> bool:
    import comfy.model_management

    return bool(comfy.model_management.FORCE_FP32)


def forces_non_blocking() -> bool:
    """Whether the user asked for non-blocking copies; hosts before 0.3.52 cannot be asked to."""
    from comfy.cli_args import args

    return bool(getattr(args, "force_non_blocking", False))


def changed_arguments() -> dict[str, Any]:
    """The command-line arguments that differ from their defaults, by their Python names.

    As they stand now: the host and prestartup scripts change some after parsing.
    """
    from comfy.cli_args import args, parser

    return {name: value for name, value in vars(args).items() if value != parser.get_default(name)}


def version() -> str:
    """ComfyUI's version: "0.3.47"."""
    from comfyui_version import __version__

    return str(__version__)
