# Home Manager as far as this project's module sets it.
{
  pkgs,
  modules,
  lib ? pkgs.lib,
  ...
}:

lib.evalModules {
  modules = [ ./home-options.nix ] ++ modules;
  specialArgs = { inherit pkgs; };
}
