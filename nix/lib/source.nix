# A folder of this repository as a source: what git ignores is left out, also where nix is run in a
# working copy without flakes.
{ lib }:

{
  name,
  path,
  # The entries of the folder that belong to it; null takes all.
  entries ? null,
}:

builtins.path {
  inherit name path;
  filter =
    file: type:
    let
      entry = lib.removePrefix "${toString path}/" (toString file);
      base = baseNameOf file;
    in
    base != "__pycache__"
    && !lib.hasSuffix ".pyc" base
    && (entries == null || lib.elem (lib.head (lib.splitString "/" entry)) entries);
}
