{
  # Intel's and NVIDIA's runtimes are unfree.
  nixpkgs.config.allowUnfree = true;

  services.comfyui-ipex = {
    enable = true;
    instances = {
      # One torch cannot use both makers' cards: each card has its own ComfyUI. They read the same
      # models.
      arc = {
        device = "xpu";
        modelsDir = "/srv/models";
        backup.enable = true;
      };
      geforce = {
        device = "cuda";
        port = 8189;
        modelsDir = "/srv/models";
        backup.enable = true;
      };
    };
  };
}
