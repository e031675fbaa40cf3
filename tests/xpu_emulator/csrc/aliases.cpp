#include "aliases.h"

#include "allocator.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>

namespace xpu_emulator {
namespace {

c10::Storage alias_storage(const c10::Storage& original) {
  auto* impl = original.unsafeGetStorageImpl();
  void* data = impl->mutable_data();
  c10::raw::intrusive_ptr::incref(impl);
  c10::DataPtr pointer(
      data, impl, [](void* owner) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(owner)); },
      c10::Device(c10::kCPU));
  // Resizable, so that a kernel may grow its out= argument: see follow_resize.
  return c10::Storage(
      c10::make_intrusive<c10::StorageImpl>(
          c10::StorageImpl::use_byte_size_t(), impl->nbytes(), std::move(pointer),
          c10::GetCPUAllocator(), /*resizable=*/true));
}

at::Tensor tensor_over(c10::Storage storage, const at::Tensor& shape, c10::DispatchKey key) {
  auto result = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key), shape.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(
      shape.sizes(), shape.strides(), shape.storage_offset());
  return result;
}

at::Tensor alias_over(const c10::Storage& storage, const at::Tensor& tensor) {
  auto alias = tensor_over(storage, tensor, c10::DispatchKey::CPU);
  if (C10_UNLIKELY(tensor.is_conj())) {
    alias._set_conj(true);
  }
  if (C10_UNLIKELY(tensor.is_neg())) {
    alias._set_neg(true);
  }
  return alias;
}

void check_dense(const at::Tensor& tensor) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      tensor.layout() == at::kStrided && !tensor.is_quantized(),
      "The emulated XPU has dense, strided tensors only, not ", tensor.layout(), ".");
}

bool is_half(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

} // namespace

at::Tensor cpu_alias(const at::Tensor& tensor) {
  if (!tensor.is_xpu() && !tensor.is_cpu()) {
    return tensor; // a real card's: copying from and to the CPU is its own business
  }
  check_dense(tensor);
  return alias_over(alias_storage(tensor.storage()), tensor);
}

AliasScope::SharedStorage& AliasScope::storage_of(const at::Tensor& tensor) {
  const auto& storage = tensor.storage();
  auto* impl = storage.unsafeGetStorageImpl();
  for (auto& shared : storages_) {
    if (shared.original == impl) {
      return shared;
    }
  }
  auto cpu = alias_storage(storage);
  void* data = cpu.mutable_data();
  storages_.push_back({impl, std::move(cpu), data});
  return storages_.back();
}

at::Tensor AliasScope::to_cpu(const at::Tensor& tensor, bool written) {
  if (!tensor.defined() || !tensor.is_xpu()) {
    return tensor;
  }
  for (auto& entry : entries_) {
    if (entry.original.is_same(tensor)) {
      entry.written = entry.written || written;
      return entry.cpu;
    }
  }
  check_dense(tensor);
  auto cpu = alias_over(storage_of(tensor).cpu, tensor);
  entries_.push_back({tensor, cpu, {}, written});
  return cpu;
}

bool AliasScope::has_half() const {
  bool any = false;
  for (const auto& entry : entries_) {
    const auto type = entry.cpu.scalar_type();
    if (at::isFloatingType(type) && !is_half(type)) {
      return false; // mixed: let the kernel object to it, or not
    }
    any = any || is_half(type);
  }
  return any;
}

void AliasScope::compute_in_float() {
  for (auto& entry : entries_) {
    if (is_half(entry.cpu.scalar_type())) {
      narrow_ = entry.cpu.scalar_type();
      entry.wide = entry.cpu.to(at::kFloat);
    }
  }
}

at::Tensor AliasScope::operand(const at::Tensor& cpu) const {
  for (const auto& entry : entries_) {
    if (entry.wide.defined() && entry.cpu.is_same(cpu)) {
      return entry.wide;
    }
  }
  return cpu;
}

void AliasScope::finish() {
  for (auto& entry : entries_) {
    if (!entry.written) {
      continue;
    }
    if (entry.wide.defined()) {
      if (entry.cpu.sizes() != entry.wide.sizes()) {
        entry.cpu.resize_(entry.wide.sizes());
      }
      entry.cpu.copy_(entry.wide);
    }
    follow_resize(entry);
  }
}

void AliasScope::follow_resize(Entry& entry) {
  auto& shared = storage_of(entry.original);
  TORCH_INTERNAL_ASSERT(
      entry.cpu.storage().unsafeGetStorageImpl() == shared.cpu.unsafeGetStorageImpl(),
      "A kernel gave its output another storage, which the emulated XPU cannot follow.");
  if (C10_UNLIKELY(shared.cpu.mutable_data() != shared.data)) {
    const CurrentDevice device(entry.original.device().index());
    auto* impl = shared.original;
    impl->set_data_ptr_noswap(adopt(shared.cpu, entry.original.device().index()));
    impl->set_nbytes(shared.cpu.nbytes());
    shared.data = shared.cpu.mutable_data();
  }
  const auto* original = entry.original.unsafeGetTensorImpl();
  if (C10_UNLIKELY(
          original->sizes() != entry.cpu.sizes() || original->strides() != entry.cpu.strides())) {
    entry.original.unsafeGetTensorImpl()->set_sizes_and_strides(
        entry.cpu.sizes(), entry.cpu.strides(), entry.cpu.storage_offset());
  }
}

at::Tensor AliasScope::to_device(const at::Tensor& answer) {
  if (!answer.defined() || answer.is_xpu()) {
    return answer;
  }
  for (const auto& entry : entries_) {
    if (entry.cpu.is_same(answer) || entry.wide.is_same(answer)) {
      return entry.original;
    }
  }
  check_dense(answer);
  TORCH_INTERNAL_ASSERT(
      answer.numel() == 0 || answer.storage().data() != nullptr,
      "A kernel returned a tensor without memory, which the emulated XPU cannot adopt.");
  auto* storage = answer.storage().unsafeGetStorageImpl();
  for (const auto& shared : storages_) {
    if (shared.cpu.unsafeGetStorageImpl() == storage) {
      auto original = c10::Storage(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(shared.original));
      return tensor_over(std::move(original), answer, c10::DispatchKey::XPU);
    }
  }
  const auto narrow = narrow_ != at::ScalarType::Undefined && answer.scalar_type() == at::kFloat
      ? answer.to(narrow_)
      : answer;
  const auto& config = device_state(device_).config;
  if (C10_UNLIKELY(!config.has_fp64) &&
      (narrow.scalar_type() == at::kDouble || narrow.scalar_type() == at::kComplexDouble)) {
    raise_missing_fp64();
  }
  storage = narrow.storage().unsafeGetStorageImpl();
  for (const auto& [cpu, device] : adopted_) {
    if (cpu == storage) {
      return tensor_over(device, narrow, c10::DispatchKey::XPU);
    }
  }
  c10::Storage adopted(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), narrow.storage().nbytes(),
      adopt(narrow.storage(), device_), device_allocator(), /*resizable=*/true));
  adopted_.push_back({storage, adopted});
  return tensor_over(std::move(adopted), narrow, c10::DispatchKey::XPU);
}

} // namespace xpu_emulator
