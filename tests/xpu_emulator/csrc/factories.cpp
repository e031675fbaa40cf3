// Operators that make, describe or resize memory and compute nothing.
#include "aliases.h"
#include "allocator.h"
#include "device_check.h"

#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

namespace xpu_emulator {
namespace {

c10::DeviceIndex target(std::optional<at::Device> device, std::optional<bool> pin_memory) {
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
  const auto index = device && device->has_index() ? device->index() : current_device();
  check_device_index(index);
  return index;
}

void check_storable(at::ScalarType type, c10::DeviceIndex device) {
  if (!device_state(device).config.fp64_storage) {
    check_dtype(type, device);
  }
}

// Row-major strides, in elements.
c10::DimVector row_major_strides(at::IntArrayRef size) {
  c10::DimVector strides(size.size(), 1);
  for (size_t i = size.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * std::max<int64_t>(size[i], 1);
  }
  return strides;
}

constexpr c10::DispatchKeySet kXpu(c10::DispatchKey::XPU);

at::Tensor empty(
    at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
    std::optional<at::Device> device, std::optional<bool> pin_memory,
    std::optional<at::MemoryFormat> memory_format) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      c10::layout_or_default(layout) == at::kStrided, "The emulated XPU has strided tensors only.");
  const CurrentDevice guard(target(device, pin_memory));
  const auto type = c10::dtype_or_default(dtype);
  check_storable(type, current_device());
  return at::detail::empty_generic(size, device_allocator(), kXpu, type, memory_format);
}

at::Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool> pin_memory) {
  const CurrentDevice guard(target(device, pin_memory));
  const auto type = c10::dtype_or_default(dtype);
  check_storable(type, current_device());
  return at::detail::empty_strided_generic(size, stride, device_allocator(), kXpu, type);
}

// A gradient that is known to be zero: it has a shape and a device, and no memory.
at::Tensor efficient_zero_tensor(
    at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device> device, std::optional<bool> pin_memory) {
  const CurrentDevice guard(target(device, pin_memory));
  at::native::ZeroTensorAllocator allocator(at::Device(at::kXPU, current_device()));
  return at::detail::empty_generic(
      size, &allocator, kXpu.add(c10::DispatchKey::ZeroTensor), c10::dtype_or_default(dtype),
      std::nullopt);
}

// Grows the storage to `bytes`, keeping what is there.
void grow(const c10::Storage& storage, size_t bytes) {
  auto* impl = storage.unsafeGetStorageImpl();
  if (bytes <= impl->nbytes()) {
    return;
  }
  TORCH_CHECK(impl->resizable(), "Trying to resize storage that is not resizable");
  const CurrentDevice guard(storage.device().index());
  auto data = device_allocator()->allocate(bytes);
  if (impl->nbytes() != 0) {
    device_allocator()->copy_data(data.get(), impl->data(), impl->nbytes());
  }
  impl->set_data_ptr_noswap(std::move(data));
  impl->set_nbytes(bytes);
}

void grow_to_fit(const at::Tensor& self) {
  if (self.numel() == 0) {
    return;
  }
  const auto bytes = at::detail::computeStorageNbytes(
      self.sizes(), self.strides(), self.dtype().itemsize(), self.storage_offset());
  grow(self.storage(), bytes);
}

const at::Tensor& resize_(
    const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> memory_format) {
  check_alive(self.device().index());
  auto* impl = self.unsafeGetTensorImpl();
  if (self.sizes() != size) {
    impl->set_sizes_contiguous(size);
    grow_to_fit(self);
  }
  if (memory_format) {
    TORCH_CHECK(
        *memory_format != at::MemoryFormat::Preserve, "Unsupported memory format", *memory_format);
    impl->empty_tensor_restride(*memory_format);
  }
  return self;
}

at::Tensor& set_storage_offset(
    at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
    at::IntArrayRef stride) {
  TORCH_CHECK(
      self.device() == source.device(), "Attempted to set the storage of a tensor on device \"",
      self.device(), "\" to a storage on different device \"", source.device(),
      "\".  This is no longer allowed; the devices must match.");
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  const auto strides =
      stride.data() == nullptr ? row_major_strides(size) : c10::DimVector(stride);
  impl->set_sizes_and_strides(size, strides, offset);
  grow_to_fit(self);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source) {
  const auto length = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return set_storage_offset(self, std::move(source), 0, {length}, {1});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage_offset(
      self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

at::Tensor& set_empty(at::Tensor& self) {
  const CurrentDevice guard(self.device().index());
  c10::Storage empty(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), 0, device_allocator()->allocate(0), device_allocator(),
      /*resizable=*/true));
  return set_storage_offset(self, std::move(empty), 0, {0}, {1});
}

at::Tensor as_strided(
    const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride,
    std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

// All kernels are finished when they return, so no other stream is using `self`.
void record_stream(at::Tensor& self, at::Stream) {
  check_alive(self.device().index());
}

TORCH_LIBRARY_IMPL(aten, XPU, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("_efficientzerotensor", TORCH_FN(efficient_zero_tensor));
  library.impl("resize_", TORCH_FN(resize_));
  library.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage_offset));
  library.impl("set_.source_Storage", TORCH_FN(set_storage));
  library.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  library.impl("set_", TORCH_FN(set_empty));
  library.impl("as_strided", TORCH_FN(as_strided));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("record_stream", TORCH_FN(record_stream));
}

} // namespace
} // namespace xpu_emulator
