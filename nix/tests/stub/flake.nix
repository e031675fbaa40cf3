{
  description = "A stand-in for nixpkgs: as much of it as this project's tests need";

  outputs =
    _:
    let
      lib = import ./lib // {
        nixosSystem = arguments: import ./nixos.nix (arguments // { pkgs = packages; });
      };
      packages = import ./. { system = "x86_64-linux"; };
    in
    {
      inherit lib;
      legacyPackages.x86_64-linux = packages;
    };
}
