"""services.comfyui-ipex and ollama-ipex: what a configuration comes to, and what is refused."""

import re
import shlex
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime.devices import is_device_name
from conftest import REPOSITORY
from nix_bundle import HOME, NIXOS, NixError, Workspace

EXAMPLE = "./nix/tests/two-instances.nix"

EVERYTHING = r"""{
  services.comfyui-ipex = {
    enable = true;
    instances.main = {
      device = "xpu";
      deviceIndex = 1;
      vram = "low";
      listen = [ "0.0.0.0" "::" ];
      port = 9000;
      openFirewall = true;
      extraFlags = [ "--preview-method=auto" "a \"b\" 100% $HOME" ];
      environment.COMFYUI_IPEX_DOWNLOAD = "off";
      environmentFile = "/run/secrets/comfyui.env";
      customNodes.pack = (import ./default.nix { inherit pkgs; }).mkCustomNode {
        pname = "pack";
        version = "1";
        src = ./nix/lib;
        pythonPackages = ps: [ ps.scipy ];
      };
      models."4x.safetensors" = {
        folder = "upscale_models";
        src = ./nix/sources.json;
      };
      extraPythonPackages = ps: [ ps.requests ];
      extraPackages = [ pkgs.git ];
      serviceConfig.MemoryMax = "48G";
      monitoring = { enable = true; restartAfter = 0; };
    };
  };
}"""


def instance(settings: str) -> str:
    """A NixOS configuration with one instance."""
    return f"{{ services.comfyui-ipex = {{ enable = true; instances.one = {{ {settings} }}; }}; }}"


def arguments(service: dict[str, Any]) -> list[str]:
    """A unit's command line, as systemd splits it."""
    text = service["serviceConfig"]["ExecStart"].replace("%%", "%").replace("$$", "$")
    return shlex.split(text)


@pytest.fixture(scope="module")
def example(workspace: Workspace) -> dict[str, Any]:
    """The module's example: one instance for each maker's card."""
    return workspace.configured(NIXOS, EXAMPLE)


@pytest.fixture(scope="module")
def everything(workspace: Workspace) -> dict[str, Any]:
    """One instance whose every option is set."""
    return workspace.configured(NIXOS, f"{{ pkgs, ... }}: {EVERYTHING}")


def test_disabled_it_changes_nothing(workspace: Workspace) -> None:
    bare = workspace.configured(NIXOS, "{ }")
    listed = "{ services.comfyui-ipex.instances.one.openFirewall = true; }"
    assert workspace.configured(NIXOS, listed) == bare
    assert bare["services"] == bare["timers"] == bare["users"] == {}
    off = workspace.configured(NIXOS, instance("enable = false;"))
    assert off["services"] == off["timers"] == {}
    assert off["graphics"]["enable"] is False


def test_two_makers_cards_have_their_own_server_and_share_models(example: dict[str, Any]) -> None:
    assert example["refused"] == []
    arc, geforce = (example["services"][f"comfyui-ipex-{name}"] for name in ("arc", "geforce"))
    assert arc["environment"]["COMFYUI_IPEX_DEVICE"] == "xpu"
    assert geforce["environment"]["COMFYUI_IPEX_DEVICE"] == "cuda"
    assert "comfyui-xpu-" in arguments(arc)[0]
    assert "comfyui-cuda-" in arguments(geforce)[0]
    assert "--port=8188" in arguments(arc) and "--port=8189" in arguments(geforce)
    for service in (arc, geforce):
        assert service["serviceConfig"]["BindReadOnlyPaths"] == ["/srv/models"]
        assert service["serviceConfig"]["SupplementaryGroups"] == ["render", "video"]
    folders = {service["serviceConfig"]["WorkingDirectory"] for service in (arc, geforce)}
    assert len(folders) == 2


def test_intels_driver_is_installed_with_both_outputs(example: dict[str, Any]) -> None:
    assert example["graphics"] == {
        "enable": True,
        "extraPackages": ["intel-compute-runtime", "intel-compute-runtime-drivers"],
    }


