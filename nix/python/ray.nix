# What a ComfyUI and its workers talk over, in the version that the launcher installs too. nixpkgs has
# others, and before 2.52 Ray knew no tokens: every user of a machine could reach its processes.
{
  lib,
  stdenv,
  autoPatchelfHook,
  buildPythonPackage,
  fetchPypi,
  pin,
  python,

  # dependencies
  click,
  filelock,
  jsonschema,
  msgpack,
  packaging,
  protobuf,
  pyyaml,
  requests,
}:

let
  parts = lib.splitString "-" (lib.removeSuffix ".whl" pin.wheel);
  part = lib.elemAt parts;
in
assert lib.assertMsg (
  part 2 == "cp${lib.replaceStrings [ "." ] [ "" ] python.pythonVersion}"
) "ray: the pinned wheel is ${pin.wheel}, and this is Python ${python.pythonVersion}";
buildPythonPackage {
  pname = "ray";
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

  nativeBuildInputs = [ autoPatchelfHook ];

  buildInputs = [ (lib.getLib stdenv.cc.cc) ];

  dependencies = [
    click
    filelock
    jsonschema
    msgpack
    packaging
    protobuf
    pyyaml
    requests
  ];

  # Not every installer keeps what the wheel says of them.
  postInstall = ''
    chmod +x $out/${python.sitePackages}/ray/core/src/ray/gcs/gcs_server
    chmod +x $out/${python.sitePackages}/ray/core/src/ray/raylet/raylet
  '';

  pythonImportsCheck = [ "ray" ];

  meta = {
    description = "Engine for computing in several processes";
    homepage = "https://www.ray.io";
    license = lib.licenses.asl20;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
    platforms = [ "x86_64-linux" ];
  };
}
