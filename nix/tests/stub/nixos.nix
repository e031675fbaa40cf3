# NixOS as far as this project's modules set it: options and their types, without the system.
{
  pkgs,
  modules,
  specialArgs ? { },
  lib ? pkgs.lib,
  ...
}:

lib.evalModules {
  modules = [ ./nixos-options.nix ] ++ modules;
  specialArgs = {
    inherit pkgs;
  }
  // specialArgs;
}
