# Build a node pack for `comfyui-ipex.withNodes`.
{
  lib,
  python313,
  stdenvNoCC,
}:

{
  pname,
  # The name of its folder below custom_nodes.
  folder ? pname,
  # What it imports, of the Python package set that it is given: ps: [ ps.rembg ].
  pythonPackages ? _: [ ],
  passthru ? { },
  meta ? { },
  ...
}@arguments:

stdenvNoCC.mkDerivation (
  {
    strictDeps = true;

    nativeBuildInputs = [ python313 ];

    dontConfigure = true;
    dontBuild = true;

    installPhase = ''
      runHook preInstall

      mkdir -p $out/share/comfyui/custom_nodes
      cp -r . "$out/share/comfyui/custom_nodes/${folder}"
      # Nothing can be written beside the sources later. Packs may hold files for other Pythons.
      python3 -m compileall -q --invalidation-mode unchecked-hash $out/share || true

      runHook postInstall
    '';
  }
  // removeAttrs arguments [
    "folder"
    "pythonPackages"
  ]
  // {
    passthru = {
      inherit folder pythonPackages;
    }
    // passthru;

    meta = {
      description = "Node pack for ComfyUI";
      platforms = lib.platforms.all;
    }
    // meta;
  }
)