def test_cuda_alone_needs_no_driver_of_intel(workspace: Workspace) -> None:
    found = workspace.configured(NIXOS, instance('device = "cuda";'))
    assert found["graphics"]["enable"] is False


def test_options_become_flags_and_the_users_come_last(everything: dict[str, Any]) -> None:
    assert everything["refused"] == []
    line = arguments(everything["services"]["comfyui-ipex-main"])
    assert line[1:6] == [
        "--base-directory=/var/lib/comfyui-ipex/main",
        "--listen=0.0.0.0,::",
        "--port=9000",
        "--disable-auto-launch",
        "--lowvram",
    ]
    assert line[6:] == ["--preview-method=auto", 'a "b" 100% $HOME']


def test_the_environment_is_the_devices_and_the_users(everything: dict[str, Any]) -> None:
    service = everything["services"]["comfyui-ipex-main"]
    assert service["environment"]["COMFYUI_IPEX_DEVICE"] == "xpu:1"
    assert is_device_name(service["environment"]["COMFYUI_IPEX_DEVICE"])
    assert service["environment"]["COMFYUI_IPEX_DOWNLOAD"] == "off"
    assert service["serviceConfig"]["EnvironmentFile"] == "/run/secrets/comfyui.env"
    assert service["serviceConfig"]["MemoryMax"] == "48G"
    assert everything["ports"] == [9000]


def test_a_server_that_is_never_restarted_has_no_unit_for_it(everything: dict[str, Any]) -> None:
    names = set(everything["services"])
    assert names == {"comfyui-ipex-main", "comfyui-ipex-main-monitor"}
    monitor = everything["services"]["comfyui-ipex-main-monitor"]
    assert monitor["onFailure"] == []
    assert "--url=http://127.0.0.1:9000" in arguments(monitor)


def test_timers_start_what_they_are_for(example: dict[str, Any]) -> None:
    timers = example["timers"]
    assert set(timers) == {
        "comfyui-ipex-arc-backup",
        "comfyui-ipex-arc-cleanup",
        "comfyui-ipex-arc-monitor",
        "comfyui-ipex-geforce-monitor",
    }
    assert set(timers) < set(example["services"])
    assert timers["comfyui-ipex-arc-backup"]["timerConfig"]["OnCalendar"] == "daily"
    monitor = example["services"]["comfyui-ipex-arc-monitor"]
    assert monitor["onFailure"] == ["comfyui-ipex-arc-restart.service"]
    restart = arguments(example["services"]["comfyui-ipex-arc-restart"])
    assert restart[1:] == ["try-restart", "comfyui-ipex-arc.service"]


def test_every_folder_that_a_unit_binds_is_made(example: dict[str, Any]) -> None:
    made = {rule.split()[1] for rule in example["tmpfiles"]}
    for service in example["services"].values():
        assert set(service["serviceConfig"].get("BindPaths", [])) <= made


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('device = "rocm";', "is not of type"),
        ("port = 70000;", "is not of type"),
        ('port = "8188";', "is not of type"),
        ("deviceIndex = -1;", "is not of type"),
        ("listenn = [ ];", "does not exist"),
        ('backup = { enable = true; folders = [ "../etc" ]; };', "is not of type"),
        ('models.a = { folder = "nowhere"; src = ./default.nix; };', "is not of type"),
        ('models.a = { folder = "vae"; url = "https://x/a"; hash = "sha256:12"; };', "SRI form"),
        ('customNodes.a = "rembg";', "is not of type"),
        ("extraPythonPackages = ps: [ ps.no-such-package ];", "no-such-package"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    workspace: Workspace, settings: str, complaint: str
) -> None:
    with pytest.raises(NixError, match=re.escape(complaint)):
        workspace.configured(NIXOS, instance(settings))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('listen = [ "0.0.0.0" ];', "ComfyUI knows no users"),
        ("listen = [ ];", "listens nowhere"),
        ('device = "cuda"; backends = [ "xpu" ];', "not among its backends (xpu)"),
        ("deviceIndex = 1;", 'needs device = "cuda" or "xpu"'),
    ],
)
def test_settings_that_contradict_are_refused_with_a_reason(
    workspace: Workspace, settings: str, complaint: str
) -> None:
    refused = workspace.configured(NIXOS, instance(settings))["refused"]
    assert len(refused) == 1
    assert complaint in refused[0]


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_two_instances_may_not_share_a_port_or_a_folder(workspace: Workspace, kind: str) -> None:
    two = """{ services.comfyui-ipex = { enable = true; instances = {
      one = { dataDir = "/srv/a"; }; two = { dataDir = "/srv/a"; }; }; }; }"""
    ports, folders = workspace.configured(kind, two)["refused"]
    assert "one and two both use port 8188" in ports
    assert "one and two both use /srv/a" in folders


