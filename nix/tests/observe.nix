# What a configuration comes to, as JSON: for the tests here and for `nix flake check`.
{
  pkgs,
  lib ? pkgs.lib,
  # { pkgs, lib, modules } -> evaluated NixOS or Home Manager
  evaluate,
  modules,
}:

let
  inherit (evaluate { inherit lib modules pkgs; }) config;

  refused = map (assertion: assertion.message) (
    lib.filter (assertion: !assertion.assertion) config.assertions
  );

  names = map (package: package.name);
in
{
  inherit refused;
}
// lib.optionalAttrs (config ? home) {
  inherit (config.systemd.user) services timers;
  tmpfiles = config.systemd.user.tmpfiles.rules;
  packages = names config.home.packages;
}
// lib.optionalAttrs (config ? networking) {
  inherit (config.systemd) services timers;
  inherit (config.users) groups users;
  graphics = {
    inherit (config.hardware.graphics) enable;
    extraPackages = names config.hardware.graphics.extraPackages;
  };
  ports = config.networking.firewall.allowedTCPPorts;
  tmpfiles = config.systemd.tmpfiles.rules;
  ollama = {
    inherit (config.services.ollama) acceleration enable;
    package = config.services.ollama.package.name;
  };
}
