# Ollama on Intel GPUs: nixpkgs' own module with its Vulkan back end.
#
# Intel's build of Ollama was part of ipex-llm, which is archived; Ollama's own Vulkan back end runs
# on the same cards with Mesa's driver, and is built and tested by nixpkgs.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  cfg = config.services.ollama-ipex;

  # Releases of nixpkgs differ: older ones choose by this option, newer ones by the package.
  choosesByOption = options.services.ollama.acceleration.visible or true;
in
{
  options.services.ollama-ipex.enable = lib.mkEnableOption "Ollama on Intel GPUs, through Vulkan";

  config = lib.mkIf cfg.enable {
    hardware.graphics.enable = true;

    services.ollama =
      {
        enable = true;
      }
      // lib.optionalAttrs (options.services.ollama ? acceleration && choosesByOption) {
        acceleration = lib.mkDefault "vulkan";
      }
      // lib.optionalAttrs (pkgs ? ollama-vulkan) { package = lib.mkDefault pkgs.ollama-vulkan; };
  };
}
