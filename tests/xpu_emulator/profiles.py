"""Intel GPUs as data: what ``torch.xpu.get_device_properties`` says of each.

The values come from public sources, cited beside each profile. Where no public
listing by torch was found, the field is derived as the comment says. `uuid` and
`driver_version` differ from machine to machine: they are examples.

Common sources:

- meaning and names of the fields: torch 2.14, ``torch/xpu/__init__.py``,
  ``get_device_properties``;
- fp64: Xe-HPG (Alchemist) has no fp64 units; Xe2 and Xe-HPC have
  (Intel, "oneAPI GPU Optimization Guide", section "Intel Xe GPU architecture");
- `architecture`: the enumerators of SYCL's ``sycl_ext_oneapi_device_architecture``
  (intel/llvm, ``sycl/ext/oneapi/experimental/device_architecture.hpp``);
- PCI ids: https://dgpu-docs.intel.com/devices/hardware-table.html
"""

from __future__ import annotations

import dataclasses

MIB = 1 << 20
GIB = 1 << 30

# Largest single allocation that Level Zero grants by default on these cards,
# in bytes ("relaxed allocation limits" lift it):
# https://github.com/intel/compute-runtime/blob/master/programmers-guide/ALLOCATIONS_GREATER_THAN_4GB.md
LEVEL_ZERO_ALLOCATION_LIMIT = 4 * GIB


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
    """The attributes of torch's ``_XpuDeviceProperties``, in torch's order.

    Memory sizes are in bytes, the clock is in MHz, the bus width in bits.
    """

    name: str
    platform_name: str
    vendor: str
    device_id: int
    driver_version: str
    version: str
    max_compute_units: int
    gpu_eu_count: int
    max_work_group_size: int
    max_num_sub_groups: int
    memory_clock_rate: int
    memory_bus_width: int
    sub_group_sizes: tuple[int, ...]
    local_mem_size: int
    last_level_cache_size: int
    has_fp16: bool
    has_fp64: bool
    has_atomic64: bool
    has_bfloat16_conversions: bool
    has_subgroup_matrix_multiply_accumulate: bool
    has_subgroup_matrix_multiply_accumulate_tensor_float32: bool
    has_subgroup_2d_block_io: bool
    is_integrated_gpu: bool
    total_memory: int
    gpu_subslice_count: int
    architecture: int
    type: str
    uuid: str

    def __repr__(self) -> str:
        return (
            f"_XpuDeviceProperties(name='{self.name}', platform_name='{self.platform_name}', "
            f"type='{self.type}', device_id=0x{self.device_id:X}, uuid={self.uuid}, "
            f"driver_version='{self.driver_version}', total_memory={self.total_memory // MIB}MB, "
            f"max_compute_units={self.max_compute_units}, gpu_eu_count={self.gpu_eu_count}, "
            f"gpu_subslice_count={self.gpu_subslice_count}, "
            f"max_work_group_size={self.max_work_group_size}, "
            f"max_num_sub_groups={self.max_num_sub_groups}, "
            f"sub_group_sizes=[{' '.join(map(str, self.sub_group_sizes))}], "
            f"has_fp16={self.has_fp16:d}, has_fp64={self.has_fp64:d}, "
            f"has_atomic64={self.has_atomic64:d})"
        )


_COMMON = {
    # As torch prints for Level Zero devices, for example in
    # https://github.com/intel/torch-xpu-ops/issues/4117
    "platform_name": "Intel(R) oneAPI Unified Runtime over Level-Zero",
    "vendor": "Intel(R) Corporation",
    "driver_version": "1.6.33578+51",
    "version": "1.6",
    "type": "gpu",
    "memory_bus_width": 64,
    "has_fp16": True,
    "has_atomic64": True,
    "has_bfloat16_conversions": True,
    "has_subgroup_matrix_multiply_accumulate": True,
    "has_subgroup_matrix_multiply_accumulate_tensor_float32": True,
}

# Alchemist, Xe-HPG. Work-groups, sub-groups, fp64 and atomics as torch lists an A770:
# https://christianjmills.com/posts/intel-pytorch-extension-tutorial/native-ubuntu/
_XE_HPG = {
    **_COMMON,
    "max_work_group_size": 1024,
    "max_num_sub_groups": 128,
    "sub_group_sizes": (8, 16, 32),
    "local_mem_size": 64 << 10,
    "has_fp64": False,
    "has_subgroup_2d_block_io": False,
    "is_integrated_gpu": False,
}

# Battlemage and Lunar Lake. Sub-groups of 16 and 32 and 128 KiB of local memory:
# https://github.com/intel/torch-xpu-ops/issues/5258 (torch's listing of a B60)
_XE2 = {
    **_COMMON,
    "max_work_group_size": 1024,
    "max_num_sub_groups": 64,
    "sub_group_sizes": (16, 32),
    "local_mem_size": 128 << 10,
    "has_fp64": True,
    "has_subgroup_2d_block_io": True,
}

