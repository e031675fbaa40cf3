{ lib, pkgs, ... }:

let
  inherit (lib) types;
  inherit (import ./option.nix { inherit lib; })
    assertions
    option
    section
    strings
    units
    ;
  packages = option (types.listOf types.package) [ ];
  no = option types.bool false;
in
{
  options = {
    inherit assertions;
    environment.systemPackages = packages;
    hardware.graphics = {
      enable = no;
      extraPackages = packages;
    };
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
    nixpkgs = {
      config.allowUnfree = no;
      overlays = option (types.listOf types.raw) [ ];
    };
    services.ollama = {
      enable = no;
      acceleration = option (types.nullOr (
        types.enum [
          "cuda"
          "rocm"
          "vulkan"
        ]
      )) null;
      package = option types.package pkgs.ollama-vulkan;
    };
    systemd = {
      package = option types.package pkgs.systemd;
      services = units {
        description = option types.str "";
        after = strings;
        onFailure = strings;
        wantedBy = strings;
        environment = option (types.attrsOf types.str) { };
        serviceConfig = option section { };
      };
      timers = units {
        description = option types.str "";
        wantedBy = strings;
        timerConfig = option section { };
      };
      tmpfiles.rules = strings;
    };
    system.stateVersion = option types.str "25.11";
    users = {
      users = units {
        isSystemUser = no;
        group = option types.str "";
        description = option types.str "";
      };
      groups = units { };
    };
    virtualisation.memorySize = option types.int 1024;
  };
}
