# ComfyUI's source with this project's patches for Intel GPUs, to be run by any of our Pythons.
{
  lib,
  fetchFromGitHub,
  python313,
  source,
  sources,
  stdenvNoCC,
}:

let
  pin = sources.comfyui;
  series = lib.filter (name: name != "") (
    lib.splitString "\n" (builtins.readFile ../../patches/series)
  );
  runtime = source {
    name = "xpu_runtime";
    path = ../../xpu_runtime;
  };
in
stdenvNoCC.mkDerivation {
  pname = "comfyui-src";
  inherit (pin) version;

  strictDeps = true;

  src = fetchFromGitHub {
    inherit (pin)
      owner
      repo
      rev
      hash
      ;
  };

  patches = map (name: ../../patches + "/${name}") series;

  # A hunk that only nearly fits is a patch for another version.
  patchFlags = [
    "-p1"
    "--fuzz=0"
  ];

  postPatch = ''
    cp -r ${runtime} comfy/xpu_runtime
    chmod -R u+w comfy/xpu_runtime
  '';

  nativeBuildInputs = [ python313 ];

  dontConfigure = true;
  dontBuild = true;

  installPhase = ''
    runHook preInstall

    rm -rf .ci .github script_examples tests tests-unit
    mkdir -p $out/share
    cp -r . $out/share/comfyui
    # Nothing can be written beside the sources later.
    python3 -m compileall -q --invalidation-mode unchecked-hash $out/share/comfyui

    runHook postInstall
  '';

  doInstallCheck = true;

  installCheckPhase = ''
    runHook preInstallCheck

    python3 -B $out/share/comfyui/main.py --help | grep -e --force-intel-xpu

    runHook postInstallCheck
  '';

  meta = {
    description = "ComfyUI's source, patched for Intel GPUs";
    homepage = "https://github.com/comfyanonymous/ComfyUI";
    license = lib.licenses.gpl3Only;
    platforms = lib.platforms.linux;
  };
}
