// What Python may call. The functions named xpu_* become torch._C._xpu_*.
#include "allocator.h"
#include "generator.h"
#include "hooks.h"
#include "host_memory.h"
#include "op_facts.h"
#include "streams.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/Generator.h>

namespace py = pybind11;

namespace xpu_emulator {
namespace {

py::dict stat_dict(const c10::CachingAllocator::Stat& stat) {
  py::dict result;
  result["current"] = stat.current;
  result["peak"] = stat.peak;
  result["allocated"] = stat.allocated;
  result["freed"] = stat.freed;
  return result;
}

py::dict stat_array_dict(const c10::CachingAllocator::StatArray& stats) {
  py::dict result;
  const char* const pools[] = {"all", "small_pool", "large_pool"};
  for (size_t i = 0; i < stats.size(); ++i) {
    result[pools[i]] = stat_dict(stats[i]);
  }
  return result;
}

py::dict memory_stats(c10::DeviceIndex device) {
  const auto stats = device_stats(device);
  py::dict result;
  result["num_alloc_retries"] = stats.num_alloc_retries;
  result["num_ooms"] = stats.num_ooms;
  result["num_device_alloc"] = stats.num_device_alloc;
  result["num_device_free"] = stats.num_device_free;
  result["max_split_size"] = stats.max_split_size;
  result["allocation"] = stat_array_dict(stats.allocation);
  result["segment"] = stat_array_dict(stats.segment);
  result["active"] = stat_array_dict(stats.active);
  result["inactive_split"] = stat_array_dict(stats.inactive_split);
  result["allocated_bytes"] = stat_array_dict(stats.allocated_bytes);
  result["reserved_bytes"] = stat_array_dict(stats.reserved_bytes);
  result["active_bytes"] = stat_array_dict(stats.active_bytes);
  result["inactive_split_bytes"] = stat_array_dict(stats.inactive_split_bytes);
  result["requested_bytes"] = stat_array_dict(stats.requested_bytes);
  return result;
}

py::list snapshot_segments() {
  py::list result;
  for (const auto& segment : memory_snapshot()) {
    py::list blocks;
    size_t allocated = 0;
    for (const auto& block : segment.blocks) {
      py::dict item;
      item["address"] = block.address;
      item["size"] = block.size;
      item["requested_size"] = block.requested;
      item["state"] = block.allocated ? "active_allocated" : "inactive";
      allocated += block.allocated ? block.size : 0;
      blocks.append(item);
    }
    py::dict item;
    item["device"] = static_cast<int>(segment.device);
    item["address"] = segment.address;
    item["total_size"] = segment.total_size;
    item["allocated_size"] = allocated;
    item["active_size"] = allocated;
    item["stream"] = segment.stream;
    item["segment_type"] = segment.is_large ? "large" : "small";
    item["blocks"] = blocks;
    result.append(item);
  }
  return result;
}

py::dict counters_dict(c10::DeviceIndex device) {
  const auto& counters = device_state(device).counters;
  py::dict result;
  result["kernels"] = counters.kernels.load();
  result["items"] = counters.items.load();
  result["synchronizes"] = counters.synchronizes.load();
  result["allocations"] = counters.allocations.load();
  result["ooms"] = counters.ooms.load();
  const char* const kinds[] = {"h2d", "d2h", "d2d", "peer"};
  for (size_t i = 0; i < kCopyKinds; ++i) {
    py::dict copy;
    copy["count"] = counters.copies[i].count.load();
    copy["bytes"] = counters.copies[i].bytes.load();
    copy["non_blocking"] = counters.copies[i].non_blocking.load();
    result[kinds[i]] = copy;
  }
  return result;
}

void set_failures(
    c10::DeviceIndex device, int64_t allocation_in, int64_t kernel_in, int64_t copy_in,
    std::string text) {
  auto& state = device_state(device);
  std::lock_guard<std::mutex> lock(config_mutex());
  state.fail_text = std::move(text);
  state.fail_allocation_in = allocation_in;
  state.fail_kernel_in = kernel_in;
  state.fail_copy_in = copy_in;
}

void set_options(bool async_copies, bool poison, bool fused_attention, bool rng_like_cpu) {
  options().async_copies = async_copies;
  options().poison = poison;
  options().fused_attention = fused_attention;
  options().rng_like_cpu = rng_like_cpu;
}

void bind_control(py::module& module) {
  py::enum_<OomStyle>(module, "OomStyle")
      .value("torch", OomStyle::kTorch)
      .value("out_of_device_memory", OomStyle::kOutOfDeviceMemory)
      .value("out_of_resources", OomStyle::kOutOfResources);
  py::class_<DeviceConfig>(module, "DeviceConfig")
      .def(py::init<>())
      .def_readwrite("name", &DeviceConfig::name)
      .def_readwrite("total_memory", &DeviceConfig::total_memory)
      .def_readwrite("external_memory", &DeviceConfig::external_memory)
      .def_readwrite("max_allocation", &DeviceConfig::max_allocation)
      .def_readwrite("has_fp64", &DeviceConfig::has_fp64)
      .def_readwrite("fp64_storage", &DeviceConfig::fp64_storage)
      .def_readwrite("oom_style", &DeviceConfig::oom_style)
      .def_readwrite("mem_get_info_raises", &DeviceConfig::mem_get_info_raises)
      .def_readwrite("mem_get_info_free", &DeviceConfig::mem_get_info_free);
  module.attr("max_devices") = static_cast<int>(kMaxDevices);
  module.def("register_hooks", &register_hooks);
  module.def("set_device_count", &set_device_count);
  module.def("configure", [](c10::DeviceIndex device, const DeviceConfig& config) {
    device_state(device).config = config;
  });
  module.def("set_options", &set_options);
  module.def("set_failures", &set_failures);
  module.def("set_lost", [](c10::DeviceIndex device, bool lost) {
    device_state(device).lost = lost;
  });
  module.def("set_unchecked_ops", &set_unchecked_ops);
  module.def("set_denied_ops", &set_denied_ops);
  module.def("counters", &counters_dict);
  module.def("op_calls", &op_calls);
  module.def("reset_counters", [](c10::DeviceIndex device) {
    device_state(device).counters.reset();
  });
  module.def("reset_op_calls", &reset_op_calls);
  module.def("reset_memory", &reset_memory);
  module.def("carry_out_all_copies", &carry_out_all_copies);
}

void bind_torch_xpu(py::module& module) {
  module.def("xpu_getDeviceCount", [] { return static_cast<int>(device_count()); });
  module.def("xpu_getDevice", [] { return static_cast<int>(current_device()); });
  module.def("xpu_setDevice", [](int device) {
    check_device_index(static_cast<c10::DeviceIndex>(device));
    exchange_device(static_cast<c10::DeviceIndex>(device));
  });
  const auto exchange = [](int device) {
    if (device < 0) {
      return -1;
    }
    check_device_index(static_cast<c10::DeviceIndex>(device));
    return static_cast<int>(exchange_device(static_cast<c10::DeviceIndex>(device)));
  };
  module.def("xpu_exchangeDevice", exchange);
  module.def("xpu_maybeExchangeDevice", exchange);
  module.def("xpu_synchronize", &finish_device, py::call_guard<py::gil_scoped_release>());
  module.def("xpu_emptyCache", &empty_cache);
  module.def("xpu_memoryStats", &memory_stats);
  module.def("xpu_resetPeakMemoryStats", &reset_peak_stats);
  module.def("xpu_resetAccumulatedMemoryStats", &reset_accumulated_stats);
  module.def("xpu_getMemoryInfo", &memory_info);
  module.def("xpu_getMemoryFraction", &memory_fraction);
  module.def("xpu_setMemoryFraction", &set_memory_fraction);
  module.def("snapshot_segments", &snapshot_segments);
  module.def("current_stream_id", &current_stream_id);
  module.def("exchange_stream_id", &exchange_stream_id);
  module.def("default_generator", [](c10::DeviceIndex device) {
    return py::reinterpret_steal<py::object>(
        THPGenerator_initDefaultGenerator(default_generator(device)));
  });
  module.def("elapsed_ms", [](uintptr_t start, uintptr_t end) {
    TORCH_CHECK(
        start != 0 && end != 0, "Both events must be recorded before calculating elapsed time.");
    return elapsed_ms(*reinterpret_cast<Event*>(start), *reinterpret_cast<Event*>(end));
  });
}

} // namespace
} // namespace xpu_emulator

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  // pybind11 alone would append a C++ backtrace to the message.
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) {
        std::rethrow_exception(pointer);
      }
    } catch (const c10::Error& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what_without_backtrace());
    }
  });
  xpu_emulator::register_device_allocator();
  xpu_emulator::register_host_allocator();
  xpu_emulator::bind_control(module);
  xpu_emulator::bind_torch_xpu(module);
}
