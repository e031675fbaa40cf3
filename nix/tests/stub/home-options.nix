{ lib, ... }:

let
  inherit (lib) types;
  inherit (import ./option.nix { inherit lib; })
    assertions
    option
    section
    strings
    ;
  sections = option (types.attrsOf (types.attrsOf section)) { };
in
{
  options = {
    inherit assertions;
    home.packages = option (types.listOf types.package) [ ];
    systemd.user = {
      services = sections;
      timers = sections;
      tmpfiles.rules = strings;
    };
    xdg = {
      dataHome = option types.str "/home/ada/.local/share";
      stateHome = option types.str "/home/ada/.local/state";
    };
  };
}
