# The options of one worker of an instance.
{ lib, ... }:

let
  inherit (lib) mkOption types;
in
{
  options = {
    kind = mkOption {
      type = types.enum [
        "cpu"
        "cuda"
        "xpu"
      ];
      example = "xpu";
      description = "Whose devices the worker has: its Python is the bundle's back end of that name.";
    };

    python = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/opt/xpu/bin/python";
      description = ''
        An interpreter of your own in place of the bundle's. It must have the same version of
        Python, and ComfyUI's requirements.
      '';
    };
  };
}