def test_one_instances_archives_may_not_be_taken_for_anothers(workspace: Workspace) -> None:
    two = """{ services.comfyui-ipex = { enable = true; instances = {
      one = { dataDir = "/srv/a/comfy"; backup = { enable = true; target = "/srv/b"; }; };
      two = { port = 1; dataDir = "/srv/c/comfy"; backup = { enable = true; target = "/srv/b"; }; };
    }; }; }"""
    (refused,) = workspace.configured(NIXOS, two)["refused"]
    assert "one and two both save to /srv/b/comfy-*" in refused


@pytest.mark.parametrize("opt_in", ["acceptRemote", "openFirewall"])
def test_listening_everywhere_can_be_meant(workspace: Workspace, opt_in: str) -> None:
    found = workspace.configured(NIXOS, instance(f'listen = [ "0.0.0.0" ]; {opt_in} = true;'))
    assert found["refused"] == []
    assert found["ports"] == ([8188] if opt_in == "openFirewall" else [])


def test_home_manager_runs_the_same_instances(workspace: Workspace) -> None:
    system = workspace.configured(NIXOS, EXAMPLE)
    home = workspace.configured(HOME, EXAMPLE)
    assert set(home["services"]) == set(system["services"])
    assert set(home["timers"]) == set(system["timers"])
    arc = home["services"]["comfyui-ipex-arc"]
    assert arc["Install"]["WantedBy"] == ["default.target"]
    assert '"COMFYUI_IPEX_DEVICE=xpu"' in arc["Service"]["Environment"]
    assert "User" not in arc["Service"]
    assert "/home/ada/.local/share/comfyui-ipex/arc" in arc["Service"]["ExecStart"]
    restart = shlex.split(home["services"]["comfyui-ipex-arc-restart"]["Service"]["ExecStart"])
    assert restart[1:] == ["--user", "try-restart", "comfyui-ipex-arc.service"]


def test_a_profile_gets_the_commands_of_a_single_instance(workspace: Workspace) -> None:
    assert workspace.configured(HOME, EXAMPLE)["packages"] == []
    one = workspace.configured(HOME, instance('device = "xpu";'))
    assert [name.partition("-0")[0] for name in one["packages"]] == ["comfyui-xpu"]


def test_the_template_is_the_example_that_the_module_shows(workspace: Workspace) -> None:
    found = workspace.configured(NIXOS, "./nix/templates/default/comfyui.nix")
    assert found["refused"] == []
    assert {"comfyui-ipex-arc", "comfyui-ipex-geforce"} < set(found["services"])


def test_ollama_is_nixpkgs_own_on_vulkan(workspace: Workspace) -> None:
    module = "./nix/modules/ollama-ipex.nix"
    off = workspace.configured(NIXOS, module)
    assert off["ollama"]["enable"] is False
    chosen = f"{{ imports = [ {module} ]; services.ollama-ipex.enable = true; }}"
    assert workspace.configured(NIXOS, chosen)["ollama"] == {
        "acceleration": "vulkan",
        "enable": True,
        "package": "ollama-vulkan",
    }


def test_every_option_is_described_and_in_the_readme(workspace: Workspace) -> None:
    found: dict[str, str] = workspace.evaluate("import ./nix/tests/options.nix { inherit pkgs; }")
    assert len(found) > 30
    readme = (REPOSITORY / "nix" / "README.md").read_text(encoding="utf-8")
    for name, description in found.items():
        assert description.endswith((".", ".\n")), name
        assert f"`{name.rpartition('.')[2]}`" in readme, name
