# A binary wheel that is linked against Intel's runtime: torch for XPU and what belongs to it.
{
  lib,
  stdenv,
  autoAddDriverRunpath,
  autoPatchelfHook,
  buildPythonPackage,
  fetchurl,
  intel-oneapi-runtime,
  level-zero,
  python,
  pythonVersion,
  zlib,
}:

{
  pname,
  pin,
  description,
  homepage,
  license,
  buildInputs ? [ ],
  ...
}@arguments:

assert lib.assertMsg (python.pythonVersion == pythonVersion)
  "${pname}: the pinned wheel is for Python ${pythonVersion}, not ${python.pythonVersion}";

buildPythonPackage (
  {
    inherit (pin) version;
    format = "wheel";

    src = fetchurl {
      inherit (pin) url hash;
      # A "+" in a wheel's name is written %2B in its address.
      name = builtins.replaceStrings [ "%2B" ] [ "+" ] (baseNameOf pin.url);
    };

    nativeBuildInputs = [
      autoAddDriverRunpath
      autoPatchelfHook
    ];

    buildInputs = [
      intel-oneapi-runtime
      level-zero
      (lib.getLib stdenv.cc.cc)
      zlib
    ]
    ++ buildInputs;

    # Its metadata asks for Intel's runtime as Python packages; here it is one library folder.
    dontCheckRuntimeDeps = true;

    dontStrip = true;

    meta = {
      inherit description homepage license;
      sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
      platforms = [ "x86_64-linux" ];
    };
  }
  // removeAttrs arguments [
    "pin"
    "description"
    "homepage"
    "license"
    "buildInputs"
  ]
)
