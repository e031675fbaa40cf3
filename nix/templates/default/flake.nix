{
  description = "A NixOS machine with ComfyUI on an Intel GPU and on an NVIDIA card";

  inputs = {
    comfyui-ipex.url = "github:comfyui-ipex/comfyui-ipex";
    nixpkgs.follows = "comfyui-ipex/nixpkgs";
  };

  outputs =
    { comfyui-ipex, nixpkgs, ... }:
    {
      nixosConfigurations.machine = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          comfyui-ipex.nixosModules.default
          ./comfyui.nix
          # Your own: ./hardware-configuration.nix and the rest of the machine.
        ];
      };
    };
}
