# torch for Intel GPUs in place of nixpkgs' own, for one Python package set.
{
  lib,
  autoAddDriverRunpath,
  autoPatchelfHook,
  fetchurl,
  intel-oneapi-runtime,
  level-zero,
  pins,
  stdenv,
  zlib,
}:

final: prev:

let
  xpuWheel = import ./xpu-wheel.nix {
    inherit
      lib
      stdenv
      autoAddDriverRunpath
      autoPatchelfHook
      fetchurl
      intel-oneapi-runtime
      level-zero
      zlib
      ;
    inherit (final) buildPythonPackage python;
    pythonVersion = pins.python;
  };
in
{
  torch = xpuWheel {
    pname = "torch";
    pin = pins.torch;
    description = "PyTorch, built for Intel GPUs";
    homepage = "https://pytorch.org/";
    license = [
      lib.licenses.bsd3
      lib.licenses.issl
    ];

    dependencies = [
      final.filelock
      final.fsspec
      final.jinja2
      final.networkx
      final.setuptools
      final.sympy
      final.triton
      final.typing-extensions
    ];

    postFixup = ''
      addAutoPatchelfSearchPath "$out/${final.python.sitePackages}/torch/lib"
    '';

    pythonImportsCheck = [ "torch" ];

    # Asked by nixpkgs' packages that depend on torch.
    passthru = {
      cudaSupport = false;
      rocmSupport = false;
      tritonSupport = true;
      cudaCapabilities = [ ];
    };
  };

  triton = xpuWheel {
    pname = "triton";
    pin = pins.triton;
    description = "Compiler of GPU kernels, for Intel GPUs";
    homepage = "https://github.com/intel/intel-xpu-backend-for-triton";
    license = [ lib.licenses.mit ];
  };

  torchvision = xpuWheel {
    pname = "torchvision";
    pin = pins.torchvision;
    description = "PyTorch's vision library, built for Intel GPUs";
    homepage = "https://pytorch.org/";
    license = [ lib.licenses.bsd3 ];

    dependencies = [
      final.numpy
      final.pillow
      final.torch
    ];

    # torch's own libraries, which the wheel expects to be loaded already.
    preFixup = ''
      addAutoPatchelfSearchPath "${final.torch}/${final.python.sitePackages}/torch/lib"
    '';

    pythonImportsCheck = [ "torchvision" ];
  };

  # Archived by Intel, and ComfyUI needs it no more. For those who compare.
  intel-extension-for-pytorch = xpuWheel {
    pname = "intel-extension-for-pytorch";
    pin = pins.ipex;
    description = "Intel's archived extension of PyTorch";
    homepage = "https://github.com/intel/intel-extension-for-pytorch";
    license = [ lib.licenses.asl20 ];

    dependencies = [
      final.numpy
      final.packaging
      final.psutil
      final.ruamel-yaml
      final.torch
    ];

    preFixup = ''
      addAutoPatchelfSearchPath "${final.torch}/${final.python.sitePackages}/torch/lib"
    '';
  };
}