# 32 Xe cores of 16 vector engines; 16 GB of 17.5 Gbit/s GDDR6; 16 MiB of L2:
# https://www.intel.com/content/www/us/en/products/sku/229151/intel-arc-a770-graphics-16gb/specifications.html
# torch shows 15473 MiB of it, and the counts below:
# https://christianjmills.com/posts/intel-pytorch-extension-tutorial/native-ubuntu/
A770 = DeviceProfile(
    **_XE_HPG,
    name="Intel(R) Arc(TM) A770 Graphics",
    device_id=0x56A0,
    max_compute_units=512,
    gpu_eu_count=512,
    gpu_subslice_count=32,
    memory_clock_rate=2400,
    last_level_cache_size=16 * MIB,
    total_memory=15473 * MIB,
    architecture=0x030DC00800,
    uuid="8680a056-0800-0000-0300-000000000000",
)

# 8 Xe cores; 6 GB of 15.5 Gbit/s GDDR6 on 96 bit; 4 MiB of L2:
# https://www.intel.com/content/www/us/en/products/sku/227959/intel-arc-a380-graphics/specifications.html
# The visible memory is 15473/16384 of it, the share that torch shows of an A770's.
A380 = DeviceProfile(
    **_XE_HPG,
    name="Intel(R) Arc(TM) A380 Graphics",
    device_id=0x56A5,
    max_compute_units=128,
    gpu_eu_count=128,
    gpu_subslice_count=8,
    memory_clock_rate=2450,
    last_level_cache_size=4 * MIB,
    total_memory=5802 * MIB,
    architecture=0x030E000500,
    uuid="8680a556-0500-0000-0300-000000000000",
)

# 20 Xe2 cores of 8 vector engines; 12 GB of 19 Gbit/s GDDR6 on 192 bit; 18 MiB of L2:
# https://www.intel.com/content/www/us/en/products/sku/241598/intel-arc-b580-graphics/specifications.html
# 11.93 GiB of it is what torch's own out-of-memory message shows for this card.
B580 = DeviceProfile(
    **_XE2,
    name="Intel(R) Arc(TM) B580 Graphics",
    device_id=0xE20B,
    max_compute_units=160,
    gpu_eu_count=160,
    gpu_subslice_count=20,
    memory_clock_rate=2850,
    last_level_cache_size=18 * MIB,
    total_memory=12216 * MIB,
    architecture=0x0500400400,
    is_integrated_gpu=False,
    uuid="86800be2-0000-0000-0300-000000000000",
)

# 8 Xe2 cores; shares the host's memory. Named "Intel(R) Arc(TM) Graphics" or
# "Intel(R) Graphics [0x64a0]" by driver, and its free memory cannot be asked for:
# https://github.com/pytorch/pytorch/issues/159728
# https://www.intel.com/content/www/us/en/products/sku/240957/intel-core-ultra-7-processor-258v-12m-cache-up-to-4-80-ghz/specifications.html
# Of 32 GB the driver grants the GPU a little more than half.
LUNAR_LAKE = DeviceProfile(
    **_XE2,
    name="Intel(R) Arc(TM) Graphics",
    device_id=0x64A0,
    max_compute_units=64,
    gpu_eu_count=64,
    gpu_subslice_count=8,
    memory_clock_rate=1950,
    last_level_cache_size=8 * MIB,
    total_memory=18 * GIB,
    architecture=0x0501000400,
    is_integrated_gpu=True,
    uuid="8680a064-0400-0000-0002-000000000000",
)

# Ponte Vecchio, Xe-HPC. All from torch's listing of one:
# https://github.com/intel/torch-xpu-ops/issues/4117
MAX_1100 = DeviceProfile(
    **_XE2
    | {
        "name": "Intel(R) Data Center GPU Max 1100",
        "device_id": 0xBDA,
        "max_compute_units": 448,
        "gpu_eu_count": 448,
        "gpu_subslice_count": 56,
        "memory_clock_rate": 3200,
        "last_level_cache_size": 192 * MIB,
        "total_memory": 49136 * MIB,
        "architecture": 0x030F000700,
        "is_integrated_gpu": False,
        "uuid": "8680da0b-2f00-0000-1600-000000000000",
    },
)

PROFILES: dict[str, DeviceProfile] = {
    "a770": A770,
    "a380": A380,
    "b580": B580,
    "lunar_lake": LUNAR_LAKE,
    "max_1100": MAX_1100,
}


def profile_named(name: str) -> DeviceProfile:
    """Return the profile called `name`; raises KeyError naming the known ones."""
    try:
        return PROFILES[name]
    except KeyError:
        raise KeyError(f"No device profile {name!r}. There are: {', '.join(PROFILES)}.") from None
