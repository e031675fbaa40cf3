# A wheel from the Python registry, as sources.json names it.
{
  lib,
  buildPythonPackage,
  fetchPypi,
}:

name: pin:

let
  parts = lib.splitString "-" (lib.removeSuffix ".whl" pin.wheel);
  part = lib.elemAt parts;
in
buildPythonPackage {
  pname = name;
  inherit (pin) version;
  format = "wheel";

  src = fetchPypi {
    pname = part 0;
    inherit (pin) version hash;
    format = "wheel";
    dist = part 2;
    python = part 2;
    abi = part 3;
    platform = part 4;
  };

  meta = {
    description = "Part of ComfyUI that it pins to one version";
    homepage = "https://github.com/comfyanonymous/ComfyUI";
    license = lib.licenses.gpl3Only;
  };
}
