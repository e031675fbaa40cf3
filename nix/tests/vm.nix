# Two ComfyUIs on the CPU of a virtual machine: they start, compute, are saved, and are started
# again when they hang. Needs a networked machine that builds nixpkgs' torch or fetches it.
let
  # No model: a picture of one colour.
  workflow = builtins.toJSON {
    prompt = {
      "1" = {
        class_type = "EmptyImage";
        inputs = {
          width = 64;
          height = 64;
          batch_size = 1;
          color = 255;
        };
      };
      "2" = {
        class_type = "SaveImage";
        inputs = {
          images = [
            "1"
            0
          ];
          filename_prefix = "vm";
        };
      };
    };
  };
in
{
  name = "comfyui-ipex";

  nodes.machine = {
    imports = [ ../modules/nixos.nix ];

    virtualisation.memorySize = 8192;

    services.comfyui-ipex = {
      enable = true;
      instances = {
        one = {
          device = "cpu";
          workers.helper.kind = "cpu";
          backup.enable = true;
          cleanup.enable = true;
          monitoring = {
            enable = true;
            restartAfter = 1;
            textfileDir = "/var/lib/node-exporter-text";
          };
        };
        two = {
          device = "cpu";
          port = 8189;
          listen = [ "0.0.0.0" ];
          openFirewall = true;
        };
      };
    };
  };

  testScript = ''
    import json

    workflow = '${workflow}'

    machine.wait_for_unit("multi-user.target")
    for name, port in (("one", 8188), ("two", 8189)):
        machine.wait_for_open_port(port, timeout=600)
        stats = json.loads(machine.succeed(f"curl -sf http://127.0.0.1:{port}/system_stats"))
        assert stats["devices"][0]["type"] == "cpu", stats
        machine.succeed(f"systemd-analyze security --threshold=16 comfyui-ipex-{name}.service")

    with subtest("a workflow runs, and its picture lies in the instance's folder"):
        machine.succeed(
            f"curl -sf -H 'Content-Type: application/json' -d '{workflow}' http://127.0.0.1:8188/prompt"
        )
        machine.wait_for_file("/var/lib/comfyui-ipex/one/output/vm_00001_.png")

    with subtest("a worker lives within the server's confinement"):
        report = "http://127.0.0.1:8188/ipex/report?format=json"
        told = json.loads(machine.succeed(f"curl -sf '{report}'"))
        assert [worker["name"] for worker in told["workers"]] == ["helper"], told

    with subtest("a backup holds the database"):
        machine.succeed("systemctl start comfyui-ipex-one-backup.service")
        machine.succeed("tar tzf /var/backup/comfyui-ipex/one/one-*.tar.gz | grep user/comfyui.db")

    with subtest("the cleanup spares what is new"):
        machine.succeed("systemctl start comfyui-ipex-one-cleanup.service")
        machine.succeed("test -e /var/lib/comfyui-ipex/one/output/vm_00001_.png")

    with subtest("node_exporter's text says that the server is up"):
        machine.succeed("systemctl start comfyui-ipex-one-monitor.service")
        machine.succeed("grep 'comfyui_up.* 1' /var/lib/node-exporter-text/comfyui-ipex-one.prom")

    with subtest("a server that hangs is started again"):
        before = machine.succeed("systemctl show -p MainPID comfyui-ipex-one.service")
        machine.succeed("systemctl kill -s STOP comfyui-ipex-one.service")
        machine.fail("systemctl start comfyui-ipex-one-monitor.service")
        machine.wait_until_succeeds(
            f"test \"$(systemctl show -p MainPID comfyui-ipex-one.service)\" != '{before.strip()}'"
        )
        machine.wait_for_open_port(8188, timeout=600)
  '';
}
