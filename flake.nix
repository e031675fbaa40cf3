{
  description = "ComfyUI on Intel GPUs, alone or beside an NVIDIA card";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      # Intel publishes its runtime and torch's XPU builds for this system alone.
      system = "x86_64-linux";

      # The runtimes of Intel and NVIDIA are unfree; whoever must not have them takes comfyui-cpu.
      pkgs = import nixpkgs {
        inherit system;
        config.allowUnfree = true;
        overlays = [ self.overlays.default ];
      };

      app = package: command: {
        type = "app";
        program = "${package}/bin/${command}";
        meta = { inherit (package.meta) description; };
      };
    in
    {
      packages.${system} = {
        default = pkgs.comfyui-ipex;
        inherit (pkgs)
          comfyui-cpu
          comfyui-cuda
          comfyui-cuda-worker-xpu
          comfyui-ipex
          comfyui-ipex-extension
          comfyui-src
          comfyui-xpu
          ipex-benchmarks
          ;
      };

      # Also what has no name in nixpkgs: mkCustomNode and the Pythons.
      legacyPackages.${system} = pkgs.comfyuiIpexPackages;

      apps.${system} = {
        default = app pkgs.comfyui-ipex "comfyui-ipex";
        comfyui-ipex = app pkgs.comfyui-ipex "comfyui-ipex";
        comfyui-cuda = app pkgs.comfyui-cuda "comfyui-cuda";
        comfyui-xpu = app pkgs.comfyui-xpu "comfyui-xpu";
        ipex-benchmarks = app pkgs.ipex-benchmarks "ipex-benchmarks";
      };

      overlays.default = import ./nix/overlay.nix;

      nixosModules = {
        default = import ./nix/modules/nixos.nix;
        ollama-ipex = import ./nix/modules/ollama-ipex.nix;
      };

      homeModules.default = import ./nix/modules/home-manager.nix;

      devShells.${system}.default = pkgs.callPackage ./nix/dev-shell.nix { };

      checks.${system} = import ./nix/checks.nix {
        inherit lib pkgs;
        inherit (nixpkgs.lib) nixosSystem;
      };

      formatter.${system} = pkgs.nixfmt-tree;

      templates.default = {
        path = ./nix/templates/default;
        description = "A NixOS machine with one ComfyUI on an Intel GPU and one on an NVIDIA card";
      };
    };
}
