# Intel's SYCL, MKL and oneCCL libraries, which torch for XPU is linked against.
#
# One folder for all of them, as in Intel's own installation: they depend on each other in circles,
# and the SYCL runtime looks for its adapters beside itself.
{
  lib,
  stdenv,
  autoPatchelfHook,
  fetchPypi,
  level-zero,
  pins,
  unzip,
  zlib,
}:

let
  fetch =
    pin:
    let
      parts = lib.splitString "-" (lib.removeSuffix ".whl" pin.wheel);
      part = lib.elemAt parts;
    in
    fetchPypi {
      pname = part 0;
      inherit (pin) version hash;
      format = "wheel";
      dist = part 2;
      python = part 2;
      abi = part 3;
      platform = part 4;
    };
in
stdenv.mkDerivation {
  pname = "intel-oneapi-runtime";
  inherit (pins.intel-sycl-rt) version;

  srcs = map fetch (lib.attrValues pins);
  sourceRoot = ".";

  strictDeps = true;

  nativeBuildInputs = [
    autoPatchelfHook
    unzip
  ];

  buildInputs = [
    level-zero
    (lib.getLib stdenv.cc.cc)
    zlib
  ];

  # Of MPI's fabrics, OpenMP's offloading and TBB's binding, each of which is loaded only where its
  # library is there. The list is what the pinned files ask for and neither hold nor get above.
  autoPatchelfIgnoreMissingDeps = [
    "libefa.so.1"
    "libffi.so"
    "libhwloc.so.5"
    "libibverbs.so.1"
    "libnuma.so.1"
    "libpsm2.so.2"
    "librdmacm.so.1"
    "libucp.so.0"
    "libuuid.so.1"
  ];

  unpackPhase = ''
    runHook preUnpack

    for wheel in $srcs; do
      unzip -qo "$wheel"
    done

    runHook postUnpack
  '';

  installPhase = ''
    runHook preInstall

    mkdir -p $out/lib $out/share/licenses/intel-oneapi-runtime
    cp -r *.data/data/lib/. $out/lib/
    cp -r *.data/data/licensing/. $out/share/licenses/intel-oneapi-runtime/

    # A wheel holds no links: a library lies in it once for each of its names, 3 GB in all.
    for short in $out/lib/*.so $out/lib/*.so.*; do
      for long in "$short".*; do
        if [ -f "$long" ] && [ ! -L "$short" ] && cmp -s "$short" "$long"; then
          ln -sf "$(basename "$long")" "$short"
        fi
      done
    done

    runHook postInstall
  '';

  # Signed by their checksums: MKL's dispatcher refuses what was stripped.
  dontStrip = true;

  meta = {
    description = "Intel's oneAPI runtime libraries for PyTorch's XPU builds";
    homepage = "https://www.intel.com/content/www/us/en/developer/tools/oneapi/overview.html";
    license = lib.licenses.unfreeRedistributable;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
    platforms = [ "x86_64-linux" ];
  };
}
