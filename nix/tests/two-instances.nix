# Two cards of two makers on one machine, with one folder of models: the module's example.
{
  services.comfyui-ipex = {
    enable = true;
    instances = {
      arc = {
        device = "xpu";
        modelsDir = "/srv/models";
        backup.enable = true;
        cleanup.enable = true;
        monitoring.enable = true;
      };
      geforce = {
        device = "cuda";
        port = 8189;
        modelsDir = "/srv/models";
        monitoring = {
          enable = true;
          textfileDir = "/var/lib/node-exporter-text";
        };
      };
    };
  };
}
