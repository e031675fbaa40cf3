# systemd's sandbox for every unit of this project. The tests hold what `systemd-analyze security`
# says of each rendered unit to 1.4 at most.
let
  base = {
    AmbientCapabilities = "";
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    KeyringMode = "private";
    LockPersonality = true;
    NoNewPrivileges = true;
    PrivateIPC = true;
    PrivateMounts = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    # Pictures and workflows are their user's alone.
    UMask = "0077";
  };
in
{
  # A server that computes on a GPU and that people reach.
  server = base // {
    # Cards, as every user of the group "render" sees them; nothing else.
    DeviceAllow = [
      "char-drm rw"
      "char-nvidia rw"
      "char-nvidiactl rw"
      "char-nvidia-caps rw"
      "char-nvidia-frontend rw"
      "char-nvidia-modeset rw"
      "char-nvidia-uvm rw"
      "/dev/dxg rw"
    ];
    # Intel's and NVIDIA's drivers, oneDNN and torch.compile write machine code and run it.
    MemoryDenyWriteExecute = false;
    PrivateDevices = false;
    # torch reads /proc/meminfo and /proc/cpuinfo.
    ProcSubset = "all";
    # Its folder may lie in /home: then that alone is bound into an empty one.
    ProtectHome = "tmpfs";
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ];
    # @resources stays: OpenMP binds threads to cores, and drivers raise limits.
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
    ];
  };

  # A program that reads and writes files, and ends.
  files = base // {
    IPAddressDeny = "any";
    MemoryDenyWriteExecute = true;
    PrivateDevices = true;
    PrivateNetwork = true;
    ProcSubset = "pid";
    ProtectHome = "tmpfs";
    RestrictAddressFamilies = "none";
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "~@resources"
    ];
  };

  # A program that asks a server on this machine, and ends.
  probe = base // {
    IPAddressAllow = "localhost";
    IPAddressDeny = "any";
    MemoryDenyWriteExecute = true;
    PrivateDevices = true;
    ProcSubset = "pid";
    ProtectHome = "tmpfs";
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
    ];
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "~@resources"
    ];
  };

  # A program that tells systemd to do something, and ends.
  control = base // {
    IPAddressDeny = "any";
    MemoryDenyWriteExecute = true;
    PrivateDevices = true;
    PrivateNetwork = true;
    ProcSubset = "pid";
    ProtectHome = true;
    RestrictAddressFamilies = "AF_UNIX";
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "~@resources"
    ];
  };
}
